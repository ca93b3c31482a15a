"""What is there of a cell: nothing, a part, its report, or something that was made from other keys."""

import os
import reprlib  # short: of YAML's aliases a few lines make gigabytes
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import yaml

from ..errors import FcitError, one_line
from ..evaluation.report import REPORT_JSON
from ..files import inside, read_bytes, read_text, write_text
from ..schema import Word, checked
from ..state.checkpoints import FOLDER
from .grid_file import Cell

#: The recipe that a cell was started with, and what its process said.
RECIPE, LOG = "recipe.yaml", "log.txt"
#: Where a run lies, and how many processes train its clients, which makes no bit of difference.
_NO_MATTER = ("output_dir", "fcit_clients_per_device")
_REMEDY = "take the folder away, or use --overwrite"


class CellStatus(Enum):
    """How far a cell has come."""

    OPEN = "to run"
    BEGUN = "to go on"
    FINISHED = "finished"
    CHANGED = "made from other keys"


@dataclass(frozen=True)
class CellState:
    """How far a cell has come.

    Attributes:
        status: in a word.
        differing: for a changed one the keys in which it differs, each with both values.
    """

    status: CellStatus
    differing: tuple[str, ...] = ()


def state_of(cell: Cell) -> CellState:
    """Look into a cell's folder.

    Raises:
        FcitError: the recipe there cannot be read; the sentence names the file.
    """
    file = cell.folder / RECIPE
    finished = os.path.lexists(cell.folder / REPORT_JSON)
    begun = any(list(cell.folder.glob(pattern)) for pattern in (FOLDER, f"*/{FOLDER}"))
    if not os.path.lexists(file):
        return CellState(CellStatus.CHANGED, (f"there is no {RECIPE}",)) if finished or begun else CellState(CellStatus.OPEN)
    try:
        then = yaml.safe_load(read_text(inside(cell.folder, RECIPE), _REMEDY))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # it holds a date that is none, or is nested too deeply
        raise FcitError(f"{file} is not valid YAML ({one_line(error)[:300]}); {_REMEDY}.") from error
    differing = tuple(differing_keys(cell, checked(dict[Word, Any], then, str(file), _REMEDY)).values())
    if differing and (finished or begun):
        return CellState(CellStatus.CHANGED, differing)
    if finished:
        return CellState(CellStatus.FINISHED)
    return CellState(CellStatus.BEGUN if begun else CellStatus.OPEN)


def differing_keys(cell: Cell, then: Mapping[str, Any]) -> dict[str, str]:
    """The keys in which a cell differs from the recipe of a run, each with a sentence; where and by how many is none."""
    return {
        key: f"`{key}` was {reprlib.repr(then.get(key))} and is {reprlib.repr(cell.keys.get(key))}"
        for key in sorted(then.keys() | cell.keys.keys())
        if key not in _NO_MATTER and then.get(key) != cell.keys.get(key)
    }


def prepare(cell: Cell) -> None:
    """Write the recipe of a cell into its folder."""
    write_text(cell.folder / RECIPE, yaml.safe_dump(cell.keys, sort_keys=False, allow_unicode=True))


def clear(cell: Cell) -> None:
    """Take a cell's folder away, whatever it was made from.

    Raises:
        FcitError: it holds something else than a run.
    """
    if not cell.folder.exists():
        return
    if not any((cell.folder / name).exists() for name in (RECIPE, REPORT_JSON, FOLDER)):
        raise FcitError(f"{cell.folder} is not a folder of a run, so it is not overwritten; name another `output_dir`.")
    shutil.rmtree(cell.folder)


def last_line(cell: Cell) -> str:
    """The last line that a cell's process said."""
    file = cell.folder / LOG
    text = read_bytes(file).decode(errors="replace") if file.is_file() else ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
