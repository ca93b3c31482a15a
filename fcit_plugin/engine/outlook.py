"""What a run has before it: which evaluations, how many answers and steps, and how long they will take."""

from dataclasses import dataclass

from .session import Session


@dataclass(frozen=True)
class Ahead:
    """What is still to be done of a run.

    Attributes:
        steps: Optimizer steps.
        answers: Test records to be answered.
    """

    steps: int
    answers: int


class Pace:
    """How long this process takes for a step and for an answer; both count with all that is around them."""

    def __init__(self) -> None:
        self._seconds = {"step": 0.0, "answer": 0.0}
        self._done = {"step": 0, "answer": 0}

    def trained(self, seconds: float, steps: int) -> None:
        """So many steps took so long."""
        self._add("step", seconds, steps)

    def answered(self, seconds: float, answers: int) -> None:
        """So many test records took so long."""
        self._add("answer", seconds, answers)

    def _add(self, what: str, seconds: float, count: int) -> None:
        self._seconds[what] += seconds
        self._done[what] += count

    def left(self, ahead: Ahead) -> float | None:
        """The seconds that what is ahead will take; None as long as that cannot be told."""
        found = 0.0
        for what, count in (("step", ahead.steps), ("answer", ahead.answers)):
            if count and not self._done[what]:
                return None
            found += count * self._seconds[what] / max(self._done[what], 1)
        return found


class Outlook:
    """What is ahead of a run at any of its rounds.

    Args:
        session: The run's.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._args = session.args

    def is_evaluated(self, stage: int, round: int) -> bool:
        """Whether the datasets seen are evaluated after a round."""
        ends = round + 1 == self._args.fcit_num_rounds
        last = ends and stage + 1 == self._session.scenario.num_stages
        return {"round": True, "stage": ends, "last": last, "never": False}[self._args.fcit_eval_every]

    def num_tests(self, name: str) -> int:
        """How many test records of a dataset are answered."""
        return len(self._session.pipeline.test(name).head(self._args.fcit_eval_samples))

    def records(self) -> dict[str, tuple[int, int]]:
        """By dataset of the stages how many records are trained on, and tested with."""
        session, evaluates = self._session, self._args.fcit_eval_every != "never"
        names = session.scenario.datasets_to_train()
        if session.sites is None:
            trained = {name: len(session.pipeline.train(name)) for name in names}
        else:
            trained = session.sites.records(names)
        return {name: (trained[name], self.num_tests(name) if evaluates else 0) for name in names}

    def answers(self, stage: int, round: int) -> int:
        """How many test records are answered from the end of a round's training on."""
        found = 0
        for later in range(stage, self._session.program.num_stages):
            first = round if later == stage else 0
            times = sum(self.is_evaluated(later, number) for number in range(first, self._args.fcit_num_rounds))
            if times:
                found += times * sum(map(self.num_tests, self._session.scenario.seen_datasets(later)))
        return found
