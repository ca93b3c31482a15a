"""Keys and limits of C-LoRA; no torch, for recipes are checked with it."""

from dataclasses import dataclass

from ...arguments.option import Options, option
from ...parts import Part
from ..limits import SINGLE_LAYERS, WHOLE_GRADIENTS


@dataclass
class CLoraOptions(Options):
    """Keys of ``fcit_method: c_lora``."""

    fcit_c_lora_lambda: float = option(
        1e6, "Strength with which C-LoRA holds weights that the LoRAs of earlier stages have changed.", above=0
    )


C_LORA = Part(
    "fcit_plugin.continual.c_lora.method:CLora",
    CLoraOptions,
    {
        "deepspeed": WHOLE_GRADIENTS,
        "fp16": WHOLE_GRADIENTS,
        "fcit_target_parameters": SINGLE_LAYERS,
        "fcit_local_stage": "keeps earlier subspaces acting, which the reference model lacks",
    },
)
