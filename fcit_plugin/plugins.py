"""The plugin manager: collects what the plugin itself and third parties register."""

from collections.abc import Callable
from functools import cache

import pluggy

from . import hookspecs
from .errors import FcitError

#: Kinds of things that can be registered; the hook of a kind is ``fcit_<kind>``.
KINDS = ("partitioners", "methods", "server_rules", "lora_aggregations", "identity_encoders", "metrics")


@cache
def manager() -> pluggy.PluginManager:
    """The manager with all installed implementations of the entry point group ``fcit_plugin``.

    Our own parts (:mod:`fcit_plugin.builtin`) come in by that door, too, so that nothing here imports them.

    Raises:
        ImportError: They are not among the installed ones: the package was installed before it had that entry point.
    """
    made = pluggy.PluginManager(hookspecs.PROJECT)
    made.add_hookspecs(hookspecs)
    made.load_setuptools_entrypoints(hookspecs.PROJECT)
    if not made.has_plugin("builtin"):
        raise ImportError("fcit-plugin is installed without its entry points; install it again with `pip install`.")
    return made


@cache
def registry(kind: str) -> dict[str, Callable]:
    """Everything registered of one kind, by name.

    Args:
        kind: One of :data:`KINDS`.

    Raises:
        FcitError: Two plugins register the same name.
    """
    found: dict[str, Callable] = {}
    for part in reversed(getattr(manager().hook, f"fcit_{kind}")()):  # pluggy calls the latest first
        for name in part:
            if name in found:
                raise FcitError(f"Two plugins register {name!r} among the {kind.replace('_', ' ')}; uninstall one.")
        found.update(part)
    return found
