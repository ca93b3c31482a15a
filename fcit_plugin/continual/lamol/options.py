"""Keys and limits of LAMOL; no torch, for recipes are checked with it."""

from dataclasses import dataclass

from ...arguments.option import Options, option
from ...parts import Part


@dataclass
class LamolOptions(Options):
    """Keys of ``fcit_method: lamol``."""

    fcit_lamol_gamma: float = option(0.2, "Made-up records of earlier tasks, for each one that a client has.", above=0)
    fcit_lamol_lambda: float = option(
        0.25, "Weight of the loss of whole records, which teaches the model to make some up.", above=0
    )
    fcit_lamol_top_k: int = option(20, "How many tokens each one of a made-up instruction is drawn from.", least=1)
    fcit_lamol_max_tokens: int = option(128, "Tokens of a made-up instruction at most.", least=1)


LAMOL = Part(
    "fcit_plugin.continual.lamol.method:Lamol",
    LamolOptions,
    {
        "deepspeed_zero3": "asks the model for records before it trains, with weights that ZeRO-3 divides among the processes",
        "packing": "trains on made-up records, whose lengths are not known before",
        "fcit_local_stage": "takes the model's logits for whole records",
    },
)
