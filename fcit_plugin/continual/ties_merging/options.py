"""Keys of TIES merging; no torch, for recipes are checked with it."""

from dataclasses import dataclass

from ...arguments.option import Options, option
from ...parts import Part


@dataclass
class TiesMergingOptions(Options):
    """Keys of ``fcit_method: ties_merging``."""

    fcit_ties_density: float = option(
        0.2, "Share of the numbers of a stage's change that TIES merging keeps, the largest.", above=0, below=1
    )
    fcit_ties_lambda: float = option(1.0, "What TIES merging scales the merged change by.", above=0)


TIES_MERGING = Part("fcit_plugin.continual.ties_merging.method:TiesMerging", TiesMergingOptions)
