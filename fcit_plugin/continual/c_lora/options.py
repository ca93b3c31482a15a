"""Keys and limits of C-LoRA; no torch, for recipes are checked with it."""

from dataclasses import dataclass

from ...arguments.option import Options, option
from ...parts import Part
from ..limits import STAGE_LORAS


@dataclass
class CLoraOptions(Options):
    """Keys of ``fcit_method: c_lora``."""

    fcit_c_lora_lambda: float = option(
        1e6,
        "Strength with which C-LoRA holds weights that the LoRAs of earlier stages have changed; the default was not tuned.",
        above=0,
    )


C_LORA = Part("fcit_plugin.continual.c_lora.method:CLora", CLoraOptions, STAGE_LORAS)
