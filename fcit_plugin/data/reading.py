"""A dataset's records through LLaMA-Factory's own reader, wherever they are, and which of them are used."""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from datasets import Dataset
from llamafactory.data.converter import get_dataset_converter
from llamafactory.data.loader import _load_single_dataset
from llamafactory.data.parser import get_dataset_list
from llamafactory.extras import logging

from ..fcit_benchmark.records import json_kind, with_article
from .catalogue import Catalogue, find_in_benchmark
from .diagnosis import diagnosed, place_of, raw_record, refusal, verdict_on
from .forms import Form, Use, leaves_out, standard_fault, tag_fault
from .image_faults import missing_image
from .left_out import LeftOut
from .named import Named
from .raw_records import check_folder, plain_records
from .telling_order import TELLING

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class UsedRecords:
    """The records of a dataset that are used.

    Attributes:
        rows: They, in LLaMA-Factory's standard form.
        kept: The index of each among all records of the dataset.
        left_out: The others.
    """

    rows: Dataset
    kept: Sequence[int]
    left_out: LeftOut


def used_records(
    catalogue: Catalogue,
    name: Named,
    use: Use,
    model_args,
    data_args,
    training_args,
    *,
    strict: bool = False,
) -> UsedRecords:
    """Read a dataset, without the records that LLaMA-Factory leaves out.

    Args:
        catalogue: Has the dataset.
        name: Its name.
        use: What its records are for.
        model_args: LLaMA-Factory's model arguments.
        data_args: Its data arguments.
        training_args: Its training arguments.
        strict: Records that it leaves out are refused (``fcit_strict_records``).

    Raises:
        FcitError: It cannot be read, or a record is malformed; the sentence names dataset, file and record.
    """

    @cache
    def converter() -> Any:
        attributes = _attributes(catalogue, name)
        return get_dataset_converter(attributes.formatting, attributes, data_args)

    def convert(record: dict[str, Any]) -> Any:
        return converter()(record)

    check_folder(name, catalogue)
    with diagnosed(name, catalogue, use, convert):
        aligned = aligned_records(catalogue, name, model_args, data_args, training_args)
        part = catalogue.rows(name, len(aligned), training_args.seed, data_args.max_samples)
    numbers = range(len(aligned)) if part is None else part.tolist()
    rows = aligned if part is None else aligned.select(numbers)
    kept, left_out = list[int](), list[int]()
    for i, row in zip(numbers, plain_records(rows, ["_prompt", "_response", "_system", "_tools"]), strict=True):
        if leaves_out(len(row["_prompt"]), len(row["_response"]), use):
            left_out.append(i)
            continue
        fault = standard_fault(row)
        if fault is not None:
            raise refusal(name, catalogue, i, verdict_on(name, catalogue, use, i).broken or fault)
        kept.append(i)
    why = dict.fromkeys(left_out, "")
    if left_out:
        reason = verdict_on(name, catalogue, use, left_out[0]).left_out
        why[left_out[0]] = reason or "LLaMA-Factory finds it invalid"
    found = LeftOut(name, len({*numbers}), why)
    found.tell(catalogue, strict, log=training_args.local_process_index == 0)
    return UsedRecords(aligned.select(kept) if left_out else rows, kept, found)


def refuse_empty(name: Named, catalogue: Catalogue, kept: Sequence[int], what: str, texts: Sequence[str]) -> None:
    """Refuse records without a text that is needed.

    Args:
        name: The dataset.
        catalogue: Has it.
        kept: The index of each record among all of the dataset.
        what: What the text is.
        texts: One for each record.

    Raises:
        FcitError: The sentence names the first.
    """
    empty = next((i for i, text in zip(kept, texts, strict=True) if not text.strip()), None)
    if empty is not None:
        problem = _other_than_text(name, catalogue, empty) if what == "answer" else None
        raise refusal(name, catalogue, empty, problem or f"it has no {what}")


def _other_than_text(name: Named, catalogue: Catalogue, index: int) -> str | None:
    """What stands in the place of an answer that LLaMA-Factory does not see, for it takes texts alone."""
    column = Form.of(catalogue.entry(name)).column("response")
    value = (raw_record(name, catalogue, index) or {}).get(column) if column else None
    return None if isinstance(value, str | None) else f"its `{column}` is {with_article(json_kind(value))} and no text"


def refuse_images(name: Named, catalogue: Catalogue, kept: Sequence[int], rows: Dataset, tags: bool) -> None:
    """Refuse records whose images are not there or do not match their tags, and warn of images that lie elsewhere.

    LLaMA-Factory sees it only where it tokenizes, which is not done with all records before a run. It joins a record's path to
    ``media_dir``, and so takes any image of the machine, which records of one's own may name and those of others should not.

    Args:
        name: The dataset.
        catalogue: Has it.
        kept: The index of each record among all of the dataset.
        rows: The records in the standard form.
        tags: The template has a tag for an image.

    Raises:
        FcitError: The sentence names the first.
    """
    folder, elsewhere = catalogue.media_root(name), list[tuple[int, str]]()
    for i, row in zip(kept, plain_records(rows, ["_prompt", "_response", "_images"]), strict=True):
        images = row["_images"] or []
        fault = next(filter(None, map(missing_image, images)), None)
        if fault is None and tags:
            turns = row["_prompt"] + row["_response"][:1]
            fault = tag_fault((turn["content"] for turn in turns), len(images))
        if fault is not None:
            raise refusal(name, catalogue, i, fault)
        elsewhere += [(i, image) for image in images if isinstance(image, str) and folder and not _lies_in(folder, image)]
    if elsewhere:
        i, image = elsewhere[0]
        file, record = place_of(catalogue, name, i)
        logger.warning_rank0(
            f"Dataset `{name}`: {len(elsewhere)} images lie outside of `media_dir` ({folder}) and are read there; the first is "
            f"{image} of {file}, record {record}. If the records are not your own, look at what they name."
        )


def _lies_in(folder: str, path: str) -> bool:
    """Whether a path leads into a folder by its name; links are their owner's."""
    root = os.path.abspath(folder)
    return os.path.commonpath([root, os.path.abspath(path)]) == root


def aligned_records(catalogue: Catalogue, name: Named, model_args, data_args, training_args) -> Dataset:
    """All records of a dataset's entry in LLaMA-Factory's standard form; :meth:`Catalogue.rows` says which are the dataset's.

    Args:
        catalogue: Has the dataset.
        name: Its name.
        model_args: LLaMA-Factory's model arguments.
        data_args: Its data arguments.
        training_args: Its training arguments.
    """
    attributes = _attributes(catalogue, name)
    if attributes.num_samples is not None:  # they are drawn from all, and then `max_samples` counts
        data_args = copy.copy(data_args)
        attributes.num_samples = data_args.max_samples = None
    return _load_single_dataset(attributes, model_args, data_args, training_args)


def _attributes(catalogue: Catalogue, name: Named) -> Any:
    (attributes,) = get_dataset_list([str(name)], {str(name): catalogue.entry(name)})
    if not catalogue.is_users(name):
        find_in_benchmark(attributes, catalogue.entry_name(name), catalogue.benchmark)
    setattr(attributes, TELLING, True)
    return attributes
