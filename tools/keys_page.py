"""Writes docs/reference/keys.md, the table of all keys, from the keys themselves: ``python tools/keys_page.py``."""

import dataclasses
from pathlib import Path
from typing import get_args, get_type_hints

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.arguments.joined import PartKey, part_keys
from fcit_plugin.parts import KINDS
from fcit_plugin.plugins import BUILTIN, registry, source

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "keys.md"
HEAD = """# Keys

All `fcit_*` keys, as `llamafactory-cli train -h` has them. This page is written by \
`python tools/keys_page.py`. A misspelled key is
refused with the nearest valid name before anything is loaded, and so is a key that the stage or the chosen part would ignore.
LLaMA-Factory's own keys keep their meaning, for each client's local training.
"""
ROW = "| `{}` | {} | {} | {} |"
COLUMNS = "| key | type | default | |\n|---|---|---|---|"


def render() -> str:
    """The page."""
    parts = [HEAD]
    for group in reversed(FcitArguments.__mro__):
        if dataclasses.is_dataclass(group) and group is not FcitArguments:
            rows = "\n".join(_row(item, group) for item in _own_fields(group))
            parts.append(f"## {_title(group)}\n\n{COLUMNS}\n{rows}\n")
    for kind, (choice, _) in KINDS.items():
        keys = [key for key in part_keys().values() if key.kind == kind and _ours(key)]
        if keys:
            title = (
                f"## Keys of {kind.replace('_', ' ')}\n\n"
                f"Each belongs to some values of `{choice}`, and is refused with another one."
            )
            rows = "\n".join(map(_part_row, keys))
            parts.append(f"{title}\n\n{COLUMNS}\n{rows}\n")
    return "\n".join(parts)


def _title(group: type) -> str:
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in group.__name__.removesuffix("Arguments"))
    return words.strip().capitalize()


def _own_fields(group: type) -> list[dataclasses.Field]:
    return [item for item in dataclasses.fields(group) if item.name in group.__annotations__]


def _row(item: dataclasses.Field, group: type) -> str:
    default = "" if item.default is None else f"{str(item.default).lower() if isinstance(item.default, bool) else item.default}"
    return ROW.format(item.name, _type(get_type_hints(group)[item.name]), default, _escaped(item.metadata["help"]))


def _part_row(key: PartKey) -> str:
    owners = "; ".join(f"{name}: {'' if value is None else value}" for name, value in key.owners.items())
    return ROW.format(key.name, _type(key.hint), owners, _escaped(key.help))


def _ours(key: PartKey) -> bool:
    return any(registry(key.kind)[name].package == source(BUILTIN) for name in key.owners)


def _type(hint: object) -> str:
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    return " or ".join(kind.__name__ for kind in kinds)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
