"""Numbers that others published, to stand beside ours."""

from dataclasses import dataclass

from typing_extensions import TypedDict

from ..schema import Number, Word


class PublishedForm(TypedDict):
    """What a grid file says of them."""

    source: Word
    beta: Number
    scores: dict[Word, dict[Word, dict[Word, Number]]]


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
    def of(cls, given: PublishedForm | None) -> "Published | None":
        """Return what a grid file says, None if it says nothing."""
        return None if given is None else cls(given["source"], given["beta"], given["scores"])

    def scores_of(self, setting: str, beta: float, row: str) -> dict[str, float]:
        """Return measure -> score of a row; empty if nothing was published."""
        return self.scores.get(setting, {}).get(row, {}) if beta == self.beta else {}
