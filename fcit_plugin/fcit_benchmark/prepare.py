"""The released files as plain LLaMA-Factory datasets (``formatting: sharegpt``), which need this plugin no longer."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..files import of_user, write_json
from ..folders import whole_folder
from .check import CheckedFile, check_root, check_test, check_train
from .images import check_images
from .layout import DatasetLayout
from .records import IMAGE, Defect
from .references import Reference

DATASET_INFO = "dataset_info.json"

_COLUMNS = {"messages": "conversations", "images": "images"}


@dataclass
class PrepareResult:
    """What became of the files.

    Attributes:
        written: Number of records written, by name of the dataset.
        defects: What was wrong; with ``written``, these records were left out.
    """

    written: dict[str, int] = field(default_factory=dict)
    defects: list[Defect] = field(default_factory=list)

    @property
    def dropped(self) -> dict[str, list[int]]:
        """The broken records by file."""
        found: dict[str, set[int]] = {}
        for defect in self.defects:
            if defect.record is not None:
                found.setdefault(defect.file, set()).add(defect.record)
        return {file: sorted(records) for file, records in found.items()}


def prepare(root: Path, out: Path, layouts: Sequence[DatasetLayout], drop_broken: bool = False) -> PrepareResult:
    """Convert datasets; nothing is written unless all of it can be.

    Each gets two files in ``out``, ``<key>.json`` and ``<key>_test.json``, and two entries in its ``dataset_info.json``. Test
    records keep their ``question_id``, and their box (``answer_bbox``) or captions (``references``) where they have one.

    Args:
        root: Root of the benchmark.
        out: Folder to write, new or empty.
        layouts: The datasets.
        drop_broken: Leave broken records out. Files that cannot be read stop the conversion all the same.

    Returns:
        What was written. Nothing was if there are defects and broken records are not to be dropped, or if something is
        broken that is no single record.

    Raises:
        FcitError: The root is not a folder, or ``out`` is not empty.
    """
    check_root(root)
    result = PrepareResult()
    entries: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(_Defective), whole_folder(of_user(out)) as partial:
        with tqdm(unit="record", leave=False, disable=None) as bar:
            for layout in layouts:
                bar.set_description(layout.key)
                entries |= _convert(root, partial, layout, result)
                bar.update(result.written[layout.key] + result.written[f"{layout.key}_test"])
        write_json(partial / DATASET_INFO, entries)
        if any(d.record is None or not drop_broken for d in result.defects):
            raise _Defective
        return result
    return PrepareResult(defects=result.defects)


class _Defective(Exception):
    """Some records are not to be written, so nothing is."""


def _convert(root: Path, out: Path, layout: DatasetLayout, result: PrepareResult) -> dict[str, dict[str, Any]]:
    train, test = check_train(root, layout), check_test(root, layout)
    _, defects = check_images(
        root,
        {checked.file: checked.records for checked in (train, test)},
        "first",
        f"get the images from {layout.images_from}",
    )
    for checked in (train, test):
        checked.defects += [d for d in defects if d.file == checked.file]
        result.defects += checked.defects
    metric = {"fcit_metric": layout.metric} | ({"fcit_also": list(layout.also)} if layout.also else {})
    entries = {}
    for name, checked, convert in ((layout.key, train, _train), (f"{layout.key}_test", test, _test)):
        rows = [convert(*pair) for pair in _sound(checked)]
        write_json(out / f"{name}.json", rows)
        result.written[name] = len(rows)
        entries[name] = {"file_name": f"{name}.json", "formatting": "sharegpt", "columns": _COLUMNS, **metric}
    return entries


def _sound(checked: CheckedFile) -> list[tuple[dict[str, Any], Reference | None]]:
    pairs = zip(checked.records, checked.references, strict=True)
    broken = checked.broken
    return [pair for i, pair in enumerate(pairs) if i not in broken]


def _train(record: dict[str, Any], _: Reference | None) -> dict[str, Any]:
    turns = [{"from": turn["from"], "value": turn["value"]} for turn in record["conversations"]]
    return _row(turns, record["image"])


def _test(record: dict[str, Any], reference: Reference | None) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    answer = record.get("answer")
    if reference is not None:
        extra = {"answer_bbox" if isinstance(reference[0], float) else "references": reference}
        answer = answer or (reference[0] if isinstance(reference[0], str) else str(reference))
    turns = [{"from": "human", "value": record["text"]}, {"from": "gpt", "value": str(answer)}]
    return {"question_id": str(record["question_id"]), **_row(turns, record["image"]), **extra}


def _row(turns: list[dict[str, str]], image: str) -> dict[str, Any]:
    if not any(IMAGE in turn["value"] for turn in turns):
        turns[0]["value"] = f"{IMAGE}\n{turns[0]['value']}"
    return {"conversations": turns, "images": [image]}
