"""How far a run is, read from its output folder while it writes there: the same for one that the board did not start."""

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FcitError
from ..evaluation.page import PAGE_HTML
from ..evaluation.report import REPORT_JSON, Report
from ..files import inside, read_lines_as
from ..state.checkpoints import Checkpoints
from ..state.folder import StateFolder
from ..state.forms import LogLine
from ..state.pages import LOG

#: Points of the curve of losses at most; of more, every n-th is shown.
MOST_POINTS = 500


@dataclass(frozen=True)
class Look:
    """What can be seen of a run.

    Attributes:
        last: The newest line of its log; None where there is none.
        stages: How many stages the run has, None as long as it has not said so.
        rounds: Rounds of each stage.
        datasets: Columns of the matrix.
        rows: Scores after each stage so far, from 0 to 100; None where a dataset was not evaluated.
        losses: Step, loss and stage of the log's lines.
        finished: Whether the run has left its report.
        names: What the clients are called, by their numbers; none where they have numbers alone.
        page: Its page for the browser, None as long as there is none.
    """

    last: LogLine | None = None
    stages: int | None = None
    rounds: Sequence[int] = ()
    datasets: Sequence[str] = ()
    rows: Sequence[Sequence[float | None]] = ()
    losses: Sequence[tuple[int, float, int]] = ()
    finished: bool = False
    page: Path | None = None
    names: Sequence[str] = ()

    @property
    def share(self) -> float:
        """How much is done, from 0 to 100."""
        return 100.0 if self.finished else 0.0 if self.last is None else self.last.get("percentage", 0.0)

    @property
    def table(self) -> tuple[list[str], list[list[str]]]:
        """The accuracy matrix as texts: heads, and a row for each stage that was evaluated."""
        rows = [[str(stage), *map(_cell, row)] for stage, row in enumerate(self.rows) if any(a is not None for a in row)]
        return ["", *self.datasets], rows


def look(folder: Path) -> Look:
    """Look at a run's output folder; where there is nothing yet, nothing is seen.

    Args:
        folder: The folder.

    Raises:
        FcitError: A file in it is damaged; the sentence names it.
    """
    with _named(folder):
        return _look(folder)


def _look(folder: Path) -> Look:
    lines = _log(folder)
    last, losses = lines[-1] if lines else None, _losses(lines)
    if (folder / REPORT_JSON).is_file():
        report, page = Report.read(folder), folder / PAGE_HTML
        matrix, stages = (report.datasets, report.accuracy), len(report.stages)
        return Look(last, stages, (), *matrix, losses, True, page if page.is_file() else None, report.names)
    for commit in reversed(Checkpoints(folder).commits()):
        with contextlib.suppress(FcitError, OSError):  # it may be in the middle of being removed
            state = StateFolder(commit)
            manifest, progress = state.manifest, state.progress()
            seen, names = progress.matrix, progress.names
            return Look(last, len(manifest["stages"]), manifest["rounds"], seen.datasets, seen.rows, losses, names=names)
    return Look(last, losses=losses)


def mark(folder: Path) -> tuple[Any, ...]:
    """What is another one once there is something new to see in a folder.

    Raises:
        FcitError: Nobody may look there, or it cannot be the name of a folder.
    """
    checkpoints = Checkpoints(folder)
    names = [folder / LOG, folder / REPORT_JSON, folder / PAGE_HTML]
    with _named(folder):
        return (str(folder), *map(_size, names), *(path.name for path in checkpoints.commits()))


@contextlib.contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Within the block what the system says of a folder, whose name anybody may have typed, is said of it in a sentence."""
    try:
        yield
    except FcitError:
        raise
    except (OSError, ValueError) as error:
        why = (isinstance(error, OSError) and error.strerror) or error
        raise FcitError(f"{str(folder)[:200]} cannot be looked at ({why}); name another output folder.") from error


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _log(folder: Path) -> list[LogLine]:
    return read_lines_as(LogLine, inside(folder, LOG), grows=True) if os.path.lexists(folder / LOG) else []


def _losses(lines: Sequence[LogLine]) -> tuple[tuple[int, float, int], ...]:
    found = [
        (line["current_steps"], loss, line["stage"])
        for line in lines
        if (loss := line["loss"]) is not None and math.isfinite(loss)
    ]
    return tuple(found[:: max(-(-len(found) // MOST_POINTS), 1)])


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
