"""The released partitions: which are there, with how many clients and records, and what is wrong with them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from .check import check_partition, download_remedy
from .images import images_of
from .layout import PARTITION_CLIENTS, PARTITION_FOLDERS, PARTITIONS, DatasetLayout
from .records import Defect


@dataclass
class ReleasedPartition:
    """One task's partition at one beta.

    Attributes:
        kind: ``task`` or ``capability``.
        beta: The folder's name, such as ``1.0``.
        task: The folder's name, such as ``Task1``.
        folder: Its path below the root.
        clients: How many client files are there.
        records: How many records they hold.
        datasets: Keys of the datasets that the records are from, told by their images' folders.
        defects: What is wrong with it.
    """

    kind: str
    beta: str
    task: str
    folder: str
    clients: int = 0
    records: int = 0
    datasets: set[str] = field(default_factory=set)
    defects: list[Defect] = field(default_factory=list)


def find_partitions(root: Path, layouts: Sequence[DatasetLayout]) -> list[ReleasedPartition]:
    """All partitions with records of the datasets; none if there is no folder ``partitioned_data``.

    Args:
        root: Root of the benchmark.
        layouts: The datasets.
    """
    folders = [
        (kind, path)
        for kind, folder in PARTITION_FOLDERS.items()
        for path in sorted((root / PARTITIONS / folder).glob("*/Task*"))
        if path.is_dir()
    ]
    found = [
        _read(root, kind, path, layouts)
        for kind, path in tqdm(folders, desc="Partitions", unit="task", leave=False, disable=None)
    ]
    return [p for p in found if p.datasets or p.defects]


def _read(root: Path, kind: str, path: Path, layouts: Sequence[DatasetLayout]) -> ReleasedPartition:
    partition = ReleasedPartition(kind, path.parent.name, path.name, path.relative_to(root).as_posix())
    absent = []
    for client in range(PARTITION_CLIENTS):
        file = f"{partition.folder}/client_{client}.json"
        if not (root / file).is_file():
            absent.append(str(client))
            continue
        checked = check_partition(root, file)
        partition.clients += 1
        partition.records += len(checked.records)
        partition.defects += checked.defects
        folders = {image.removeprefix("./") for _, image in images_of(checked.records)}
        partition.datasets |= {
            layout.key for layout in layouts if any(image.startswith(f"{layout.image_folder}/") for image in folders)
        }
    if absent:
        problem = f"the files of {len(absent)} of {PARTITION_CLIENTS} clients are not there ({', '.join(absent)})"
        partition.defects.append(
            Defect("missing file", partition.folder, None, problem, download_remedy(root, partition.folder))
        )
    return partition
