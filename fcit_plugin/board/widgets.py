"""Which widget a key gets: made from its declaration, so that a plugin's key has one without a line here. No gradio."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import NoneType
from typing import Any, Literal, get_args, get_type_hints

from ..arguments import FcitArguments
from ..arguments.joined import part_keys
from ..parts import KINDS
from ..plugins import registry

Kind = Literal["choice", "number", "switch", "text"]

#: Axes of a run whose part is chosen, and has keys of its own.
AXES = ("methods", "server_rules", "lora_aggregations")


@dataclass(frozen=True)
class Widget:
    """How one key is filled in.

    Attributes:
        key: The key.
        kind: What it is filled in with.
        value: What stands there at first; None for nothing.
        help: What the key is for, as declared.
        choices: The values that can be chosen.
        whole: Whether a number is a whole one.
        owners: The parts that the key belongs to, each with its default; empty for a key of every run.
        choice: The key that chooses one of them; empty for a key of every run.
    """

    key: str
    kind: Kind
    value: Any
    help: str
    choices: tuple[str, ...] = ()
    whole: bool = False
    owners: Mapping[str, Any] = field(default_factory=dict)
    choice: str = ""

    def read(self, value: Any) -> Any:
        """What the recipe says for what was filled in; None where the key is left out.

        Args:
            value: As the browser sends it: a number may be a float, or a text that is empty.
        """
        if value is None or value == "":
            return None
        if self.kind == "number":
            return int(value) if self.whole and float(value).is_integer() else float(value)
        return bool(value) if self.kind == "switch" else str(value).strip() or None


def core_widget(key: str, value: Any = None) -> Widget:
    """The widget of a key that every run has.

    Args:
        key: One of :class:`FcitArguments`.
        value: What stands there at first; left out, the key's default.
    """
    item = next(item for item in fields(FcitArguments) if item.name == key)
    first = item.default if value is None else value
    kind = next((kind for kind, (choice, _) in KINDS.items() if choice == key), None)
    choices = tuple(registry(kind)) if kind else tuple(item.metadata.get("choices", ()))
    return _widget(key, get_type_hints(FcitArguments)[key], first, item.metadata["help"], choices)


def part_widgets(kind: str) -> list[Widget]:
    """The widgets of the keys that parts of a kind have, in the order in which they were registered.

    Args:
        kind: One of :data:`AXES`.
    """
    keys = [key for key in part_keys().values() if key.kind == kind]
    made = [_widget(key.name, key.hint, next(iter(key.owners.values())), key.help) for key in keys]
    return [replace(one, owners=key.owners, choice=str(KINDS[kind][0])) for one, key in zip(made, keys, strict=True)]


def _widget(key: str, hint: Any, value: Any, help: str, choices: tuple[str, ...] = ()) -> Widget:
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not NoneType]
    kind: Kind = "text"
    if choices:
        kind = "choice"
    elif kinds in ([int], [float]):
        kind = "number"
    elif kinds == [bool]:
        kind = "switch"
    return Widget(key, kind, value, " ".join(help.split()), choices, kinds == [int])
