"""Running cells of a grid: one process each, several at a time."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..descendants import Descendants
from ..errors import FcitError
from ..evaluation.report import Report
from ..locks import locked
from ..recipe.read import split
from .cell_state import LOG, RECIPE, CellState, CellStatus, clear, last_line, prepare, state_of
from .grid_file import Cell, GridFile

#: In place of an exit code.
NOT_STARTED = -1000


@dataclass(frozen=True)
class Failure:
    """A cell that is not there after all.

    Attributes:
        cell: which.
        reason: a sentence.
    """

    cell: Cell
    reason: str


def default_jobs() -> int:
    """The cores that this process may use; 1 where there are GPUs, for LLaMA-Factory gives all of them to a run."""
    import torch

    return 1 if torch.cuda.is_available() else _cores()


def run_cells(
    grid: GridFile,
    cells: Sequence[Cell],
    jobs: int | None = None,
    overwrite: bool = False,
    look: Callable[[Cell], CellState] = state_of,
    keep: Callable[[Cell, Report], object] = lambda cell, report: None,
) -> list[Failure]:
    """Run what is not there yet of some cells.

    Args:
        grid: whose cells they are.
        cells: in the order to run them.
        jobs: processes at a time, before what the grid says.
        overwrite: run cells again that were made from other keys.
        look: how far a cell has come.
        keep: is told each run as soon as it has ended well.

    Returns:
        The cells that are not there, each with the reason.

    Raises:
        FcitError: another process runs cells of this grid, or a cell to run has a fcit key that cannot work.
    """
    if not check_cells(cells, look):
        return []
    grid.output_dir.mkdir(parents=True, exist_ok=True)
    busy = f"Another `fcit-cli compare` is running cells in {grid.output_dir}; wait for it."
    with locked(grid.output_dir / ".lock", f"`output_dir` {grid.output_dir}", "a second `fcit-cli compare`", busy):
        return Runner(jobs or grid.jobs or default_jobs(), overwrite, look=look, keep=keep)(cells)


def check_cells(cells: Sequence[Cell], look: Callable[[Cell], CellState] = state_of) -> list[Cell]:
    """Refuse keys of ours that cannot work before any cell is run: one that ends after others would be noticed the next day.

    Args:
        cells: those that are asked for.
        look: how far a cell has come.

    Returns:
        The cells that are still to run.

    Raises:
        FcitError: the sentence names the cell and the key.
    """
    to_run = [cell for cell in cells if look(cell).status is not CellStatus.FINISHED]
    for cell in to_run:
        try:
            split(dict(cell.keys))
        except FcitError as error:
            raise FcitError(f"{cell.name}: {error}") from error
    return to_run


class Runner:
    """Runs cells in parallel processes of LLaMA-Factory's own command.

    Args:
        jobs: processes at a time; each has its share of the cores as `OMP_NUM_THREADS`, or what that says here, if it is less.
        overwrite: run cells again that were made from other keys.
        command: the program, None for LLaMA-Factory's own.
        look: how far a cell has come. What is evaluated again is looked for in its folder alone, for it needs the weights.
        keep: is told each run as soon as it has ended well, before another one is started: work that is stopped loses none.
    """

    def __init__(
        self,
        jobs: int,
        overwrite: bool = False,
        command: Path | None = None,
        look: Callable[[Cell], CellState] = state_of,
        keep: Callable[[Cell, Report], object] = lambda cell, report: None,
    ) -> None:
        self.jobs = jobs
        self.overwrite = overwrite
        self.command = command or llamafactory_cli()
        self._look = look
        self._keep = keep
        self.failures: list[Failure] = []
        self._processes: dict[subprocess.Popen, Descendants] = {}
        self._lock = threading.Lock()
        self._stopping = False

    def __call__(self, cells: Sequence[Cell]) -> list[Failure]:
        """Run what is not there yet, in order; a cell that fails holds up only those that are evaluated from it.

        Returns:
            The cells that are not there, each with the reason.
        """
        waiting = [cell for cell in cells if self._is_to_run(cell)]
        running: dict[Future, Cell] = {}
        bar = tqdm(total=len(waiting), unit="cell", smoothing=0, dynamic_ncols=True, disable=None)
        with bar, ThreadPoolExecutor(self.jobs) as pool:
            try:
                while waiting or running:
                    for cell in [cell for cell in waiting if self._can_start(cell, waiting, running.values())]:
                        if len(running) < self.jobs:
                            waiting.remove(cell)
                            running[pool.submit(self._run, cell)] = cell
                    bar.set_description(", ".join(cell.name for cell in running.values()))
                    done, _ = wait(running, timeout=10, return_when=FIRST_COMPLETED)
                    for future in done:
                        cell = running.pop(future)
                        tqdm.write(self._note_end(cell, *future.result()), file=sys.stderr)
                        bar.update()
                    bar.refresh()
            except BaseException:
                self._stop()
                raise
        return self.failures

    def _is_to_run(self, cell: Cell) -> bool:
        state = self._look(cell)
        if state.status is CellStatus.CHANGED and not self.overwrite:
            self.failures.append(
                Failure(cell, f"is made from other keys ({'; '.join(state.differing)}); --overwrite runs it again.")
            )
            return False
        if state.status is CellStatus.CHANGED:
            clear(cell)
        return state.status is not CellStatus.FINISHED

    def _can_start(self, cell: Cell, waiting: Iterable[Cell], running: Iterable[Cell]) -> bool:
        """Whether what it is evaluated from has ended, well or not."""
        before = None if cell.evaluates is None else cell.evaluates.name
        return all(other.name != before for other in (*waiting, *running))

    def _run(self, cell: Cell) -> tuple[int, float]:
        """The exit code of a cell's process, and its seconds."""
        if cell.evaluates is not None and state_of(cell.evaluates).status is not CellStatus.FINISHED:
            return NOT_STARTED, 0.0
        prepare(cell)
        begin = time.monotonic()
        with (cell.folder / LOG).open("ab") as log:
            with self._lock:
                if self._stopping:
                    return NOT_STARTED, 0.0
                family = Descendants()
                process = subprocess.Popen(
                    [self.command, "train", cell.folder / RECIPE],
                    env=environment(self.jobs) | family.env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
                self._processes[process] = family
            code = process.wait()
        with self._lock:
            self._processes.pop(process)
        return code, time.monotonic() - begin

    def _note_end(self, cell: Cell, code: int, seconds: float) -> str:
        if code == 0:
            try:
                report = Report.read(cell.folder)
                self._keep(cell, report)
                return f"{cell.name}: {_score_line(report)} ({seconds:.0f} s)"
            except ValueError as error:
                self.failures.append(Failure(cell, str(error)))
        elif code == NOT_STARTED and cell.evaluates is not None:
            reason = f"was not started, for there is no finished run in {cell.evaluates.folder}."
            self.failures.append(Failure(cell, reason))
        else:
            self.failures.append(Failure(cell, f"ended with {code}: {last_line(cell)}"))
        return f"{cell.name}: {self.failures[-1].reason}"

    def _stop(self) -> None:
        """End what is still running, torchrun's processes too; each cell goes on from its last commit when started again."""
        with self._lock:
            self._stopping = True
            for process, family in self._processes.items():
                process.terminate()
                family.send(signal.SIGTERM)


def _score_line(report: Report) -> str:
    shown = {"Last": report.last, "Avg": report.avg}
    return "   ".join(f"{name} {value:.2f}" for name, value in shown.items() if value is not None)


def llamafactory_cli() -> Path:
    """`llamafactory-cli` of this environment.

    Raises:
        FcitError: there is none.
    """
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("llamafactory-cli", path=places)
    if found is None:
        raise FcitError("llamafactory-cli is not on the PATH; activate the environment of LLaMA-Factory.")
    return Path(found)


def environment(jobs: int) -> dict[str, str]:
    """The environment of a cell's process. Fewer threads can be asked for: with another number of them last digits differ."""
    share = max(1, _cores() // jobs)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    own = {"OMP_NUM_THREADS": str(min(share, int(asked)) if asked.isdecimal() and int(asked) else share)}
    return {**{key: value for key, value in os.environ.items() if key != "TORCH_DEVICE_BACKEND_AUTOLOAD"}, **own}


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
