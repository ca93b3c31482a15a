"""The plugin manager: collects what the plugin itself and third parties register."""

from collections.abc import Callable
from functools import cache

import pluggy

from . import hookspecs

#: Kinds of things that can be registered; the hook of a kind is ``fcit_<kind>``.
KINDS = ("partitioners", "methods", "server_rules", "lora_aggregations", "identity_encoders", "metrics")


@cache
def manager() -> pluggy.PluginManager:
    """The manager with our own implementations and all installed ones of the entry point group ``fcit_plugin``."""
    from . import builtin

    made = pluggy.PluginManager(hookspecs.PROJECT)
    made.add_hookspecs(hookspecs)
    made.register(builtin)
    made.load_setuptools_entrypoints(hookspecs.PROJECT)
    return made


@cache
def registry(kind: str) -> dict[str, Callable]:
    """Everything registered of one kind, by name.

    Args:
        kind: One of :data:`KINDS`.

    Raises:
        ValueError: Two plugins register the same name.
    """
    found: dict[str, Callable] = {}
    for part in reversed(getattr(manager().hook, f"fcit_{kind}")()):  # pluggy calls the latest first
        for name in part:
            if name in found:
                raise ValueError(f"Two plugins register {name!r} among the {kind.replace('_', ' ')}; uninstall one.")
        found.update(part)
    return found
