"""By which metrics the answers to a dataset are scored: what ``dataset_info.json`` and the recipe say together."""

from dataclasses import dataclass
from typing import Any

from ..errors import FcitError
from ..evaluation.captions import COCO
from ..evaluation.metrics import get_metric

#: Value of ``fcit_metric`` that stands for what the recipe's ``fcit_caption_metric`` names.
CAPTION = "caption"


@dataclass(frozen=True)
class Scoring:
    """The metrics of one dataset, by registered name.

    Attributes:
        main: Gives the score.
        also: Further ones, each reported under its own name.
    """

    main: str
    also: tuple[str, ...]


def scoring(name: str, entry: dict[str, Any], caption_metric: str) -> Scoring:
    """The metrics of a dataset: ``fcit_metric`` (default: exact_match) and ``fcit_also`` of its entry.

    Args:
        name: The dataset, for messages.
        entry: Its entry.
        caption_metric: The recipe's ``fcit_caption_metric``.

    Raises:
        FcitError: A metric is unknown; the sentence names the dataset and the nearest metric.
    """
    main, also = entry.get("fcit_metric", "exact_match"), entry.get("fcit_also", [])
    if not isinstance(also, list):
        raise FcitError(f"`fcit_also` of the dataset {name} must be a list of metrics, got {also!r}.")
    if main == CAPTION:
        main = caption_metric
    if main == "coco":
        also = [*also, *(part for part in COCO if part != main)]
    for metric in (main, *also):
        try:
            get_metric(metric)
        except ValueError as error:
            raise FcitError(f"dataset_info.json, dataset `{name}`: {error}") from error
    return Scoring(main, tuple(dict.fromkeys(also)))
