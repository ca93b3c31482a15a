"""How the answers to one dataset are scored, and the registry of the metrics (docs/reference/metrics.md)."""

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

from ..errors import FcitError, closest
from ..plugins import registry
from .answers import Answer, comparable, texts
from .boxes import iou
from .captions import COCO, rouge_l
from .others import code_similarity, contains, contains_word, match_without_spaces, normalized_match, option_letter
from .questions import anls, vqa
from .simplification import sari

Metric = Callable[[Sequence[str], Sequence[Answer]], float]
"""(predictions, answers) of a whole dataset -> score from 0 to 100."""


def mean_of(rate: Callable[[str, Answer], float]) -> Metric:
    """Return the metric that is the mean of a score from 0 to 1 for each record: (prediction, answer) -> score."""
    return _Mean(rate)


class _Mean:
    """See :func:`mean_of`; it rates single records, too.

    Args:
        rate: of a single record.
    """

    def __init__(self, rate: Callable[..., float]) -> None:
        self.rate = rate

    def __call__(self, predictions: Sequence[str], answers: Sequence[Answer], *beside: Sequence[str]) -> float:
        """Return the score of the records."""
        records = zip(predictions, answers, *beside, strict=True)
        return 100 * sum(self.rate(*record) for record in records) / len(predictions)


def mean_beside_questions(rate: Callable[[str, Answer, str], float]) -> "BesideQuestions":
    """Return the metric that is the mean of (prediction, answer, question) -> score from 0 to 1.

    The question is what the user of the record says, turn by turn, with a line break between turns.
    """
    return BesideQuestions(rate)


class BesideQuestions(_Mean):
    """See :func:`mean_beside_questions`: (predictions, answers, questions) of a whole dataset -> score from 0 to 100."""


def best_of(rate: Callable[[str, str], float]) -> Callable[[str, Answer], float]:
    """Return the score of a record whose answer may be one text or several: the best over them."""
    return lambda prediction, answer: max(rate(prediction, reference) for reference in texts(answer))


def exact_match(prediction: str, answer: str) -> float:
    """Return 1 if both texts are equal, spaces at the ends, case and the composition of letters aside, else 0."""
    return float(comparable(prediction).upper() == comparable(answer).upper())


def substring(prediction: str, answer: str) -> float:
    """Return 1 if the prediction is a part of the answer, else 0: the research code's rule for DVQA and FigureQA.

    An empty prediction passes, so this is reported beside `exact_match` and never instead of it.
    """
    return float(comparable(prediction).upper() in comparable(answer).upper())


METRICS: dict[str, Metric | BesideQuestions] = {
    "exact_match": mean_of(best_of(exact_match)),
    "substring": mean_of(best_of(substring)),
    "iou": mean_of(iou),
    "rouge_l": mean_of(best_of(rouge_l)),
    "vqa": mean_of(vqa),
    "anls": mean_of(best_of(anls)),
    "option_letter": mean_of(best_of(option_letter)),
    "contains": mean_of(best_of(contains)),
    "contains_word": mean_of(best_of(contains_word)),
    "match_without_spaces": mean_of(best_of(match_without_spaces)),
    "normalized_match": mean_of(best_of(normalized_match)),
    "code_similarity": mean_of(best_of(code_similarity)),
    "sari": mean_beside_questions(sari),
    **COCO,
}


def get_metric(name: str) -> Metric | BesideQuestions:
    """Return a registered metric (hook `fcit_metrics`) by name.

    Raises:
        FcitError: no such metric; names the nearest.
    """
    metrics = registry("metrics")
    if name not in metrics:
        raise FcitError(
            f"The metric {name!r} is unknown; did you mean {closest(str(name), metrics)!r}? Valid are {', '.join(metrics)}."
        )
    metric: Metric | BesideQuestions = metrics[name].load()
    return metric


def score(metric: str, predictions: Sequence[str], answers: Sequence[Answer], questions: Sequence[str] | None = None) -> float:
    """Return the score of one dataset by a registered metric, from 0 to 100.

    Args:
        metric: its name.
        predictions: of all records.
        answers: the right ones, in the same order.
        questions: what was asked, in the same order; some metrics look at it, too.

    Raises:
        FcitError: unknown metric, no predictions, not one answer and question for each prediction, no questions where the
            metric looks at them, or what it gives is no finite number.
    """
    rate = get_metric(metric)
    if not predictions or len(predictions) != len(answers):
        raise FcitError(f"{len(predictions)} predictions cannot be scored against {len(answers)} answers.")
    compared = [comparable(prediction) for prediction in predictions], [_comparable(answer) for answer in answers]
    if not isinstance(rate, BesideQuestions):
        return _number(rate(*compared), metric)
    if questions is None or len(questions) != len(predictions):
        told = "none" if questions is None else len(questions)
        raise FcitError(
            f"The metric {metric} looks at questions; give one for each of {len(predictions)} predictions, got {told}."
        )
    return _number(rate(*compared, questions), metric)


def _number(given: Any, metric: str) -> float:
    """What a metric, maybe of another package, has given: reports and commits hold finite numbers of Python's alone."""
    try:
        number = math.nan if isinstance(given, str | bytes) else float(given)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise FcitError(f"The metric {metric} gave {given!r:.100}; it has to give a finite number, whatever the answers are.")
    return number


def score_of_one(metric: str, prediction: str, answer: Answer, question: str | None = None) -> float | None:
    """Return the score of a single record, from 0 to 100; None where the metric is not the mean of such scores."""
    if not isinstance(get_metric(metric), _Mean):
        return None
    return score(metric, [prediction], [answer], None if question is None else [question])


def _comparable(answer: Answer) -> Answer:
    if isinstance(answer, str):
        return comparable(answer)
    return cast("Answer", [comparable(part) if isinstance(part, str) else part for part in answer])


def label_set(answers: Sequence[Answer], limit: int = 64) -> tuple[str, ...] | None:
    """Return the sorted distinct answers of a dataset, or None where answers are open.

    Open are more than `limit` distinct ones, and records with several answers or a box.
    """
    single = [answer for answer in answers if isinstance(answer, str)]
    labels = set(single)
    return tuple(sorted(labels)) if len(single) == len(answers) and len(labels) <= limit else None
