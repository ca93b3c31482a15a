"""What of the benchmark is on disk, what is missing and where it is available, and every defect of what is there."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .check import CheckedFile, check_root, check_test, check_train
from .images import check_images, images_of
from .layout import DatasetLayout
from .partitions import ReleasedPartition, find_partitions
from .records import Defect


@dataclass
class DatasetReport:
    """What was found of one dataset.

    Attributes:
        layout: Where it should be.
        train: Its train file.
        test: Its test file.
        images: Number of different images that its records name.
        images_found: How many of them are there and sound; None if images were not looked at.
        partitions: The partitions with records of this dataset.
        defects: What is wrong, missing things included.
    """

    layout: DatasetLayout
    train: CheckedFile
    test: CheckedFile
    images: int = 0
    images_found: int | None = None
    partitions: list[ReleasedPartition] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)


@dataclass
class Report:
    """What was found of the benchmark.

    Attributes:
        root: Its root.
        datasets: The datasets that were looked at.
        partitions: The partitions that were looked at.
    """

    root: Path
    datasets: list[DatasetReport]
    partitions: list[ReleasedPartition]

    @property
    def defects(self) -> list[Defect]:
        """Everything that is wrong."""
        found = [defect for dataset in self.datasets for defect in dataset.defects]
        return found + [defect for partition in self.partitions for defect in partition.defects]

    @property
    def green(self) -> bool:
        """Nothing is wrong."""
        return not self.defects

    def as_json(self) -> dict[str, Any]:
        """The report as JSON can hold it."""
        return {
            "root": str(self.root),
            "green": self.green,
            "datasets": [_dataset_as_json(dataset) for dataset in self.datasets],
            "partitions": [
                {"folder": p.folder, "clients": p.clients, "records": p.records, "defects": _as_json(p.defects)}
                for p in self.partitions
            ],
        }


def verify(root: Path, layouts: Sequence[DatasetLayout], images: str = "first") -> Report:
    """Look at the datasets, their images and their partitions.

    Args:
        root: Root of the benchmark.
        layouts: The datasets.
        images: How closely to look at images, see :data:`fcit_plugin.fcit_benchmark.layout.IMAGES_HOW`.

    Raises:
        FcitError: The root is not a folder.
    """
    check_root(root)
    reports = []
    with tqdm(unit="image", leave=False, disable=None) as bar:
        for layout in layouts:
            bar.set_description(layout.key)
            report = DatasetReport(layout, check_train(root, layout), check_test(root, layout))
            report.defects += report.train.defects + report.test.defects
            _look_at_images(root, report, images, bar)
            reports.append(report)
    partitions = find_partitions(root, layouts)
    for report in reports:
        report.partitions = [p for p in partitions if report.layout.key in p.datasets]
    return Report(root, reports, partitions)


def _look_at_images(root: Path, report: DatasetReport, how: str, bar: tqdm) -> None:
    files = {checked.file: checked.records for checked in (report.train, report.test)}
    report.images = len({image for records in files.values() for _, image in images_of(records)})
    if how != "none":
        bar.reset(total=report.images)
        remedy = f"get the images from {report.layout.images_from}"
        report.images_found, defects = check_images(root, files, how, remedy, bar.update, report.layout.images)
        report.defects += defects


def _dataset_as_json(report: DatasetReport) -> dict[str, Any]:
    return {
        "name": report.layout.key,
        "train": {"file": report.train.file, "records": len(report.train.records)},
        "test": {"file": report.test.file, "records": len(report.test.records)},
        "images": {"named": report.images, "found": report.images_found, "from": report.layout.images_from},
        "partitions": [partition.folder for partition in report.partitions],
        "defects": _as_json(report.defects),
    }


def _as_json(defects: Sequence[Defect]) -> list[dict[str, Any]]:
    return [asdict(defect) for defect in defects]
