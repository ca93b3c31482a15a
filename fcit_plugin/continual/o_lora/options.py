"""Keys and limits of O-LoRA; no torch, for recipes are checked with it."""

from dataclasses import dataclass

from ...arguments.option import Options, option
from ...parts import Part
from ..limits import STAGE_LORAS


@dataclass
class OLoraOptions(Options):
    """Keys of ``fcit_method: o_lora``."""

    fcit_o_lora_lambda: float = option(
        0.5, "Weight of the term that keeps a stage's LoRA orthogonal to those of earlier stages.", above=0
    )


O_LORA = Part("fcit_plugin.continual.o_lora.method:OLora", OLoraOptions, STAGE_LORAS)
