"""How one answer is scored (spec, section 7). A metric gives a number from 0 to 1; `score` a mean from 0 to 100."""

import difflib
import re
from collections.abc import Callable, Sequence

from ..plugins import registry

Answer = str | Sequence[str] | Sequence[float]
"""A reference: a text, for `caption` also several texts, for `iou` also four numbers."""

Metric = Callable[[str, Answer], float]

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_BOX = re.compile(rf"({_NUMBER})" + rf"[\s,;]+({_NUMBER})" * 3)


def exact_match(prediction: str, answer: str) -> float:
    """Return 1 if both texts are equal, spaces at the ends and case aside, else 0."""
    return float(prediction.strip().upper() == answer.strip().upper())


def substring(prediction: str, answer: str) -> float:
    """Return 1 if the prediction is a part of the answer, else 0: the research code's rule for DVQA and FigureQA.

    An empty prediction passes, so this is reported beside `exact_match` and never instead of it.
    """
    return float(prediction.strip().upper() in answer.strip().upper())


def iou(prediction: str, answer: str | Sequence[float]) -> float:
    """Return 1 if the boxes (x1, y1, x2, y2) overlap with intersection over union above 0.5, else 0.

    The box of a text is its first four numbers in a row, with commas or spaces between them.
    A prediction without one counts as wrong.

    Raises:
        ValueError: the answer holds no box.
    """
    reference = _parse_box(answer) if isinstance(answer, str) else tuple(answer)
    if reference is None or len(reference) != 4:
        raise ValueError(f"The answer {answer!r} is no box of four numbers.")
    box = _parse_box(prediction)
    return float(box is not None and _iou(box, reference) > 0.5)


def caption(prediction: str, answer: str | Sequence[str]) -> float:
    """Return ROUGE-L: F-measure of the longest common subsequence of words, the best over all references.

    With l its length, P = l / words of the prediction, R = l / words of the reference, F = 2PR / (P + R).
    """
    references = [answer] if isinstance(answer, str) else answer
    return max((_rouge_l(_words(prediction), _words(reference)) for reference in references), default=0.0)


METRICS: dict[str, Metric] = {"exact_match": exact_match, "substring": substring, "iou": iou, "caption": caption}


def get_metric(name: str) -> Metric:
    """Return a registered metric (hook `fcit_metrics`) by name.

    Raises:
        ValueError: no such metric; names the nearest.
    """
    metrics = registry("metrics")
    if name not in metrics:
        nearest = difflib.get_close_matches(str(name), metrics, n=1, cutoff=0.0)[0]
        raise ValueError(f"The metric {name!r} is unknown; did you mean {nearest!r}? Valid are {', '.join(metrics)}.")
    return metrics[name]


def score(metric: str, predictions: Sequence[str], answers: Sequence[Answer]) -> float:
    """Return the mean of a metric over one data set, from 0 to 100.

    Raises:
        ValueError: unknown metric, no predictions, or not one answer for each prediction.
    """
    rate = get_metric(metric)
    if not predictions or len(predictions) != len(answers):
        raise ValueError(f"{len(predictions)} predictions cannot be scored against {len(answers)} answers.")
    return 100 * sum(rate(*pair) for pair in zip(predictions, answers, strict=True)) / len(predictions)


def label_set(answers: Sequence[str], limit: int = 64) -> tuple[str, ...] | None:
    """Return the sorted distinct answers of a data set, or None if there are more than `limit`: open answers."""
    labels = set(answers)
    return tuple(sorted(labels)) if len(labels) <= limit else None


def _parse_box(text: str) -> tuple[float, ...] | None:
    found = _BOX.search(text)
    return tuple(float(number) for number in found.groups()) if found else None


def _iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes; 0 if neither has an area."""
    inside = _area((*map(max, one[:2], other[:2]), *map(min, one[2:], other[2:])))
    union = _area(one) + _area(other) - inside
    return inside / union if union > 0 else 0.0


def _area(box: Sequence[float]) -> float:
    """Area of (x1, y1, x2, y2), 0 if its corners are the wrong way round."""
    x1, y1, x2, y2 = box
    return max(x2 - x1, 0.0) * max(y2 - y1, 0.0)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _rouge_l(prediction: Sequence[str], reference: Sequence[str]) -> float:
    """F = 2PR / (P + R), which is 2l / (words of both)."""
    longest = [0] * (len(reference) + 1)
    for word in prediction:
        above = longest[:]
        for j, other in enumerate(reference):
            longest[j + 1] = above[j] + 1 if word == other else max(above[j + 1], longest[j])
    words = len(prediction) + len(reference)
    return 2 * longest[-1] / words if words else 0.0
