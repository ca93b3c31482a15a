"""Checking one file of the benchmark record by record; ``verify`` counts what is found, ``prepare`` converts what is sound."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import FcitError
from .layout import PARTITIONS, DatasetLayout
from .records import (
    BrokenFile,
    Defect,
    Fault,
    faults_of_test,
    faults_of_text,
    faults_of_train,
    json_kind,
    read_records,
    with_article,
)
from .references import Reference, match_references


@dataclass
class CheckedFile:
    """A train or test file.

    Attributes:
        file: Path below the root.
        records: What it holds; empty if it cannot be read.
        references: The reference of each test record; None where there is none, and for train records.
        defects: What is wrong with the file and its records.
    """

    file: str
    records: list[Any] = field(default_factory=list)
    references: list[Reference | None] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)

    @property
    def broken(self) -> set[int]:
        """Indices of the records that have a defect."""
        return {d.record for d in self.defects if d.record is not None and d.file == self.file}


def check_root(root: Path) -> None:
    """Refuse a root that is not a folder.

    Raises:
        FcitError: It is none.
    """
    if not root.is_dir():
        raise FcitError(f"There is no folder {root}; name the root of the benchmark with --root or FCIT_DATA_DIR.")


def download_remedy(root: Path, file: str) -> str:
    """What to do where a file, or a folder, of the instructions or the partitions is missing."""
    parts = f" --parts {PARTITIONS}" if file.startswith(f"{PARTITIONS}/") else ""
    return f"fetch it with `fcit-cli data download --root {shlex.quote(str(root))}{parts}`"


def check_train(root: Path, layout: DatasetLayout) -> CheckedFile:
    """Check the train file of a dataset.

    Args:
        root: Root of the benchmark.
        layout: The dataset.
    """
    return _check_train(root, layout.train_path, layout)


def check_partition(root: Path, file: str) -> CheckedFile:
    """Check a partition file, whose records are those of train files.

    Args:
        root: Root of the benchmark.
        file: Path below it.
    """
    return _check_train(root, file, None)


def _check_train(root: Path, file: str, layout: DatasetLayout | None) -> CheckedFile:
    checked = CheckedFile(file)
    try:
        checked.records = read_records(root, file)
    except BrokenFile as error:
        checked.defects.append(error.defect(_remedy(root, file, layout)))
    for i, record in enumerate(checked.records):
        faults = faults_of_text(record, layout.columns) if layout and layout.is_text else faults_of_train(record)
        checked.defects += [Defect(kind, file, i, problem) for kind, problem in _meant(faults, layout)]
    checked.references = [None] * len(checked.records)
    return checked


def _remedy(root: Path, file: str, layout: DatasetLayout | None) -> str:
    return layout.how_to_get if layout and layout.records_from else download_remedy(root, file)


def _meant(faults: Iterable[Fault], layout: DatasetLayout | None) -> list[Fault]:
    """The faults that are faults in this dataset."""
    return [fault for fault in faults if not (layout and layout.some_without_image and fault[0] == "no image")]


def check_test(root: Path, layout: DatasetLayout) -> CheckedFile:
    """Check the test file of a dataset, and its caption file if it has one.

    Args:
        root: Root of the benchmark.
        layout: The dataset.
    """
    checked = CheckedFile(layout.test_path)
    try:
        checked.records = read_records(root, layout.test_path)
    except BrokenFile as error:
        checked.defects.append(error.defect(_remedy(root, error.file, layout)))
        return checked
    for i, record in enumerate(checked.records):
        if layout.is_text:
            faults = faults_of_text(record, layout.columns)
        else:
            faults = faults_of_test(record, with_answer=not layout.references)
        checked.defects += [Defect(kind, checked.file, i, problem) for kind, problem in _meant(faults, layout)]
    checked.defects += _duplicates(checked.records, checked.file)
    for column in ("question_id", layout.columns[1], layout.box_column):
        checked.defects += _mixed_types(checked.records, checked.file, column)
    checked.references = [None] * len(checked.records)
    if layout.references:
        try:
            checked.references, defects = match_references(checked.records, checked.file, layout.references, root)
            checked.defects += defects
            checked.defects += _texts_for_boxes(checked, layout.box_column)
        except BrokenFile as error:
            checked.defects.append(error.defect(_remedy(root, error.file, layout)))
    return checked


def _texts_for_boxes(checked: CheckedFile, column: str) -> list[Defect]:
    """Records whose box is a list of texts, which is a reference elsewhere (several people's answers)."""
    return [
        Defect("box", checked.file, i, f"its box {reference} is made of texts and not of numbers (`{column}`)")
        for i, reference in enumerate(checked.references)
        if column and reference and isinstance(reference[0], str)
    ]


def _duplicates(records: Sequence[Any], file: str) -> list[Defect]:
    first: dict[str, int] = {}
    defects = []
    for i, record in enumerate(records):
        if isinstance(record, dict) and isinstance(number := record.get("question_id"), int | str):
            if str(number) in first:
                problem = f"it has the question_id {number} of record {first[str(number)]}"
                defects.append(Defect("duplicate question_id", file, i, problem, "give it one of its own, or take it out"))
            first.setdefault(str(number), i)
    return defects


def _mixed_types(records: Sequence[Any], file: str, column: str) -> list[Defect]:
    """Records whose column is a number where the first has a text, or the other way round: Arrow reads no such file."""
    typed = [(i, json_kind(r[column])) for i, r in enumerate(records) if isinstance(r, dict) and r.get(column) is not None]
    return [
        Defect(
            "mixed types",
            file,
            i,
            f"its `{column}` is {with_article(kind)} and that of record {typed[0][0]} {with_article(typed[0][1])}",
            "write it alike in all records",
        )
        for i, kind in typed
        if kind != typed[0][1]
    ]
