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
from .errors import FcitError, nearest, one_line, with_place
from .parts import KINDS, Part, ServerRule, as_part

#: The entry point of our own parts.
BUILTIN = "builtin"
_EXAMPLE = '{"fp16": "adds to gradients, which must not be scaled"}'


@cache
def manager() -> pluggy.PluginManager:
    """The manager with all installed implementations of the entry point group ``fcit_plugin``.

    Our own parts (:mod:`fcit_plugin.builtin`) come in by that door, too, so that nothing here imports them.

    Raises:
        FcitError: A package cannot be imported, is not what a plugin is, or has the name of another one.
        ImportError: Our own parts are not among the installed ones: the package was installed before it had that entry point.
    """
    made = pluggy.PluginManager(hookspecs.PROJECT)
    made.add_hookspecs(hookspecs)
    for entry in sorted(entry_points(group=hookspecs.PROJECT), key=lambda entry: (entry.name != BUILTIN, entry.name)):
        if made.has_plugin(entry.name):
            raise FcitError(f"Two packages name a plugin `{entry.name}`: {source(entry.name)}; uninstall one of them.")
        plugin = _load(entry)
        _check_hooks(entry.name, plugin)
        try:
            made.register(plugin, name=entry.name)
        except (ValueError, pluggy.PluginValidationError) as error:
            raise FcitError(f"{_plugin(entry.name)} cannot be registered: {one_line(error)}") from error
    if not made.has_plugin(BUILTIN):
        raise ImportError("fcit-plugin is installed without its entry points; install it again with `pip install`.")
    return made


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # whatever a stranger's module raises, who it was is what helps
        raise FcitError(f"{_plugin(entry.name)} cannot be imported: {with_place(error)}; fix or uninstall it.") from error


def _check_hooks(name: str, plugin: Any) -> None:
    """Refuse functions that look like a hook and would never be called: of a name that no hook has, or without the mark.

    Raises:
        FcitError: The sentence names the package, the function, its place and the nearest hook.
    """
    hooks = [hook for hook in vars(hookspecs) if hook.startswith("fcit_")]
    for found in dir(plugin):
        function = getattr(plugin, found, None)
        marked = inspect.isroutine(function) and hasattr(function, f"{hookspecs.PROJECT}_impl")
        named = found.startswith("fcit_") and callable(function) and not isinstance(function, type)
        imported = hasattr(function, f"{hookspecs.PROJECT}_spec")
        if imported or not (marked or named) or (marked and found in hooks):
            continue
        code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
        where = f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
        why = "is not marked by `@hookimpl`" if found in hooks else f"is not a hook; {nearest(found, hooks).rstrip('.')}"
        raise FcitError(f"{_plugin(name)} has a function `{found}`{where}, which {why}.")


@cache
def registry(kind: str) -> dict[str, Part]:
    """Everything registered of one kind, by name, our own parts first.

    Args:
        kind: One of :data:`fcit_plugin.parts.KINDS`.

    Raises:
        FcitError: Two plugins register the same name, or a hook fails or returns what is not a part.
    """
    found: dict[str, Part] = {}
    for implementation in getattr(manager().hook, f"fcit_{kind}").get_hookimpls():
        package = source(implementation.plugin_name)
        for name, registered in _ask(implementation.function, kind, package).items():
            part = replace(as_part(kind, registered), name=name, package=package, kind=kind)
            if name in found:
                both = f"{found[name].package} and {package}"
                raise FcitError(f"{both} both register {name!r} among the {kind.replace('_', ' ')}; uninstall one of them.")
            _check_part(kind, part)
            found[name] = part
    return found


def _ask(hook: Any, kind: str, package: str) -> Mapping[str, Any]:
    try:
        given = hook()
    except Exception as error:
        if package == source(BUILTIN):
            raise
        raise FcitError(f"The hook `fcit_{kind}` of {package} failed: {with_place(error)}; fix or uninstall it.") from error
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise FcitError(f"The hook `fcit_{kind}` of {package} returned {given!r}; it returns parts by name.")
    return given


def _check_part(kind: str, part: Part) -> None:
    """Refuse what cannot be a part of its kind."""
    _, wanted = KINDS[kind]
    named = isinstance(part.make, str) and part.make.count(":") == 1
    if not isinstance(part, wanted):
        wrong = f"a {type(part).__name__}; make it a {wanted.__name__}"
    elif not named and not callable(part.make):
        wrong = f'{part.make!r}; register a class, a function, or where it is, as "package.module:name"'
    elif not isinstance(part.cannot_go_with, Mapping) or not all(map(_is_text, part.cannot_go_with.items())):
        wrong = f"there with {part.cannot_go_with!r} as `cannot_go_with`; give a reason for each key, as in {_EXAMPLE}"
    elif isinstance(part, ServerRule) and not (part.robust_from is None or callable(part.robust_from)):
        wrong = f"there with {part.robust_from!r} as `robust_from`; give a function of its options, or None"
    else:
        return
    raise FcitError(f"{part.name!r}, which {part.package} registers among the {kind.replace('_', ' ')}, is {wrong}.")


def _is_text(pair: tuple[Any, Any]) -> bool:
    return all(isinstance(one, str) for one in pair)


def blame(error: BaseException) -> str | None:
    """Who is to be asked about an error that was raised in the code of a third party's plugin.

    Returns:
        A sentence with the package, the file and the line; None where no plugin's code took part.
    """
    if not manager.cache_info().currsize:
        return None  # none was loaded
    packages = {_module(plugin).partition(".")[0]: name for name, plugin in _others()}
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        name = packages.get(str(frame.f_globals.get("__name__")).partition(".")[0])
        if name is not None:
            where = f"{frame.f_code.co_filename}:{line}"
            return f"{_plugin(name)} failed at {where} with {type(error).__name__}: {one_line(error)}."
    return None


def _others() -> Iterator[tuple[str, Any]]:
    """The plugins of installed packages but for our own; what was registered by hand, as in a test, is nobody's package."""
    installed = {entry.name for entry in entry_points(group=hookspecs.PROJECT)} - {BUILTIN}
    return ((name, plugin) for name, plugin in manager().list_name_plugin() if name in installed and plugin is not None)


def _module(plugin: Any) -> str:
    return plugin.__name__ if isinstance(plugin, ModuleType) else str(plugin.__module__)


def _plugin(name: str) -> str:
    return f"The plugin `{name}` of {source(name)}"


@cache
def source(name: str) -> str:
    """The package of a registered plugin, with its version; the plugin's name where it is not from a package."""
    packages = [entry.dist for entry in entry_points(group=hookspecs.PROJECT, name=name)]
    return " and ".join(f"{dist.name} {dist.version}" for dist in packages if dist is not None) or name


__all__ = ["BUILTIN", "KINDS", "blame", "manager", "registry", "source"]
