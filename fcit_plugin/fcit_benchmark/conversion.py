"""What the conversions of other benchmarks' files share: what is asked for, how it is read, what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..errors import FcitError, nearest
from ..files import read_json
from ..schema import checked

T = TypeVar("T")

REMEDY = "download the benchmark again, or fix it"


@dataclass
class Conversion:
    """What a conversion has written.

    Attributes:
        written: Number of records by file, in the order in which they were written.
        notes: Sentences on what is not as one would think.
        keys: Keys of a recipe that reads it.
    """

    written: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)


def pick(names: str | None, known: Mapping[str, T], benchmark: str) -> dict[str, T]:
    """The datasets that a comma-separated list names; all of them for None.

    Raises:
        FcitError: A name is unknown.
    """
    if names is None:
        return dict(known)
    for name in names.split(","):
        if name not in known:
            raise FcitError(f"`--datasets`: {benchmark} has no dataset `{name}`; {nearest(name, known)}")
    return {name: known[name] for name in dict.fromkeys(names.split(","))}


def read_form(form: Any, path: Path) -> Any:
    """What a JSON file of a download holds, of a form.

    Args:
        form: A type with its ranges; keys that it does not name are let through.
        path: The file.

    Raises:
        FcitError: It cannot be read or is of another form; the sentence names the file and the place in it.
    """
    return checked(form, read_json(path, REMEDY), str(path), REMEDY)


def require_root(root: Path, code: str) -> None:
    """Refuse a download that is not a folder.

    Raises:
        FcitError: It is none.
    """
    if not root.is_dir():
        raise FcitError(f"There is no folder {root} (--from); name your clone of {code}.")
