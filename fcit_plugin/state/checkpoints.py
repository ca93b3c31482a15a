"""Commits: after every round the whole run as one sealed folder, and which of them to go on from.

``output_dir/checkpoints/round-<n>`` holds the run after n rounds: a complete state folder (it can be served, and rounds
by folders can begin from it), what the run has measured, its log, and the recipe that made it.
``round-<n>.replies`` holds what the clients of the round in progress have sent so far.

No torch here: what a commit holds is written and read by :mod:`.state`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .sealed import clean, discard, problems, seal

FOLDER = "checkpoints"
#: What a commit holds beside the state folder's own files.
PROGRESS, RECIPE = "progress.json", "recipe.json"
#: A run of thousands of rounds would fill the disk; two leave one to fall back on.
DEFAULT_LIMIT = 2


@dataclass(frozen=True)
class NewestCommit:
    """What there is to go on from.

    Attributes:
        good: The newest commit whose sums are right, None if there is none.
        bad: Commits newer than that, each with what is wrong with it.
    """

    good: Path | None
    bad: Mapping[Path, list[str]]


class Checkpoints:
    """The commits of one run.

    Args:
        output_dir: The run's output folder.
        limit: How many commits to keep; None means :data:`DEFAULT_LIMIT`, 0 all of them.
    """

    def __init__(self, output_dir: Path, limit: int | None = None) -> None:
        self.folder = output_dir / FOLDER
        self.limit = DEFAULT_LIMIT if limit is None else limit

    def commits(self) -> list[Path]:
        """The commits, oldest first, whether they are good or not."""
        return _numbered(self.folder, r"round-(\d+)")

    def newest_good(self) -> NewestCommit:
        """The commit to go on from; what is wrong with newer ones."""
        bad: dict[Path, list[str]] = {}
        for folder in reversed(self.commits()):
            if not (wrong := problems(folder)):
                return NewestCommit(folder, bad)
            bad[folder] = wrong
        return NewestCommit(None, bad)

    def path(self, number: int) -> Path:
        """The commit after ``number`` rounds."""
        return self.folder / f"round-{number:04d}"

    def replies(self, number: int) -> Path:
        """Where the replies to the state after ``number`` rounds are kept."""
        return self.folder / f"round-{number:04d}.replies"

    def pending_replies(self) -> list[Path]:
        """The replies that are kept for rounds not yet committed, one sealed folder for each client."""
        folders = _numbered(self.folder, r"round-(\d+)\.replies")
        return [reply for folder in folders for reply in _numbered(folder, r"client-(\d+)")]

    def commit(self, number: int, write: Callable[[Path], None]) -> None:
        """Make the run after ``number`` rounds the current one, and drop what is no longer needed.

        Args:
            number: Rounds so far, over all stages.
            write: Writes everything into the folder that it is given.

        Raises:
            OSError: It cannot be written; the commit before stays the current one.
        """
        seal(self.path(number), write)
        for folder in self.commits()[: -self.limit] if self.limit > 0 else []:
            discard(folder)
        for folder in _numbered(self.folder, r"round-(\d+)\.replies"):
            discard(folder)

    def go_back_to(self, number: int | None) -> None:
        """Leave nothing that is newer than the commit after ``number`` rounds but the replies to it.

        Args:
            number: None leaves nothing at all.
        """
        if not self.folder.is_dir():
            return
        clean(self.folder)
        for folder in self.commits():
            if number is None or number_of(folder) > number:
                discard(folder)
        for folder in _numbered(self.folder, r"round-(\d+)\.replies"):
            clean(folder)
            if number is None or number_of(folder) != number:
                discard(folder)


def number_of(folder: Path) -> int:
    """Rounds that a commit holds."""
    return int(re.findall(r"\d+", folder.name)[0])


def _numbered(parent: Path, pattern: str) -> list[Path]:
    """Folders whose whole name fits the pattern, in the order of their numbers."""
    try:
        fitting = [path for path in parent.iterdir() if path.is_dir() and re.fullmatch(pattern, path.name)]
    except (FileNotFoundError, NotADirectoryError):  # a run takes away what it needs no more, whoever looks on
        return []
    return sorted(fitting, key=number_of)
