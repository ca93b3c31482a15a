"""The keys of registered parts, joined to ours: each method, rule, aggregation, partitioner and encoder brings its own."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, make_dataclass
from typing import Any, get_type_hints

from ..errors import FcitError, with_place
from ..parts import KINDS, Part
from ..plugins import registry
from .option import Options

#: Kinds of parts that a key of the recipe chooses one of, and which therefore can have keys.
PARTS_WITH_KEYS = tuple(kind for kind, (choice, _) in KINDS.items() if choice is not None)


@dataclass(frozen=True)
class PartKey:
    """One key that belongs to parts.

    Attributes:
        name: The key.
        kind: The kind of parts.
        hint: Its type, without None.
        help: What it is for.
        owners: The parts that have it, each with its own default.
    """

    name: str
    kind: str
    hint: Any
    help: str
    owners: Mapping[str, Any]

    @property
    def shown(self) -> str:
        """The help with the defaults: a part that is not chosen leaves the key at None."""
        owners: dict[str, list[str]] = {}
        for owner, default in self.owners.items():
            owners.setdefault(in_words(default), []).append(owner)
        return f"{self.help} ({'; '.join(', '.join(names) + ': default ' + value for value, names in owners.items())})"


def in_words(default: Any) -> str:
    """A default as a recipe would have it."""
    if isinstance(default, float):
        return f"{default:g}"
    return "none" if default is None else str(default)


def part_keys() -> dict[str, PartKey]:
    """All keys of registered parts, by name, in the order in which they were registered.

    Raises:
        FcitError: Two parts have a key of one name that is not the same key.
    """
    found: dict[str, PartKey] = {}
    for kind in PARTS_WITH_KEYS:
        for name, part in registry(kind).items():
            hints = {} if part.options is None else _types(part)
            for item in () if part.options is None else fields(part.options):
                _check_key(item, part.package)
                known, hint = found.get(item.name), hints[item.name]
                if known is not None and (known.kind, known.hint) != (kind, hint):
                    raise FcitError(
                        f"{part.package} registers the key `{item.name}` for {name!r}, which is already one of "
                        f"{', '.join(known.owners)} and of another kind; rename it."
                    )
                owners = {**(known.owners if known else {}), name: _default(item)}
                help = known.help if known is not None else item.metadata.get("help", "")
                found[item.name] = PartKey(item.name, kind, hint, help, owners)
    return found


def _types(part: Part) -> dict[str, Any]:
    """The types of a part's keys.

    Raises:
        FcitError: Its options are not what options are.
    """
    options, whose = part.options, f"The options of {part.name!r}, which {part.package} registers,"
    if not (isinstance(options, type) and issubclass(options, Options) and is_dataclass(options)):
        raise FcitError(f"{whose} are {options!r}; they are a dataclass, with `Options` as its base.")
    for key in vars(options).get("__annotations__", {}):
        if key not in {item.name for item in fields(options)}:
            raise FcitError(f"{whose} have `{key}`, which is no field; put `@dataclass` before {options.__name__}.")
    try:
        return get_type_hints(options)
    except Exception as error:  # annotations that are text may be any text
        raise FcitError(f"{whose} have a type that cannot be read: {with_place(error)}.") from error


def _check_key(item: Field[Any], package: str) -> None:
    if not item.name.startswith("fcit_"):
        raise FcitError(f"{package} registers the key `{item.name}`; keys of the plugin begin with `fcit_`, rename it.")
    if _default(item) is MISSING:
        raise FcitError(f"{package} registers the key `{item.name}` without a default; give it one.")


def _default(item: Field[Any]) -> Any:
    return item.default_factory() if item.default_factory is not MISSING else item.default


def join(core: type, keys: Mapping[str, PartKey]) -> type:
    """The class of our keys and those of parts; one class as long as the same keys are registered.

    Args:
        core: The class of our own keys.
        keys: The keys of parts; their value is None where the recipe does not choose an owner.
    """
    signature = (core, *((key.name, key.hint, key.shown) for key in keys.values()))
    if signature not in _JOINED:
        for key in keys:
            if key in {item.name for item in fields(core)}:
                package = registry(keys[key].kind)[next(iter(keys[key].owners))].package
                raise FcitError(f"{package} registers the key `{key}`, which is one of the plugin's own; rename it.")
        added = [(key.name, key.hint | None, field(default=None, metadata={"help": key.shown})) for key in keys.values()]
        made = make_dataclass(core.__name__, added, bases=(core,))
        made.__doc__, made.__module__, made.__qualname__ = core.__doc__, core.__module__, core.__qualname__
        _JOINED[signature] = made
    return _JOINED[signature]


_JOINED: dict[tuple[Any, ...], type] = {}
