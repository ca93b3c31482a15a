"""Keys and limits of LwF; no torch, for recipes are checked with it."""

from dataclasses import dataclass

from ...arguments.option import Options, option
from ...parts import Part


@dataclass
class LwfOptions(Options):
    """Keys of ``fcit_method: lwf``."""

    fcit_lwf_alpha: float = option(1.0, "Weight of the distillation from the stage's start.", above=0)
    fcit_lwf_temperature: float = option(2.0, "Temperature of the distillation.", above=0)


LWF = Part(
    "fcit_plugin.continual.lwf.method:Lwf",
    LwfOptions,
    {
        "deepspeed": "runs the model with the weights of the stage's start too, which an engine would not gather",
        "fcit_local_stage": "takes the model's logits for the answers",
    },
)
