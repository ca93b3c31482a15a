"""All reading and writing of files: what is written is there whole or not at all, what is read comes in through here.

No torch, so that a look is quick.
"""

import contextlib
import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from .errors import FcitError, one_line

#: What to do about a file that a program has written and that is not as it was.
SOUND_COPY = "restore it from a backup or copy it again"
#: How the name of a folder ends that is being written, or taken away; it begins with a dot.
PARTIAL, DISCARDED = ".partial", ".discarded"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within the block a file is written; what goes wrong, such as a full disk, names it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file; its folder is made where it is not there."""
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(data)
            os.replace(partial, path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file; its folder is made where it is not there."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a JSON file; its folder is made where it is not there."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_rows(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file, None as an empty cell; its folder is made where it is not there."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


@contextlib.contextmanager
def whole_folder(folder: Path, *, replace: bool = False, flush: bool = False) -> Iterator[Path]:
    """Within the block a folder is filled under another name; it takes its own when the block has ended well.

    Args:
        folder: The folder to make, new or empty. An empty one stays the same one, for somebody may stand in it.
        replace: Put it in the place of one that holds something; else what is in another one is never taken away.
        flush: Force all of it to the disk before the folder gets its name, and the name after, so that it also stays whole
            when the machine goes down.

    Yields:
        The folder to write into, a hidden sibling, empty.

    Raises:
        FcitError: The folder is there and not empty, and not to be replaced.
        OSError: It cannot be written; what was there before still is.
    """
    folder = folder.resolve()  # `.` has no name of its own
    if not replace:
        check_empty(folder)
    partial, aside = hidden(folder, PARTIAL), hidden(folder, DISCARDED)
    partial.mkdir(parents=True)
    try:
        yield partial
        if flush:
            for path in [*partial.rglob("*"), partial]:
                _flush(path)
        if folder.exists() and not replace:
            check_empty(folder)  # still
            for path in partial.iterdir():
                path.rename(folder / path.name)
        else:
            if folder.exists():
                folder.rename(aside)
            partial.rename(folder)
        if flush:
            _flush(folder.parent)
    finally:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        for left in (partial, aside):
            shutil.rmtree(left, ignore_errors=True)


def hidden(folder: Path, end: str) -> Path:
    """The hidden sibling of a folder for one of these ends; what an earlier writer has left there is taken away."""
    path = folder.with_name(f".{folder.name}{end}")
    if path.exists():
        shutil.rmtree(path)
    return path


def _flush(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_empty(folder: Path) -> None:
    """Check that a folder is new or empty.

    Raises:
        FcitError: It is neither.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FcitError(f"{folder} is not empty; name a new folder.")


def read_bytes(path: Path, remedy: str = SOUND_COPY) -> bytes:
    """The content of a file. Whatever reads a file that comes from outside reads it by this, or by :func:`open_tensors`.

    Args:
        path: The file.
        remedy: What the sentence says to do.

    Raises:
        FcitError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise FcitError(f"{path} cannot be read ({error.strerror or error}); {remedy}.") from error


def read_text(path: Path, remedy: str = SOUND_COPY) -> str:
    """The content of a UTF-8 file.

    Raises:
        FcitError: It cannot be read, or is not UTF-8 text.
    """
    try:
        return read_bytes(path, remedy).decode()
    except UnicodeDecodeError as error:
        raise FcitError(f"{path} is not UTF-8 text (byte {error.start}); {remedy}.") from error


def parse_json(data: bytes) -> Any:
    """The value of a JSON text in UTF-8. All JSON that comes from outside is parsed by this.

    Raises:
        UnicodeDecodeError: It is not UTF-8.
        json.JSONDecodeError: It is not JSON.
    """
    return json.loads(data.decode())


def read_json(path: Path, remedy: str = SOUND_COPY) -> Any:
    """The value that a JSON file holds.

    Args:
        path: The file.
        remedy: What the sentence says to do.

    Raises:
        FcitError: It cannot be read, or is not JSON; the sentence names it.
    """
    return _parsed(read_bytes(path, remedy), str(path), remedy)


def read_object(path: Path, keys: Iterable[str] = (), remedy: str = SOUND_COPY) -> dict[str, Any]:
    """The object that a JSON file holds.

    Args:
        path: The file.
        keys: What it has to have.
        remedy: What the sentence says to do.

    Raises:
        FcitError: It cannot be read, is not JSON, not an object, or lacks a key; the sentence names it.
    """
    value = read_json(path, remedy)
    if not isinstance(value, dict):
        raise FcitError(f"{path} does not hold a JSON object; {remedy}.")
    require(value, keys, path, remedy)
    return value


def require(values: Mapping[str, Any], keys: Iterable[str], path: Path, remedy: str = SOUND_COPY) -> None:
    """Refuse what a JSON file holds if it lacks one of some keys.

    Raises:
        FcitError: The sentence names the file and the keys.
    """
    missing = [key for key in keys if key not in values]
    if missing:
        raise FcitError(f"{path} lacks {', '.join(missing)}; {remedy}.")


def read_json_lines(path: Path, remedy: str = SOUND_COPY) -> dict[int, Any]:
    """The values of a file with a JSON value in each line, by the line's number from 1; empty lines have none.

    Raises:
        FcitError: It cannot be read, or a line is not JSON; the sentence names both.
    """
    lines = enumerate(read_bytes(path, remedy).splitlines(), 1)
    return {number: _parsed(line, f"{path}, line {number}", remedy) for number, line in lines if line.strip()}


def _parsed(data: bytes, place: str, remedy: str) -> Any:
    try:
        return parse_json(data)
    except ValueError as error:
        raise FcitError(f"{place} is not valid JSON ({error}); {remedy}.") from error


def open_tensors(path: Path, framework: str = "np") -> Any:
    """A safetensors file, opened: its head is read, its tensors are when they are asked for.

    Args:
        path: The file.
        framework: What its tensors become: "np" arrays of NumPy, "pt" tensors of PyTorch.

    Returns:
        A :class:`safetensors.safe_open`, which can be a context.

    Raises:
        FcitError: The file is missing, cut off or not a safetensors file; the sentence names it.
    """
    try:
        return safe_open(path, framework=framework)
    except (OSError, SafetensorError) as error:
        raise FcitError(f"{path} is missing or corrupt: {one_line(error)}; {SOUND_COPY}.") from error


def check_tensors(path: Path) -> None:
    """Refuse a safetensors file that is missing, cut off or none, by its head.

    Raises:
        FcitError: The sentence names it.
    """
    with open_tensors(path):
        pass


def load_tensors(path: Path, framework: str = "pt") -> dict[str, Any]:
    """All tensors of a safetensors file by name, in the arrays of a framework as for :func:`open_tensors`.

    Raises:
        FcitError: The file is missing or corrupt; the sentence names it.
    """
    with open_tensors(path, framework) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dictionary
