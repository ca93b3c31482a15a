"""The plugin manager: collects what the plugin itself and third parties register, and says who did."""

import inspect
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

import pluggy

from . import hookspecs
from .errors import FcitError, nearest
from .parts import KINDS, Part, as_part

#: The entry point of our own parts.
BUILTIN = "builtin"


@cache
def manager() -> pluggy.PluginManager:
    """The manager with all installed implementations of the entry point group ``fcit_plugin``.

    Our own parts (:mod:`fcit_plugin.builtin`) come in by that door, too, so that nothing here imports them.

    Raises:
        FcitError: A package cannot be imported, or implements a hook that does not exist.
        ImportError: Our own parts are not among the installed ones: the package was installed before it had that entry point.
    """
    made = pluggy.PluginManager(hookspecs.PROJECT)
    made.add_hookspecs(hookspecs)
    for entry in sorted(entry_points(group=hookspecs.PROJECT), key=lambda entry: (entry.name != BUILTIN, entry.name)):
        if not made.has_plugin(entry.name):
            made.register(_load(entry), name=entry.name)
    if not made.has_plugin(BUILTIN):
        raise ImportError("fcit-plugin is installed without its entry points; install it again with `pip install`.")
    for name, plugin in made.list_name_plugin():
        _check_hooks(name, plugin)
    return made


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # whatever a stranger's module raises, who it was is what helps
        raise FcitError(
            f"The plugin `{entry.name}` of {source(entry.name)} cannot be imported: {_what(error)}; fix or uninstall it."
        ) from error


def _check_hooks(name: str, plugin: Any) -> None:
    """Refuse functions with the mark of a hook, or a name like one, that no hook has: they would never be called.

    Raises:
        FcitError: The sentence names the package, the function, its place and the nearest hook.
    """
    hooks = [hook for hook in vars(hookspecs) if hook.startswith("fcit_")]
    for found in dir(plugin):
        function = getattr(plugin, found, None)
        marked = found.startswith("fcit_") or hasattr(function, f"{hookspecs.PROJECT}_impl")
        if callable(function) and marked and found not in hooks and not isinstance(function, type):
            code = inspect.unwrap(function).__code__
            raise FcitError(
                f"The plugin `{name}` of {source(name)} has a function `{found}` ({code.co_filename}:{code.co_firstlineno}), "
                f"which is not a hook; {nearest(found, hooks)}"
            )


@cache
def registry(kind: str) -> dict[str, Part]:
    """Everything registered of one kind, by name, our own parts first.

    Args:
        kind: One of :data:`fcit_plugin.parts.KINDS`.

    Raises:
        FcitError: Two plugins register the same name, or a hook fails.
    """
    found: dict[str, Part] = {}
    for implementation in getattr(manager().hook, f"fcit_{kind}").get_hookimpls():
        package = source(implementation.plugin_name)
        for name, registered in _ask(implementation.function, kind, package).items():
            if name in found:
                raise FcitError(f"Two plugins register {name!r} among the {kind.replace('_', ' ')}; uninstall one.")
            found[name] = replace(as_part(kind, registered), name=name, package=package)
    return found


def _ask(hook: Any, kind: str, package: str) -> Mapping[str, Any]:
    try:
        given = hook()
    except Exception as error:
        if package == source(BUILTIN):
            raise
        raise FcitError(f"The hook `fcit_{kind}` of {package} failed: {_what(error)}; fix or uninstall it.") from error
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise FcitError(f"The hook `fcit_{kind}` of {package} returned {given!r}; it returns parts by name.")
    return given


def blame(error: BaseException) -> str | None:
    """Who is to be asked about an error that was raised in the code of a third party's plugin.

    Returns:
        A sentence with the package, the file and the line; None where no plugin's code took part.
    """
    packages = {_module(plugin).partition(".")[0]: name for name, plugin in _others()}
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        name = packages.get(str(frame.f_globals.get("__name__")).partition(".")[0])
        if name is not None:
            where = f"{frame.f_code.co_filename}:{line}"
            return f"The plugin `{name}` of {source(name)} failed at {where} with {type(error).__name__}: {error}."
    return None


def _others() -> Iterator[tuple[str, Any]]:
    return ((name, plugin) for name, plugin in manager().list_name_plugin() if name != BUILTIN and plugin is not None)


def _module(plugin: Any) -> str:
    return plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__module__


@cache
def source(name: str) -> str:
    """The package of a registered plugin, with its version; the plugin's name where it is not from a package."""
    (dist,) = {entry.dist for entry in entry_points(group=hookspecs.PROJECT, name=name)} or {None}
    return f"{dist.name} {dist.version}" if dist is not None else name


def _what(error: BaseException) -> str:
    """An error with the place that it was raised at."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


__all__ = ["BUILTIN", "KINDS", "blame", "manager", "registry", "source"]
