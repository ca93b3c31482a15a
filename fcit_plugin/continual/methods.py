"""The continual methods that are there, by the name that ``fcit_method`` takes; no torch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..arguments.method import SEQUENTIAL
from ..parts import Part
from .a_gem.options import A_GEM
from .c_lora.options import C_LORA
from .disco.options import DISCO, DISCO_PLUS
from .ewc.options import EWC
from .lamol.options import LAMOL
from .lwf.options import LWF
from .moe_lora.options import MOE_LORA
from .o_lora.options import O_LORA
from .replay.options import REPLAY
from .ties_merging.options import TIES_MERGING

if TYPE_CHECKING:
    from ..arguments import FcitArguments
    from .method import ContinualMethod

METHODS: Mapping[str, Part] = {
    "disco": DISCO,
    "disco_plus": DISCO_PLUS,
    "disco_own_projector": Part("fcit_plugin.continual.disco.trial:DiscoOwnProjector"),
    "disco_moments": Part("fcit_plugin.continual.disco.trial:DiscoMoments"),
    "disco_block_moments": Part("fcit_plugin.continual.disco.trial:DiscoBlockMoments"),
    "disco_pull": Part("fcit_plugin.continual.disco.trial:DiscoPull"),
    SEQUENTIAL: Part("fcit_plugin.continual.sequential:Sequential"),
    "ewc": EWC,
    "lwf": LWF,
    "o_lora": O_LORA,
    "moe_lora": MOE_LORA,
    "replay": REPLAY,
    "ties_merging": TIES_MERGING,
    "a_gem": A_GEM,
    "lamol": LAMOL,
    "c_lora": C_LORA,
}


def make_method(args: "FcitArguments") -> "ContinualMethod[Any]":
    """The method of a recipe."""
    method: ContinualMethod[Any] = args.part("methods").load()(args)
    return method
