"""The continual methods that are there, by the name that ``fcit_method`` takes."""

from typing import TYPE_CHECKING

from ..plugins import registry
from .disco import Disco, DiscoPlus
from .ewc import Ewc
from .lwf import Lwf
from .method import ContinualMethod
from .moe_lora import MoeLora
from .o_lora import OLora
from .replay import Replay

if TYPE_CHECKING:
    from ..arguments import FcitArguments

METHODS: dict[str, type[ContinualMethod]] = {
    "disco": Disco,
    "disco_plus": DiscoPlus,
    "fedavg": ContinualMethod,
    "ewc": Ewc,
    "lwf": Lwf,
    "o_lora": OLora,
    "moe_lora": MoeLora,
    "replay": Replay,
}


def make_method(args: "FcitArguments") -> ContinualMethod:
    """The method of a recipe."""
    return registry("methods")[args.fcit_method](args)
