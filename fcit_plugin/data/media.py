"""The images, videos and audios of a run's records: whether they are still what they were when the run first read them."""

import hashlib
import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors.numpy import save

from ..errors import FcitError
from ..files import opened, write_bytes
from ..scenario.streams import Stream, generator
from ..tensor_files import load_tensors
from .pipeline import Split

#: Of the record in a commit.
MEDIA = "media.safetensors"
#: What part of the files is read at the start, and how many bytes of a file's SHA-256 sum are kept.
_SAMPLE, _BYTES = 0.01, 16
_COLUMNS = ("_images", "_videos", "_audios")


class Media:
    """All media files of some records. Their size and time of change are looked up, and their contents once each at most.

    Args:
        splits: The records.
        seed: Seed of the run, which chooses the files that are read at the start.

    Attributes:
        paths: The files, each once, in the order of the records.
        sums: uint8 [n, 16], the beginning of each file's SHA-256 sum; zeros for a file that was not read yet.
    """

    def __init__(self, splits: Iterable[Split], seed: int) -> None:
        self._seed = seed
        numbers: dict[str, int] = {}
        self._of_records: dict[str, list[list[int]]] = {}
        status: list[tuple[int, int, int]] = []
        for split in splits:
            found = self._of_records.setdefault(split.name, [])
            for files in _files_of(split):
                for path in files:
                    if path not in numbers and (found_at := _stat(path)) is not None:
                        numbers[path] = len(numbers)
                        status.append((zlib.crc32(os.path.basename(path).encode()), found_at.st_size, found_at.st_mtime_ns))
                found.append([numbers[path] for path in files if path in numbers])
        self.paths = list(numbers)
        self._status = np.array(status, np.int64).reshape(-1, 3)
        self.sums = np.zeros((len(self.paths), _BYTES), np.uint8)
        self._read = np.zeros(len(self.paths), bool)  # by this process

    def begin(self, record: Path | None, whole: bool) -> int:
        """Read the files that are read at the start.

        Args:
            record: What an earlier part of the run has kept (:meth:`write`); None at its beginning, or where it kept nothing.
            whole: Read all files, not a part of them.

        Returns:
            How many files have changed their time and were never read before: whether they are the same nobody can tell.

        Raises:
            FcitError: A file is not what it was; the sentence names it.
        """
        count = ceil(_SAMPLE * len(self.paths))
        first = generator(self._seed, Stream.CHECKED_FILES).permutation(len(self.paths))[:count]
        doubtful = np.zeros(len(self.paths), bool)
        held = load_tensors(record, "np") if record is not None and record.is_file() else None
        if held is not None and np.array_equal(held["status"][:, 0], self._status[:, 0]):  # else the records tell
            for number in np.flatnonzero(held["status"][:, 1] != self._status[:, 1])[:1]:
                was, now = int(held["status"][number, 1]), int(self._status[number, 1])
                raise _changed(self.paths[number], f"it had {was:,} bytes and has {now:,}")
            self.sums = held["sums"].copy()
            doubtful = held["status"][:, 2] != self._status[:, 2]
        known = self.sums.any(axis=1)
        self._look([*first, *np.flatnonzero(doubtful & known)[:count]] if not whole else range(len(self.paths)))
        return int((doubtful & ~known).sum())

    def read(self, name: str, records: Iterable[int]) -> None:
        """Records are about to be read for the first time, or again.

        Args:
            name: Their split's.
            records: Their indices in it.

        Raises:
            FcitError: A file is not what it was; the sentence names it.
        """
        self._look(number for record in records for number in self._of_records[name][record])

    def _look(self, numbers: Iterable[int]) -> None:
        numbers = [number for number in dict.fromkeys(map(int, numbers)) if not self._read[number]]
        with ThreadPoolExecutor() as pool:
            for number, found in zip(numbers, pool.map(_sum, (self.paths[number] for number in numbers)), strict=True):
                if self.sums[number].any() and not np.array_equal(self.sums[number], found):
                    raise _changed(self.paths[number], "its contents have changed")
                self.sums[number], self._read[number] = found, True

    def write(self, folder: Path) -> None:
        """Keep what is known of the files, where there are any."""
        if self.paths:
            write_bytes(folder / MEDIA, save({"status": self._status, "sums": self.sums}))


def _files_of(split: Split) -> Iterator[list[str]]:
    """What stands in place of media files in each record, but for media in the record itself."""
    columns = [name for name in _COLUMNS if name in split.rows.column_names]
    for batch in split.rows.select_columns(columns).with_format("arrow").iter(batch_size=1000):  # all might not fit in memory
        for row in zip(*(batch[name].to_pylist() for name in columns), strict=True):
            yield [item for items in row for item in items or () if isinstance(item, str)]


def _stat(path: str) -> os.stat_result | None:
    """Of a regular file; of what is none there are other sentences."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _sum(path: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with opened(Path(path), remedy="put it back") as file:
        return np.frombuffer(hashlib.file_digest(cast("Any", file), "sha256").digest()[:_BYTES], np.uint8)


def _changed(path: str, how: str) -> FcitError:
    return FcitError(
        f"{path} is not the file that the run was begun with: {how}; put that file back, or begin again in another "
        "`output_dir` or with `overwrite_output_dir: true`."
    )
