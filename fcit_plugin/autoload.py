"""How the plugin reaches LLaMA-Factory: the entry point that ``import torch`` calls.

LLaMA-Factory has no plugin mechanism. PyTorch (2.5 and later) calls every entry point of the group
``torch.backends`` at the end of ``import torch``, and each way into LLaMA-Factory (CLI, torchrun child,
Ray worker) imports torch before the modules we hook. See
https://docs.pytorch.org/tutorials/unstable/python_extension_autoload.html
"""

import logging
import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

import wrapt

logger = logging.getLogger(__name__)

#: LLaMA-Factory module -> our module whose ``install(module)`` puts the seam in. Ours is imported only
#: when LLaMA-Factory's is, so that ``import torch`` alone stays cheap.
SEAMS = {
    "llamafactory.launcher": "fcit_plugin.seams.launcher",
    "llamafactory.v1.launcher": "fcit_plugin.seams.launcher",
    "llamafactory.hparams.parser": "fcit_plugin.seams.parser",
    "llamafactory.train.sft.workflow": "fcit_plugin.seams.workflow",
    "llamafactory.train.dpo.workflow": "fcit_plugin.seams.workflow",
    "llamafactory.train.kto.workflow": "fcit_plugin.seams.workflow",
    "llamafactory.data.parser": "fcit_plugin.seams.dataset_list",
    "llamafactory.data.template": "fcit_plugin.seams.template",
    "llamafactory.data.loader": "fcit_plugin.seams.loader",
    "llamafactory.model.model_utils.quantization": "fcit_plugin.seams.quantization",
    "llamafactory.model.adapter": "fcit_plugin.seams.adapter",
    "llamafactory.chat.hf_engine": "fcit_plugin.seams.hf_engine",
    "llamafactory.chat.chat_model": "fcit_plugin.seams.chat_model",
    "llamafactory.api.protocol": "fcit_plugin.seams.protocol",
    "llamafactory.api.chat": "fcit_plugin.seams.chat",
    "llamafactory.webui.control": "fcit_plugin.seams.control",
    "llamafactory.webui.chatter": "fcit_plugin.seams.chatter",
    "llamafactory.webui.components.train": "fcit_plugin.seams.components",
    "llamafactory.webui.components.footer": "fcit_plugin.seams.components",
}

#: Seams that could not be put in: LLaMA-Factory module -> what went wrong. An fcit recipe is refused then.
FAILED: dict[str, str] = {}

_registered = False
_RECIPE = (".yaml", ".yml")


def autoload() -> None:
    """Register the post-import hooks, once per process. Never raises."""
    global _registered
    if _registered:
        return
    _registered = True
    for target, seam in SEAMS.items():
        _once_imported(target, _installer(seam))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and any("fcit" in part or part.endswith(_RECIPE) for part in sys.argv[1:]):
        _leave_world(sys.argv[1:])


class _Awaited(ModuleSpec):
    """The specification of a module that is being imported just now: it calls back once that is done.

    Where such a module is the first that imports torch, the hook would be called at once, with a module whose functions are
    still to come: ``from llamafactory.chat import ChatModel`` in a Python script is enough.
    """

    then: Callable[[ModuleType], None]

    @property
    def _initializing(self) -> bool:
        return bool(vars(self).get("_initializing"))

    @_initializing.setter
    def _initializing(self, value: bool) -> None:
        vars(self)["_initializing"] = value
        if not value:  # a module whose import has failed is not there, and awaited again
            wrapt.register_post_import_hook(self.then, self.name)


def _once_imported(target: str, then: Callable[[ModuleType], None]) -> None:
    """Call back with a module of LLaMA-Factory's, once it is whole."""
    spec = getattr(sys.modules.get(target), "__spec__", None)
    if type(spec) is ModuleSpec and getattr(spec, "_initializing", False):
        spec.__class__ = _Awaited
        spec.then = then  # type: ignore[attr-defined]  # it is one that waits, now
    else:
        wrapt.register_post_import_hook(then, target)


def _leave_world(command_line: list[str]) -> None:
    """Let a process of torchrun's train clients of its own, if that is what its recipe comes to."""
    try:
        import_module("fcit_plugin.recipe.world").leave_world(command_line)
    except Exception as error:  # as with a seam
        FAILED["torchrun"] = f"{type(error).__name__}: {error}"


def _installer(seam: str):
    def install(module) -> None:
        # A failing seam must not take LLaMA-Factory down with it, whatever the cause:
        # people without an fcit recipe have to be able to work on.
        try:
            import_module(seam).install(module)
        except Exception as error:
            if not FAILED:  # one warning is enough, the causes are mostly one
                logger.warning(
                    "fcit-plugin stays out of LLaMA-Factory, whose version it may not support: %s: %s: %s",
                    module.__name__,
                    type(error).__name__,
                    error,
                )
            FAILED[module.__name__] = f"{type(error).__name__}: {error}"

    return install


def check_seams() -> None:
    """Refuse an fcit recipe where a seam is missing: it would silently run as plain fine-tuning.

    Raises:
        FcitError: A seam could not be put in.
    """
    from .errors import FcitError  # only now: each `import torch` pays for what this module imports

    for module, error in FAILED.items():
        raise FcitError(f"This version of LLaMA-Factory cannot be used with fcit keys: {module} does not fit ({error}).")
