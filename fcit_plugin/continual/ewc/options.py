"""Keys and limits of EWC; no torch, for recipes are checked with it."""

from dataclasses import dataclass

from ...arguments.option import Options, option
from ...parts import Part
from ..limits import WHOLE_GRADIENTS


@dataclass
class EwcOptions(Options):
    """Keys of ``fcit_method: ewc``."""

    fcit_ewc_lambda: float = option(1000.0, "Strength with which EWC holds weights that mattered for earlier stages.", above=0)
    fcit_ewc_samples: int = option(64, "Records on which a client measures how much its weights matter.", least=1)


EWC = Part(
    "fcit_plugin.continual.ewc.method:Ewc",
    EwcOptions,
    {
        "deepspeed": WHOLE_GRADIENTS,
        "fp16": WHOLE_GRADIENTS,
        "packing": "measures record by record",
        "fcit_local_stage": "measures how likely the answers are",
        "fcit_dp_clipping_norm": "has clients send more than their clipped update",
    },
)
