"""Keys and limits of A-GEM; no torch, for recipes are checked with it."""

from dataclasses import dataclass

from ...arguments.option import Options, option
from ...parts import Part
from ..limits import WHOLE_GRADIENTS


@dataclass
class AGemOptions(Options):
    """Keys of ``fcit_method: a_gem``."""

    fcit_a_gem_samples: int = option(10, "Records of each task that a client keeps, for A-GEM's reference gradient.", least=1)
    fcit_a_gem_batch_size: int = option(
        8, "Records, of those that were kept, whose gradient A-GEM takes before each step.", least=1
    )


A_GEM = Part(
    "fcit_plugin.continual.a_gem.method:AGem",
    AGemOptions,
    {
        "deepspeed": WHOLE_GRADIENTS,
        "fp16": WHOLE_GRADIENTS,
        "fcit_local_stage": "takes the loss of single batches, which these trainers count among those of the training",
    },
)
