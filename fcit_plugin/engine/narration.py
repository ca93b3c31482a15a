"""What the log says of a run's course, in words that need no glossary."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from ..evaluation.matrix import AccuracyMatrix
from ..evaluation.plots import short_name
from ..evaluation.tables import plain
from .outlook import Ahead, Pace

#: Clients that are named in one line.
_NAMED = 12


class Narration:
    """Tells of rounds and stages as they go by.

    Args:
        rounds: The number of rounds of each stage, those of earlier runs among them.
        say: Logs a line.
        names: The names of the clients, where they have some.
        one: What one of them is.
    """

    def __init__(
        self, rounds: Sequence[int], say: Callable[[str], None], names: Sequence[str] | None = None, one: str = "client"
    ) -> None:
        self._rounds = rounds
        self._say = say
        self._names, self._one = names, one
        self._began = time.perf_counter()
        self._steps = 0
        self._left_out: dict[int, str] = {}
        self.pace = Pace()

    def run_begins(
        self, model: str, architecture: str, trained: int, whole: int, records: Mapping[str, tuple[int, int]]
    ) -> None:
        """A run is about to begin, or to go on.

        Args:
            model: The base model as the recipe names it.
            architecture: The name of its class.
            trained: How many of its weights a client trains.
            whole: How many it has.
            records: By dataset how many records are trained on, and tested with.
        """
        self._say(f"Base model {model} ({architecture}): {whole:,} weights, of which a client trains {trained:,}.")
        for name, (train, test) in records.items():
            tested = f"{test:,} to test with" if test else "none to test with"
            self._say(f"Dataset {name}: {train:,} records to train on, {tested}.")

    def round_begins(self, stage: int, round: int, asked: Sequence[Mapping[str, Any]], step: int) -> None:
        """Clients are asked to take part in a round.

        Args:
            stage: The stage, from 0.
            round: The round in it, from 0.
            asked: A "client" and its "task" each.
            step: Optimizer steps so far.
        """
        self._began, self._steps = time.perf_counter(), step
        by_task: dict[str, list[int]] = {}
        for row in asked:
            by_task.setdefault(row["task"], []).append(row["client"])
        who = "; ".join(f"{self.called(clients)} on {task}" for task, clients in by_task.items())
        again = " once more, for too few replied" if self._left_out else ""
        self._left_out.clear()
        number, count = sum(self._rounds[:stage]) + round + 1, sum(self._rounds)
        self._say(f"Stage {stage} round {round} (round {number} of {count} in all) begins{again}: {who}.")

    def called(self, clients: Iterable[int]) -> str:
        """Some clients in words: by name, or by number."""
        numbers, one = sorted(clients), self._one
        named = [str(number) if self._names is None else self._names[number] for number in numbers[:_NAMED]]
        if len(numbers) > _NAMED:
            return f"{one}s {', '.join(named)} and {len(numbers) - _NAMED} more"
        if len(numbers) == 1:
            return f"{one} {named[0]}"
        return f"{one}s {', '.join(named[:-1])} and {named[-1]}"

    def left_out(self, client: int, reason: str) -> None:
        """A client is left out of the round."""
        self._left_out[client] = reason

    def round_ended(self, stage: int, round: int, loss: float, subspaces: int, step: int, ahead: Ahead) -> None:
        """A round is over, its updates are folded in.

        Args:
            stage: The stage.
            round: The round in it.
            loss: The mean of the clients' losses.
            subspaces: How many there are now.
            step: Optimizer steps so far.
            ahead: What is still to be done.
        """
        took = time.perf_counter() - self._began
        self.pace.trained(took, step - self._steps)
        out = f"{self.called(self._left_out)} left out" if self._left_out else "all clients took part"
        self._left_out.clear()
        left = self.pace.left(ahead)
        until = "" if left is None else f"; about {_time(left)} to go, evaluation included"
        many = f"{subspaces} subspace{'s' * (subspaces != 1)}"
        self._say(f"Stage {stage} round {round} ends: loss {loss:.4f}, {many}, {out}; it took {_time(took)}{until}.")

    def scored(
        self, stage: int, round: int, scores: Mapping[str, float], matrix: AccuracyMatrix, untuned: Mapping[str, float]
    ) -> None:
        """Test records of the datasets seen so far are answered and scored.

        Args:
            stage: The stage.
            round: The round in it.
            scores: By dataset, from 0 to 100.
            matrix: The scores after the stages so far, this one among them if it is over.
            untuned: Scores of the untuned model.
        """
        over = len(matrix.rows) == stage + 1
        earlier = matrix.rows[: stage if over else len(matrix.rows)]
        before = dict(zip(matrix.datasets, earlier[-1], strict=True)) if earlier else {}
        rows = [["", "now", "a stage ago", "untuned"]]
        rows += [
            [short_name(name), *map(_cell, (value, before.get(name), untuned.get(name)))] for name, value in scores.items()
        ]
        if len(scores) > 1:
            rows.append(["mean", _cell(sum(scores.values()) / len(scores)), "", ""])
        when = f"stage {stage}" if over else f"stage {stage} round {round}"
        lost = f"\nForgotten so far: {matrix.forgetting:.2f} points a dataset." if over and earlier else ""
        self._say(f"Scores after {when}, from 0 to 100:\n{plain(rows)}{lost}")


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
