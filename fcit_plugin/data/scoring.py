"""By which metrics the answers to a data set are scored: what ``dataset_info.json`` and the recipe say together."""

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import FcitError
from ..evaluation.captions import COCO
from ..evaluation.metrics import get_metric
from .catalogue import TEST, dataset_entry, is_dataset

#: Value of ``fcit_metric`` that stands for what the recipe's ``fcit_caption_metric`` names.
CAPTION = "caption"


@dataclass(frozen=True)
class Scoring:
    """The metrics of one data set, by registered name.

    Attributes:
        main: Gives the score.
        also: Further ones, each reported under its own name.
    """

    main: str
    also: tuple[str, ...]


def scoring(name: str, dataset_dir: str, caption_metric: str) -> Scoring:
    """The metrics of a data set: ``fcit_metric`` (default: exact_match) and ``fcit_also`` of its entries.

    Args:
        name: Data set; the entry of its test records goes before that of its training records.
        dataset_dir: The recipe's ``dataset_dir``.
        caption_metric: The recipe's ``fcit_caption_metric``.

    Raises:
        FcitError: A metric is unknown; the sentence names the data set and the nearest metric.
    """
    trained = dataset_entry(name, dataset_dir) if is_dataset(name, dataset_dir) else {}  # it may have been long ago
    entry = {**trained, **dataset_entry(name + TEST, dataset_dir)}
    main, also = entry.get("fcit_metric", "exact_match"), entry.get("fcit_also", [])
    if not isinstance(also, list):
        raise FcitError(f"`fcit_also` of the data set {name} must be a list of metrics, got {also!r}.")
    if main == CAPTION:
        main = caption_metric
    if main == "coco":
        also = [*also, *(part for part in COCO if part != main)]
    for metric in (main, *also):
        try:
            get_metric(metric)
        except ValueError as error:
            raise FcitError(f"dataset_info.json, data set `{name}`: {error}") from error
    return Scoring(main, tuple(dict.fromkeys(also)))


def check_metrics(names: Iterable[str], dataset_dir: str, caption_metric: str) -> None:
    """Refuse data sets with unknown metrics, before anything is loaded; see :func:`scoring`."""
    for name in names:
        scoring(name, dataset_dir, caption_metric)
