"""A dataset's records as they stand in its files, read as LLaMA-Factory reads them, but without it."""

import os
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset

from ..errors import FcitError
from ..files import opened, read_bytes
from .catalogue import Catalogue
from .entries import ELSEWHERE
from .file_names import refuse_pattern
from .named import Named

#: How the package ``datasets`` calls the kind of a file, by its ending; LLaMA-Factory's own table.
FILE_KINDS = {"arrow": "arrow", "csv": "csv", "json": "json", "jsonl": "json", "parquet": "parquet", "txt": "text"}

#: Bytes of a file that is looked at whether it has any content.
_BLANK = 1024

#: What spreadsheets put between columns where it is no comma; and in how many bytes the names of the columns stand.
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_HEAD = 65536


def files_of(catalogue: Catalogue, name: Named) -> list[Path]:
    """The files of a dataset in the order in which LLaMA-Factory reads them; a folder may be one.

    Raises:
        FcitError: Its records are not, or not one by one, in files of the kinds that LLaMA-Factory reads.
    """
    entry = catalogue.entry(name)
    for key in ELSEWHERE:
        if entry.get(key) is not None:
            raise FcitError(
                f"The dataset {name} has `{key}` in dataset_info.json: its records cannot be read one by one;"
                " write them to a JSON file and name it as `file_name`."
            )
    path = catalogue.root(name) / entry["file_name"]
    if path.is_dir():
        files = [path / file for file in os.listdir(path)]  # its order, and not one of ours
        if not files:
            raise FcitError(f"Dataset `{name}`: the folder {path} is empty; put its files there, or correct `file_name`.")
    elif path.is_file():
        files = [path]
    else:
        raise FcitError(f"The dataset {name} has no file {path}; fix `file_name`, `dataset_dir` or `fcit_data_dir`.")
    if path.is_dir():
        _refuse_blank(name, files)
    kinds = [kind_of(file) for file in files]
    for file, kind in zip(files, kinds, strict=True):
        if kind is None or file.is_dir():
            raise FcitError(
                f"Dataset `{name}`: {file} is none of the files that LLaMA-Factory reads ({', '.join(FILE_KINDS)}); take it "
                "away, or correct `file_name`."
            )
        refuse_pattern(file, f"Dataset `{name}`: {file}")
        check_commas(file, f"Dataset `{name}`: {file}", (entry.get("columns") or {}).values())
    if len(set(kinds)) > 1:
        known = sorted({file.suffix for file in files})
        raise FcitError(f"Dataset `{name}`: the folder {path} has files of several kinds ({', '.join(known)}); keep one kind.")
    return files


def check_folder(name: Named, catalogue: Catalogue) -> None:
    """Refuse a dataset whose folder holds anything else than files of one kind, each with records.

    Raises:
        FcitError: The sentence names dataset and file.
    """
    file = catalogue.entry(name).get("file_name")
    if file is not None and (catalogue.root(name) / file).is_dir():
        files_of(catalogue, name)


def _refuse_blank(name: Named, files: Sequence[Path]) -> None:
    """A file without records among others is passed over by LLaMA-Factory without a word."""
    for file in files:
        if file.is_file() and file.stat().st_size < _BLANK and read_bytes(file).strip() in (b"", b"[]"):
            raise FcitError(f"Dataset `{name}`: {file} has no records; take it away, or write it again.")


def check_commas(file: Path, place: str, columns: Iterable[str] = ()) -> None:
    """Refuse a CSV file whose columns something else than commas keeps apart: LLaMA-Factory reads them as one.

    Args:
        file: One of any kind.
        place: What to call it.
        columns: Those that are asked for; one that is the whole first line is meant so.

    Raises:
        FcitError: The sentence says what stands between the columns, or that the file is UTF-16.
    """
    if kind_of(file) != "csv" or not file.is_file():
        return
    with opened(file) as content:
        head = content.read(_HEAD)
    if head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise FcitError(f"{place} is UTF-16; save it as UTF-8, with commas between its columns.")
    first = next((line for line in head.decode("utf-8-sig", errors="replace").splitlines() if line.strip()), "")
    found = max(_SEPARATORS, key=first.count)
    if found in first and "," not in first and first.strip().strip('"') not in columns:
        raise FcitError(
            f"{place} has {_SEPARATORS[found]} between its columns, where only commas are read; save it with commas."
        )


def read_raw(files: Sequence[Path], split: str | None = None, cache_dir: str | None = None) -> Dataset:
    """The records of files of one kind.

    Args:
        files: At least one.
        split: Its entry's ``split``.
        cache_dir: The recipe's ``cache_dir``.
    """
    kind = kind_of(files[0])
    assert kind is not None  # files_of has looked
    return load_dataset(kind, data_files=[str(file) for file in files], split=split or "train", cache_dir=cache_dir)


def plain_records(rows: Dataset, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Records as plain values, without decoding an image or anything else."""
    for batch in (rows if columns is None else rows.select_columns([*columns])).with_format("arrow").iter(batch_size=256):
        yield from batch.to_pylist()


def kind_of(file: Path) -> str | None:
    """How the package ``datasets`` calls the kind of a file, None for one that is not read."""
    return FILE_KINDS.get(os.path.splitext(file)[-1][1:])
