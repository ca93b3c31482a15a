"""The partition files of the released benchmark (docs/guide/data.md), matched to the train files record by record."""

import json
import logging
import os
import shlex
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FcitError
from ..fcit_benchmark.layout import PARTITION_FOLDERS, PARTITIONS
from ..files import read_json
from .partition import PartitionOptions
from .task_records import Records

logger = logging.getLogger(__name__)

#: Which kind of released partition belongs to a setting.
KINDS = {"task_hom": "task", "task_het": "task", "cap_hom": "capability", "cap_het": "capability"}


def released_folder(root: Path, setting: str, beta: float) -> Path:
    """Return the folder with the folders ``Task1``, ``Task2`` ... of a setting and a beta.

    Raises:
        FcitError: nothing was released for the setting or the beta.
    """
    if setting not in KINDS:
        raise FcitError(
            f"fcit_partition: released belongs to the settings {', '.join(KINDS)}; there are no released partitions for"
            f" fcit_setting: {setting}."
        )
    folder = root / PARTITIONS / PARTITION_FOLDERS[KINDS[setting]] / str(float(beta))
    if not folder.is_dir():
        there = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())
        raise FcitError(
            f"fcit_partition: released finds no folder {folder}; "
            + (
                f"set fcit_beta to one of {', '.join(there)}."
                if there
                else "set fcit_data_dir to the root of the FCIT benchmark, or fetch the partitions with"
                f" `fcit-cli data download --root {shlex.quote(str(root))} --parts {PARTITIONS}`."
            )
        )
    return folder


def released(records: Records, options: PartitionOptions, generator: np.random.Generator) -> list[np.ndarray]:
    """As released: client k has the records of ``Task{t + 1}/client_{k}.json``, found in the train files by image and turns.

    A record that stands twice in the train files is two records. Records that no file holds belong to nobody: the
    research code rounds the clients' shares down.

    Raises:
        FcitError: a file is missing or unreadable, there are more or fewer than N, or one has a record that the train
            files do not have (any more).
    """
    assert options.released is not None, "`recipe.partition_options` finds the folder"
    known: dict[str, list[int]] = defaultdict(list)
    for index, content in enumerate(zip(records.column("image"), records.column("conversations"), strict=True)):
        known[_key(*content)].append(index)
    folder = _task_folder(records, options.released, known)
    left = {key: iter(indices) for key, indices in known.items()}
    parts = []
    for path in _client_files(folder, options.num_clients):
        part = []
        for number, record in enumerate(_read(path)):
            match = next(left.get(_content(record, number, path), iter(())), None)
            if match is None:
                raise FcitError(
                    f"Record {number} of {path} is not among the train records of the task {records.name}, or more"
                    " often than there; check that instructions and partitions are of one release and that max_samples"
                    " is not set."
                )
            part.append(match)
        parts.append(np.array(part, dtype=np.int64))
    return parts


def _task_folder(records: Records, released: Path, known: dict[str, list[int]]) -> Path:
    """The folder of the task: the one of its number, or the one whose first record says that it holds the task.

    The research code numbers the tasks in two ways, see :data:`fcit_plugin.scenario.settings.RESEARCH_CODE_ORDERS`.
    """
    expected = released / f"Task{records.task + 1}"
    for folder in (expected, *sorted(released.glob("Task*"))):
        path = folder / "client_0.json"
        first = _read(path)[:1] if os.path.lexists(path) else []
        if first and _content(first[0], 0, path) in known:
            if folder != expected:
                logger.info("The task %s has its released partition in %s.", records.name, folder)
            return folder
    return expected


def _client_files(folder: Path, num_clients: int) -> list[Path]:
    paths = [folder / f"client_{client}.json" for client in range(num_clients)]
    there = len(list(folder.glob("client_*.json")))
    for path in paths:
        if not os.path.lexists(path):
            raise FcitError(
                f"fcit_partition: released finds no file {path} ({there} client files are there, fcit_num_clients is"
                f" {num_clients}); fetch the partition again, or set fcit_num_clients to what it was made for."
            )
    if there > num_clients:
        raise FcitError(f"{folder} has the files of {there} clients; set fcit_num_clients: {there} instead of {num_clients}.")
    return paths


def _read(path: Path) -> list[Any]:
    found = read_json(path, "fetch the partition again")
    if not isinstance(found, list):
        raise FcitError(f"{path} holds no list of records; fetch the partition again.")
    return found


def _content(record: Any, number: int, path: Path) -> str:
    if not isinstance(record, dict) or not isinstance(record.get("conversations"), list):
        raise FcitError(f"Record {number} of {path} has no conversations; fetch the partition again.")
    return _key(record.get("image"), record["conversations"])


def _key(image: Any, turns: list[Any]) -> str:
    """What training sees of a record, as one text."""
    return json.dumps([image, turns], sort_keys=True)
