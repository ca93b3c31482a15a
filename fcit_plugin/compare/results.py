"""Finished runs of a grid, from their folders or from results files: what is kept of them without their weights.

A results file has a line for each run, sorted by name: a JSON object with the keys ``run`` (the name of its cell), ``recipe``
(what it was started with) and ``report``. Grids of one ``output_dir`` share their runs, so they may share a file, too.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from ..errors import FcitError
from ..evaluation.report import Report
from ..files import read_json_lines, write_text
from ..schema import Word, checked
from .cell_state import CellState, CellStatus, differing_keys, state_of
from .grid_file import Cell, GridFile


@dataclass(frozen=True)
class Run:
    """One line of a results file.

    Attributes:
        run: the name of its cell.
        recipe: the keys that it was started with.
        report: what it left.
    """

    run: str
    recipe: dict[str, Any]
    report: Report

    def to_line(self) -> str:
        """Return it as JSON without a line break."""
        return json.dumps({**vars(self), "report": self.report.to_dict()}, ensure_ascii=False, separators=(",", ":"))


_REMEDY = "restore the file, or take the line out"
#: A key by which a run is measured and not made: what a results file has of a run that differs in it alone is still of use.
TEST_RECORDS = "fcit_eval_samples"


class _Line(TypedDict):
    run: Word
    recipe: dict[Word, Any]
    report: dict[Word, Any]


class Results:
    """What there is of a grid's runs: in results files, and in folders for the cells that the files lack.

    Args:
        grid: whose runs.
        files: results files; together they hold each run once.
        to: the results file that finished runs go into; if it is there, its runs count where neither `files` nor a folder has a
            finished one, so that a grid goes on where its folders are gone.

    Raises:
        FcitError: a file cannot be used; one sentence that names it and the line.
    """

    def __init__(self, grid: GridFile, files: Iterable[Path] = (), to: Path | None = None) -> None:
        self._grid = grid
        self._changed: dict[str, tuple[str, ...]] = {}
        kept = {} if to is None or not to.exists() else self._fitting(read_runs(grid, [to]))
        self._runs = self._fitting(read_runs(grid, files))
        self._runs |= {
            cell.name: kept[cell.name]
            for cell in grid.cells
            if cell.name in kept.keys() - self._runs.keys() and state_of(cell).status is not CellStatus.FINISHED
        }

    def _fitting(self, runs: Mapping[str, Run]) -> dict[str, Run]:
        """The runs that are the grid's cells; those of other keys are noted."""
        cells = [cell for cell in self._grid.cells if cell.name in runs]
        differing = {cell.name: differing_keys(cell, runs[cell.name].recipe) for cell in cells}
        changed = {name: tuple(found.values()) for name, found in differing.items() if found.keys() - {TEST_RECORDS}}
        self._changed |= changed
        return {name: runs[name] for name in differing if name not in changed}

    def state_of(self, cell: Cell) -> CellState:
        """How far a cell has come; one that the files have from other keys may have been run again in its folder."""
        if cell.name in self._runs:
            return CellState(CellStatus.FINISHED)
        state = state_of(cell)
        if state.status is CellStatus.OPEN and cell.name in self._changed:
            return CellState(CellStatus.CHANGED, self._changed[cell.name])
        return state

    def reports(self) -> dict[str, Report]:
        """Return the reports of the cells that are finished, by name, in the grid's order.

        Raises:
            FcitError: one of them is damaged.
        """
        own = {name: run.report for name, run in self._runs.items()}
        return {cell.name: own.get(cell.name) or Report.read(cell.folder) for cell in self._finished()}

    def test_records(self) -> dict[str, int | None]:
        """Return how many records of each dataset the finished cells were tested with, by name; None: with all there are."""
        recipes = self.recipes()
        return {cell.name: recipes.get(cell.name, cell.keys).get(TEST_RECORDS) for cell in self._finished()}

    def recipes(self) -> dict[str, dict[str, Any]]:
        """Return what the cells of the files were started with, by name."""
        return {name: run.recipe for name, run in self._runs.items()}

    def _finished(self) -> list[Cell]:
        return [cell for cell in self._grid.cells if self.state_of(cell).status is CellStatus.FINISHED]


def write_runs(
    grid: GridFile, reports: Mapping[str, Report], file: Path, recipes: Mapping[str, dict[str, Any]] | None = None
) -> int:
    """Put finished runs into a results file, in place of its lines of the same cells.

    Its other lines stay: cells without a report, and those of other grids with this `output_dir`.

    Args:
        grid: whose runs.
        reports: by the name of the cell.
        file: new, or a results file.
        recipes: what some of them were started with, where the grid says more or less by now (:meth:`Results.recipes`).

    Returns:
        How many runs the file has then.

    Raises:
        FcitError: the file is there and no results file of this grid.
    """
    runs = read_runs(grid, [file] if file.exists() else [])
    started = {cell.name: cell.keys for cell in grid.cells} | dict(recipes or {})
    runs |= {cell.name: Run(cell.name, started[cell.name], reports[cell.name]) for cell in grid.cells if cell.name in reports}
    lines = [runs[name].to_line() for name in sorted(runs)]
    write_text(file, "".join(f"{line}\n" for line in lines))
    return len(runs)


def read_runs(grid: GridFile, files: Iterable[Path]) -> dict[str, Run]:
    """Return the runs of results files by name, those of other grids with this `output_dir` among them.

    Raises:
        FcitError: a file is missing, a line is not a run, a run of another `output_dir`, or there twice; the sentence names
            the file and the line.
    """
    runs: dict[str, Run] = {}
    places: dict[str, str] = {}
    for file in files:
        if not os.path.lexists(file):
            raise FcitError(f"{file} does not exist; name a file that `fcit-cli compare GRID --to FILE` has written.")
        for number, value in read_json_lines(file, _REMEDY).items():
            place = f"{file}, line {number}"
            run = _run_of(value, place)
            folder = Path(str(run.recipe.get("output_dir")))
            if folder != grid.output_dir / run.run:
                raise FcitError(
                    f"{place}: {run.run} is a run of another grid, made in {folder}; {grid.path} has its runs in "
                    f"{grid.output_dir}, so name the file of those, or change its `output_dir`."
                )
            if run.run in runs:
                raise FcitError(f"{place}: {run.run} stands in {places[run.run]} already; keep one of the two lines.")
            runs[run.run], places[run.run] = run, place
    return runs


def _run_of(value: Any, place: str) -> Run:
    line = checked(_Line, value, place, _REMEDY)
    unknown = [key for key in line if key not in _Line.__annotations__]
    if unknown:
        raise FcitError(f"{place} has other keys than a run's, {' '.join(', '.join(unknown).split())[:200]}; {_REMEDY}.")
    return Run(line["run"], line["recipe"], Report.from_dict(line["report"], f"{place}, `report`,", _REMEDY))
