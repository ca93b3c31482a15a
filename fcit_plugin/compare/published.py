"""Numbers that others published, to stand beside ours."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FcitError


@dataclass(frozen=True)
class Published:
    """Published scores of some rows.

    Attributes:
        source: where they stand.
        beta: `fcit_beta` that they were made at.
        scores: setting -> row -> measure (such as Last) -> score.
    """

    source: str
    beta: float
    scores: dict[str, dict[str, dict[str, float]]]

    @classmethod
    def read(cls, given: dict[str, Any] | None, path: Path) -> "Published | None":
        """Return what a grid file says, None if it says nothing.

        Raises:
            FcitError: it is not source, beta and scores; the sentence names the file.
        """
        if given is None:
            return None
        try:
            scores = {
                setting: {row: {name: float(score) for name, score in part.items()} for row, part in rows.items()}
                for setting, rows in given["scores"].items()
            }
            return cls(str(given["source"]), float(given["beta"]), scores)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FcitError(
                f"{path}: `published` needs `source`, `beta`, and `scores`: setting, row, measure, number ({error!r})."
            ) from error

    def scores_of(self, setting: str, beta: float, row: str) -> dict[str, float]:
        """Return measure -> score of a row; empty if nothing was published."""
        return self.scores.get(setting, {}).get(row, {}) if beta == self.beta else {}
