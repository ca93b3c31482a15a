"""Disk space of a run: its tensor files, exact from shapes. JSON, pictures and logs beside them are some hundred kilobytes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Disk:
    """Bytes on disk of one run.

    Attributes:
        commits: Of the commit before the first round, and of that after each round.
        kept: How many commits are kept, 0 for all (``save_total_limit``).
        replies: Of all clients' replies of one round, which are kept until it ends.
        updates: Of the updates that are kept for good (``fcit_keep_client_updates``).
    """

    commits: Sequence[int]
    kept: int
    replies: int
    updates: int

    @property
    def commit(self) -> int:
        """Of the last commit, which is what a finished run leaves in ``output_dir``, too."""
        return self.commits[-1]

    @property
    def most(self) -> int:
        """At most at one time: the commits that are kept with one that is being written, a round's replies, and the results."""
        held = self.commits[-(self.kept + 1) :] if self.kept else self.commits
        return sum(held) + max(self.replies, self.commit) + self.updates

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return asdict(self) | {"commit": self.commit, "most": self.most}
