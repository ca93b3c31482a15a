"""A recipe becomes what is filled in: the reverse of :mod:`.form`. No gradio.

What the form cannot say goes under *Further keys*. Whether it can is not known beforehand: the recipe is made of the form
again, and what then differs stands there. So whatever a recipe holds, it is what Preview shows.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

from ..arguments import FcitArguments, current_keys
from ..arguments.joined import part_keys
from ..arguments.option import nested_list
from ..errors import meant
from ..files import of_user, read_text
from ..parts import KINDS
from ..recipe.ordinary import classes
from ..recipe.typed_recipe import HIDDEN, keys_as_typed
from ..shipped import shipped_recipes
from ..state.names import TYPED_YAML
from .command import RECIPE
from .form import MAY_BE_NOTHING, OTHERS, widgets
from .refusals import Refusal
from .widgets import Widget

#: A recipe that says it may not be run beside one that says nothing: whether it is there decides, whatever its value.
_BY_PRESENCE = ("gradient_accumulation_steps",)
_OURS = re.compile(r"^stage:\s*fcit\s*(?:#.*)?$", re.MULTILINE)
#: Where LLaMA Board's own runs are, by how deep.
_RUNS = [f"saves/{'*/' * depth}{TYPED_YAML}" for depth in (1, 2, 3)]


@dataclass
class Loaded:
    """A recipe that is to be filled in.

    Attributes:
        keys: Its keys, with a value each.
        hidden: Those whose values the file does not show.
        empty: Those without a value that would not be without one if they were left out.
        behind: What had followed it on the command line.
    """

    keys: dict[str, Any]
    hidden: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    behind: Sequence[str] = ()


def choices() -> list[str]:
    """The recipes that can be chosen: the shipped ones for ``stage: fcit`` by name, then those of finished runs by path."""
    ours = [name for name, path in shipped_recipes().items() if _OURS.search(read_text(path))]
    runs = [path.as_posix() for pattern in _RUNS for path in sorted(Path().glob(pattern))]
    return [*ours, *runs]


def load(name: str | None) -> Loaded:
    """Read a recipe.

    Args:
        name: That of a shipped one, a file, or the output folder of a run.

    Raises:
        FcitError: It is none for this tab; the sentence says why.
    """
    path = _path(str(name or "").strip())
    given, behind = keys_as_typed(path)
    keys = current_keys(given)
    stage = keys.get("stage")
    if stage != "fcit":
        if stage is None:
            raise Refusal("no_stage_key", path=path)
        raise Refusal("other_fcit_stage" if str(stage).startswith("fcit") else "other_stage", path=path, stage=stage)
    known = defaults(keys)
    found = Loaded({}, behind=behind)
    for key, value in keys.items():
        if HIDDEN in str(value):
            found.hidden.append(key)
        elif value is not None or key in MAY_BE_NOTHING:
            found.keys[key] = value
        elif known.get(key) is not None:
            found.empty.append(key)
    if "fcit_stages" in found.keys:
        found.keys["fcit_stages"] = nested_list("fcit_stages", found.keys["fcit_stages"], of_names=True)
    return found


def form_of(keys: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in the tab's fields for a recipe; *Further keys* are empty.

    Args:
        keys: The recipe.
    """
    known, made = defaults(keys), widgets()
    found = {key: _shown(widget, keys.get(key, known.get(key, widget.value))) for key, widget in made.items()}
    return found | {
        "dataset_dir": _text(keys.get("dataset_dir", OTHERS["dataset_dir"])),
        "fcit_stages": " ".join(",".join(map(str, stage)) for stage in keys.get("fcit_stages") or ()),
        "fcit_test": _number(keys.get("val_size", 0)) if found["fcit_setting"] == "custom" else OTHERS["fcit_test"],
        "max_new_tokens": _number(keys.get("max_new_tokens")),
        "fcit_extra_args": "",
    }


def output_dir_of(keys: Mapping[str, Any], now: str | None) -> str | None:
    """What stands under *Output dir*: a path, or what stood there where the recipe names none.

    Args:
        keys: The recipe.
        now: What stands there.
    """
    given = keys.get("output_dir")
    if not isinstance(given, str) or not given:
        return now
    path = Path(given)
    return f"{path}" if "/" in f"{path}" else f"./{path}"


def further(made: Mapping[str, Any], wanted: Mapping[str, Any], unsure: Iterable[str] = ()) -> dict[str, Any]:
    """What has to stand under *Further keys* for the recipe that the form makes to be the one that was loaded.

    Args:
        made: The recipe that it makes without any.
        wanted: The one that was loaded.
        unsure: Keys that are said in any case.

    Returns:
        Keys and values; None for those to be taken out.
    """
    known = defaults(wanted)
    differ = [key for key, value in wanted.items() if not _same(made.get(key, known.get(key)), value)]
    gone = [key for key in made if key not in wanted and (key in _BY_PRESENCE or not _same(made[key], known.get(key)))]
    return {key: wanted.get(key) for key in (*differ, *gone, *unsure) if key != "output_dir"}


def as_json(keys: Mapping[str, Any]) -> str:
    """Keys as they stand under *Further keys*; nothing for none."""
    return json.dumps(keys, ensure_ascii=False, default=str) if keys else ""


def defaults(keys: Mapping[str, Any]) -> dict[str, Any]:
    """What each key is where a recipe does not have it: LLaMA-Factory's and ours, and those of the parts that are chosen.

    Args:
        keys: The recipe.
    """
    found = {item.name: _default(item) for part in (*classes(), FcitArguments) for item in fields(part)}
    for key in part_keys().values():
        choice = str(KINDS[key.kind][0])
        found[key.name] = key.owners.get(str(keys.get(choice, found[choice])))
    return found


def _default(item: Field[Any]) -> Any:
    value = item.default_factory() if item.default_factory is not MISSING else item.default
    return value.value if isinstance(value, Enum) else None if value is MISSING else value


def _path(name: str) -> Path:
    if not name:
        raise Refusal("no_recipe_named")
    path = of_user(name)
    if path.is_dir():
        kept = [path / file for file in (TYPED_YAML, RECIPE) if (path / file).is_file()]
        if not kept:
            raise Refusal("no_recipe_kept", folder=path, file=TYPED_YAML)
        return kept[0]
    if not path.is_file() and (ours := shipped_recipes().get(name.removeprefix("recipes/").removesuffix(".yaml"))) is not None:
        return ours
    if not path.exists() and "/" not in name:
        near = meant(name, shipped_recipes())
        if near is not None:
            raise Refusal("misspelt_recipe", name=name, near=near)
        raise Refusal("no_such_recipe", name=name, valid=", ".join(shipped_recipes()))
    return path


def _shown(widget: Widget, value: Any) -> Any:
    """A value as a widget holds it; its first one where it cannot."""
    if value is None:
        return {"text": "", "switch": widget.value}.get(widget.kind)
    if isinstance(value, bool) is not (widget.kind == "switch"):
        return widget.value
    try:
        holds = widget.read(value) == value and (widget.kind != "choice" or value in widget.choices)
    except (TypeError, ValueError):
        holds = False
    return value if holds else widget.value


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(OTHERS["dataset_dir"])


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) is isinstance(other, bool)
