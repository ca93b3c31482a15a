"""The accuracy matrix a[t][i], score of dataset i after stage t, and what is read off it (docs/reference/metrics.md)."""

import math
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from statistics import fmean

from ..errors import FcitError
from ..files import write_rows
from ..schema import Number

Row = list[Number | None]


class AccuracyMatrix:
    """Scores stage by stage.

    Args:
        datasets: names of the columns in their order; names that appear later are appended.
    """

    def __init__(self, datasets: Sequence[str] = ()) -> None:
        self._datasets = list(datasets)
        self._scores: list[dict[str, float]] = []

    def add(self, stage: int, scores: Mapping[str, float]) -> None:
        """Add the scores after `stage`, from 0 to 100. Stages left out in between become empty rows.

        Raises:
            FcitError: the stage was added before or lies before the last one, or a score is not finite.
        """
        if stage < len(self._scores):
            raise FcitError(f"Stage {stage} cannot be added: the matrix already has {len(self._scores)} stages.")
        for dataset, value in scores.items():
            if not math.isfinite(value):
                raise FcitError(f"The score of {dataset} after stage {stage} is {value}.")

        self._scores.extend({} for _ in range(stage - len(self._scores)))
        self._scores.append({dataset: float(value) for dataset, value in scores.items()})
        self._datasets.extend(dataset for dataset in scores if dataset not in self._datasets)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self._datasets)

    @property
    def rows(self) -> list[Row]:
        """a: one row per stage, one column per dataset, None where the dataset was not (yet) evaluated."""
        return [[scores.get(dataset) for dataset in self._datasets] for scores in self._scores]

    @property
    def last(self) -> float:
        """Last = mean over the datasets evaluated after the last stage T of a[T][i]; evaluating all seen is D_T.

        Raises:
            FcitError: nothing was evaluated after the last stage.
        """
        return fmean(self._last_scores().values())

    @property
    def avg(self) -> float:
        """Avg = mean over the stages t of the mean of row t; empty rows are left out.

        Raises:
            FcitError: nothing was evaluated after the last stage.
        """
        self._last_scores()
        return fmean(fmean(scores.values()) for scores in self._scores if scores)

    @property
    def forgetting(self) -> float:
        """Mean over i of max_t a[t][i] - a[T][i], where t runs over all stages, T among them: never negative.

        i runs over the datasets that were evaluated after the last stage T and after an earlier one. Those
        that are new in T can have lost nothing and would only dilute it. 0 if there are none, as with one stage.

        Raises:
            FcitError: nothing was evaluated after the last stage.
        """
        return self._mean_change(lambda scores: max(scores) - scores[-1])

    @property
    def bwt(self) -> float:
        """Backward transfer: mean over i of a[T][i] - a[first stage that has i][i], over the same i as `forgetting`.

        Raises:
            FcitError: nothing was evaluated after the last stage.
        """
        return self._mean_change(lambda scores: scores[-1] - scores[0])

    def fwt(self, zero_shot: Mapping[str, float]) -> float:
        """Transfer against the untuned model: mean over i of a[first stage that has i][i] - zero_shot[i].

        i runs over the datasets that have both numbers.

        Raises:
            FcitError: there is no such dataset.
        """
        gains = [
            column[0] - zero_shot[dataset]
            for dataset in self._datasets
            if dataset in zero_shot and (column := self._column(dataset))
        ]
        if not gains:
            raise FcitError("No dataset has both a zero-shot score and one after a stage.")
        return fmean(gains)

    def to_list(self) -> list[Row]:
        """Return `rows`, ready for JSON."""
        return self.rows

    @classmethod
    def from_list(cls, datasets: Sequence[str], rows: Sequence[Row]) -> "AccuracyMatrix":
        """Rebuild a matrix from its `datasets` and `to_list`.

        Raises:
            FcitError: a row has not one entry for each dataset.
        """
        matrix = cls(datasets)
        for stage, row in enumerate(rows):
            if len(row) != len(datasets):
                raise FcitError(f"After stage {stage} there are {len(row)} scores, but {len(datasets)} datasets.")
            matrix.add(stage, {name: a for name, a in zip(datasets, row, strict=True) if a is not None})
        return matrix

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write one line per stage and one column per dataset, empty where None."""
        write_rows(Path(path), [["stage", *self._datasets], *([stage, *row] for stage, row in enumerate(self.rows))])

    def _last_scores(self) -> dict[str, float]:
        if not self._scores or not self._scores[-1]:
            raise FcitError("The accuracy matrix has no scores after the last stage.")
        return self._scores[-1]

    def _column(self, dataset: str) -> list[float]:
        """a[., i] without the stages that lack i."""
        return [scores[dataset] for scores in self._scores if dataset in scores]

    def _mean_change(self, change: Callable[[list[float]], float]) -> float:
        columns = [self._column(dataset) for dataset in self._last_scores()]
        return fmean([change(column) for column in columns if len(column) > 1] or [0.0])
