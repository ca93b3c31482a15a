"""What this package registers: a continual method and a server rule, each with keys of its own.

It is read whenever a recipe is checked, so it imports neither torch nor Flower; the classes are named as text.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fcit_plugin.arguments.option import Options, option
from fcit_plugin.hookspecs import hookimpl
from fcit_plugin.parts import Part, ServerRule

_WHOLE = "adds to gradients, which must be whole and not scaled"


@dataclass
class MasOptions(Options):
    """Keys of ``fcit_method: mas``."""

    fcit_mas_lambda: float = option(0.001, "Strength with which MAS holds weights that the outputs depend on.", above=0)
    fcit_mas_samples: int = option(64, "Records on which a client measures that.", least=1)


@dataclass
class ClippedMeanOptions(Options):
    """Key of ``fcit_server_rule: clipped_mean``."""

    fcit_clip_quantile: float = option(0.5, "Share of the updates that shall pass unclipped.", above=0, below=1)


@hookimpl
def fcit_methods() -> Mapping[str, Part]:
    """The values that ``fcit_method`` takes beside the plugin's own."""
    refused = {
        "deepspeed": _WHOLE,
        "fp16": _WHOLE,
        "packing": "measures record by record",
        "fcit_local_stage": "measures what the model answers",
        "fcit_dp_clipping_norm": "has clients send more than their clipped update",
    }
    return {"mas": Part("fcit_mas.method:Mas", MasOptions, refused)}


@hookimpl
def fcit_server_rules() -> Mapping[str, Part]:
    """The values that ``fcit_server_rule`` takes beside the plugin's own."""
    return {"clipped_mean": ServerRule("fcit_mas.rule:clipped_mean", ClippedMeanOptions)}
