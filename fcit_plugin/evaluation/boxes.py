"""Boxes in texts and their overlap, for grounding (docs/reference/metrics.md)."""

import re
from collections.abc import Sequence

from ..errors import FcitError
from .answers import Answer

Box = tuple[float, float, float, float]

# a number that nothing is glued to: 10% and 4px are no coordinates, for nobody said what to divide them by. The full stop of a
# sentence is not glued to it, but that of 1.2.3 is
_NUMBER = r"(?<![\w.%])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?!\.*[\w%])"
_RUN = re.compile(rf"{_NUMBER}(?:[\s,;]+{_NUMBER})*")


def iou(prediction: str, answer: Answer) -> float:
    """Return 1 if the boxes (x1, y1, x2, y2) overlap with intersection over union above 0.5, else 0.

    A prediction is taken as it stands: nothing is rescaled and no corners are swapped. A text without a box
    counts as wrong, and so does a box whose corners are the wrong way round, for it holds no area.

    Raises:
        FcitError: the answer holds no box.
    """
    reference = parse_box(answer) if isinstance(answer, str) else _as_box(answer)
    if reference is None:
        raise FcitError(f"The answer {answer!r} is not a box of four numbers.")
    box = parse_box(prediction)
    return float(box is not None and _iou(box, reference) > 0.5)


def parse_box(text: str) -> Box | None:
    """Return the first box of a text, or None.

    A box is four numbers in a row, with commas, semicolons, spaces or line breaks between them, in brackets or
    not. Five in a row are none.
    """
    runs = ([float(number) for number in re.findall(_NUMBER, run.group())] for run in _RUN.finditer(text))
    return next((box for run in runs if (box := _as_box(run))), None)


def _as_box(values: Sequence[str] | Sequence[float]) -> Box | None:
    """The values as a box, None if they are not four numbers."""
    numbers = [value for value in values if not isinstance(value, str)]
    if len(values) != 4 or len(numbers) != 4:
        return None
    x1, y1, x2, y2 = numbers
    return x1, y1, x2, y2


def _iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes; 0 if neither has an area."""
    inside = _area((max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])))
    union = _area(one) + _area(other) - inside
    return inside / union if union > 0 else 0.0


def _area(box: Box) -> float:
    """Area of (x1, y1, x2, y2), 0 if its corners are the wrong way round."""
    x1, y1, x2, y2 = box
    return max(x2 - x1, 0.0) * max(y2 - y1, 0.0)
