"""Where a run begins: at the beginning, or after the last round of an earlier run that was committed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from llamafactory.extras import logging
from llamafactory.extras.constants import TRAINER_LOG

from ..errors import FcitError
from ..federation.client_states import ClientStates
from ..files import inside, read_as, read_lines_as
from ..state.checkpoints import FOLDER, RECIPE, Checkpoints, number_of
from ..state.folder import StateFolder
from ..state.forms import LogLine, Recipe
from ..state.progress import Progress
from ..state.sealed import problems
from ..state.server_state import ServerState
from .fingerprint import SETTLED, check_same
from .processes import Processes

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class Start:
    """A commit to go on from.

    Attributes:
        folder: The commit.
        number: Rounds that it holds.
        recipe: What it was made with: "keys", "data".
    """

    folder: Path
    number: int
    recipe: dict[str, dict[str, Any]]

    @property
    def manifest(self) -> dict[str, Any]:
        """What the state in it was made with."""
        return StateFolder(self.folder).manifest

    def is_in(self, checkpoints: Checkpoints) -> bool:
        """Whether it is one of these commits."""
        return self.folder.resolve().parent == checkpoints.folder.resolve()

    def load(self, processes: Processes) -> tuple[ServerState, Progress, list[dict[str, Any]]]:
        """The server's state, how far the run had come, and its log; the main process reads and tells the others."""
        loaded = processes.from_main(_load(self.folder) if processes.is_main else None)
        assert loaded is not None  # it is the main process's
        return loaded

    def client_states(self, processes: Processes) -> ClientStates:
        """What the simulated clients had kept to themselves; read and told in the same way."""
        states = ClientStates()
        if processes.is_main:
            states.read(self.folder)
        return processes.from_main(states)

    def check(self, part: str, ours: dict[str, Any], arguments: tuple[Any, ...] = ()) -> None:
        """Refuse a recipe that would give other numbers; see :func:`fcit_plugin.engine.fingerprint.check_same`.

        Commits of older versions leave keys out that were at their default of then; the manifest has these.
        """
        manifest = self.manifest if part == "keys" else {}
        known = {key: manifest[name] for key, name in SETTLED.items() if name in manifest}
        check_same({**known, **self.recipe[part]}, ours, arguments, self.folder)


def find_start(training_args, stage: str | None, processes: Processes) -> Start | None:
    """The commit that this run goes on from, None to begin again. All processes get the same answer.

    LLaMA-Factory's habits: ``resume_from_checkpoint`` says so, with true or a path; without it an output folder that holds
    an earlier run goes on, unless ``overwrite_output_dir`` is true.

    Raises:
        FcitError: There is nothing good to go on from.
    """
    wanted = _wanted(training_args.resume_from_checkpoint)
    if stage != "fcit":
        if wanted:
            raise FcitError(f"`resume_from_checkpoint` belongs to `stage: fcit`; `stage: {stage}` is one step, run it again.")
        return None
    if wanted is False or (wanted is None and training_args.overwrite_output_dir):
        return None
    return processes.from_main(_find(Path(training_args.output_dir), wanted) if processes.is_main else None)


def _wanted(given: Any) -> bool | Path | None:
    if given is None or isinstance(given, bool):
        return given
    return {"true": True, "false": False, "": None}.get(str(given).lower(), Path(given))


def _load(folder: Path) -> tuple[ServerState, Progress, list[dict[str, Any]]]:
    held = StateFolder(folder)
    return held.load(), held.progress(), cast("list[dict[str, Any]]", read_lines_as(LogLine, inside(folder, TRAINER_LOG)))


def _find(output_dir: Path, wanted: bool | Path | None) -> Start | None:
    if isinstance(wanted, Path):
        if (wanted / RECIPE).is_file() or wanted.parent.name == FOLDER:
            for problem in problems(wanted):
                raise FcitError(f"`resume_from_checkpoint`: {problem}; name another commit.")
            logger.info_rank0(f"Resuming from {wanted}.")
            return _start(wanted)
        checkpoints = Checkpoints(wanted)
        if not checkpoints.commits():
            raise FcitError(f"`resume_from_checkpoint`: {wanted} is neither a commit nor a folder with {FOLDER}/ in it.")
    else:
        checkpoints = Checkpoints(output_dir)
    found = checkpoints.newest_good()
    for wrong in found.bad.values():
        logger.warning_rank0(f"{wrong[0]}; this commit is not used.")
    if found.good is not None:
        logger.info_rank0(f"Resuming from {found.good}.")
        if wanted is None:
            logger.info_rank0("Change `output_dir` or use `overwrite_output_dir` to avoid.")
        return _start(found.good)
    if found.bad:
        raise FcitError(
            f"None of the {len(found.bad)} commits in {checkpoints.folder} is good; "
            "set `overwrite_output_dir: true` and take `resume_from_checkpoint` out to begin again."
        )
    if wanted:
        logger.info_rank0(f"{output_dir} holds no commit to resume from yet; the run begins at the beginning.")
    return None


def _start(folder: Path) -> Start:
    StateFolder(folder).check()  # before keys are compared, which had other names in other formats
    return Start(folder, number_of(folder), cast("Any", read_as(Recipe, inside(folder, RECIPE))))
