"""What an evaluation gives: scores by dataset, and the answers of the first records."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..data.pipeline import Pipeline, Split
from ..data.scoring import Scoring
from ..evaluation.answers import Answer
from ..evaluation.metrics import score, score_of_one
from ..evaluation.rows import Prediction
from ..state.predictions import FOLDER, read_predictions, write_predictions

#: By dataset and number of the record.
Key = tuple[str, int]


@dataclass(frozen=True)
class Scores:
    """Scores from 0 to 100 by dataset.

    Attributes:
        free: The dataset's own metric.
        restricted: The same with answers restricted to the dataset's label set; None where the answers are open.
        other: By its further metrics: metric and score.
        likelihood: Mean negative log-likelihood of the right answers, in nats a token (:mod:`.likelihood`), where there is one.
        predictions: Answers to the first records of each dataset (``fcit_save_predictions``), in the main process alone.
    """

    free: dict[str, float]
    restricted: dict[str, float | None]
    other: dict[str, dict[str, float]]
    likelihood: dict[str, float] = dataclasses.field(default_factory=dict)
    predictions: list[Prediction] = dataclasses.field(default_factory=list)


@dataclass(frozen=True)
class Sample:
    """The test records of a dataset that are asked, and how the answers are scored."""

    name: str
    split: Split
    scoring: Scoring

    def score(self, metric: str, answers: Mapping[str, Sequence[str]]) -> float:
        """The score of the dataset's answers, in the records' order."""
        return score(metric, answers[self.name], self.split.answers, self.questions)

    @cached_property
    def questions(self) -> list[str]:
        """What the user of each record says, turn by turn."""
        return ["\n".join(turns) for turns in self.split.instructions]


def as_prediction(answer: Answer) -> str:
    """A text that answers like the reference: itself, the first of several, or a box in words."""
    if isinstance(answer, str):
        return answer
    return answer[0] if answer and isinstance(answer[0], str) else str(list(answer))


def predictions(
    samples: Sequence[Sample],
    pipeline: Pipeline,
    answers: Sequence[Mapping[str, Sequence[str]]],
    weights: Mapping[Key, np.ndarray],
    count: int,
) -> Iterator[Prediction]:
    """What is kept of an evaluation: of each of the first records the free answer and the one in labels.

    Args:
        samples: What was asked.
        pipeline: Gives the words of token ids.
        answers: By dataset in the records' order: the free ones, and those in labels.
        weights: What the subspaces weighed for each record, [K]; empty for the untuned model.
        count: How many records of each dataset.
    """
    for sample in samples:
        for number, answer in enumerate(sample.split.answers[:count]):
            weighed = [round(float(weight), 6) for weight in weights.get((sample.name, number), ())]
            largest = [k for k, weight in enumerate(weighed) if weight == max(weighed) and any(weighed)]
            prompt = pipeline.tokenizer.decode(sample.split.features[number]["input_ids"], skip_special_tokens=False)
            for restricted, texts in enumerate(answers):
                if sample.name in texts:
                    predict = texts[sample.name][number]
                    yield Prediction(
                        prompt=prompt,
                        predict=predict,
                        label=answer if isinstance(answer, str) else json.dumps(list(answer), ensure_ascii=False),
                        dataset=sample.name,
                        record=number,
                        restricted=bool(restricted),
                        subspace=largest[0] if len(largest) == 1 else None,
                        weights=weighed,
                        score=score_of_one(sample.scoring.main, predict, answer, sample.questions[number]),
                    )


def keep_answers(
    output_dir: Path, stage: int | None, answers: Sequence[Prediction], warn: Callable[[str], None], num_stages: int
) -> None:
    """Write what was answered after a stage (``predictions/``), and say it where something does not fit in.

    Args:
        output_dir: The run's output folder.
        stage: None for the untuned model; what an earlier run had it answer on other datasets stays.
        answers: What to keep.
        warn: Says it.
        num_stages: How many stages the run has: together their files have a bound, too.
    """
    if stage is None:
        now = {row["dataset"] for row in answers}
        before = read_predictions(output_dir).get(None, [])
        answers = [*(row for row in before if row["dataset"] not in now), *answers]
    left_out = write_predictions(output_dir, stage, answers, num_stages)
    if left_out:
        warn(
            f"{left_out} of {len(answers)} answers did not fit into a file of {output_dir / FOLDER}; lower "
            "`fcit_save_predictions` or `max_new_tokens`."
        )
