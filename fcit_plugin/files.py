"""Reading and writing files: what is written is whole or not there at all, all that is read comes in here. No torch."""

import contextlib
import csv
import errno
import io
import json
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from .errors import FcitError

#: What to do about a file that a program has written and that is not as it was.
SOUND_COPY = "restore it from a backup or copy it again"
#: Bytes of the largest JSON file that is read, but for a user's own records.
LARGEST_JSON = 2**28
#: Digits of the longest whole number in JSON: those of 64 bits, with a sign.
_DIGITS = 20

T = TypeVar("T")


def of_user(path: str | Path) -> Path:
    """A path whose `~` is the user's home; it stays as it is where there is no such user, or the user has none."""
    return Path(os.path.expanduser(path))


def at_home(path: str, variable: str) -> Path:
    """The same of a folder that is made: there is none to make in a home that is not there.

    Args:
        path: The folder.
        variable: The environment variable that names another one.

    Raises:
        OSError: The user, or the one who is named, has no home, as in containers.
    """
    folder = of_user(path)
    if str(folder).startswith("~"):
        why = f"there is no such home to keep files in; name a folder in the environment variable {variable}"
        raise OSError(errno.ENOENT, why, path)
    return folder


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within the block a file is written; what goes wrong, such as a full disk, names it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_bytes(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file with these rights (less the user's umask); its folder is made where it is not there."""
    write_chunks(path, (data,), mode)


def append_lines(path: Path, lines: str) -> None:
    """Add lines to a file, all of them or nothing; what is left of one that was not finished is taken away before.

    Args:
        path: The file, which is made where it is not there.
        lines: Each with its end.

    Raises:
        OSError: It cannot be written; the error names the file.
    """
    with writing(path), open(path, "ab+", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
            end = _last_line(file.fileno(), end)
            file.truncate(end)
        data = memoryview(lines.encode())
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(end)
            raise


def _last_line(file: int, end: int) -> int:
    """Where the last line of a file begins."""
    while end:
        start = max(0, end - 65536)
        if (found := os.pread(file, end - start, start).rfind(b"\n")) >= 0:
            return start + found + 1
        end = start
    return 0


def write_chunks(path: Path, chunks: Iterable[bytes | memoryview], mode: int = 0o666) -> None:
    """Write a file of several pieces, see :func:`write_bytes`."""
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.unlink(missing_ok=True)  # one that was left there has rights of its own
            with open(partial, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
                for chunk in chunks:
                    file.write(chunk)
            os.replace(partial, path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file; its folder is made where it is not there."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a JSON file; its folder is made where it is not there."""
    write_text(path, f"{json.dumps(value, indent=2, ensure_ascii=False)}\n")


def write_rows(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file, None as an empty cell; its folder is made where it is not there."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def to_disk(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def inside(folder: Path, name: str) -> Path:
    """The file of this name in a folder that may come from anywhere: it lies in there, also when it is a link.

    Args:
        folder: The folder. One of the Hugging Face cache, ``<repository>/snapshots/<revision>``, links to its repository's
            ``blobs``, and may.
        name: Relative to it, with slashes.

    Raises:
        FcitError: The name, or the link of this name, leads out of the folder.
    """
    root, path = Path(os.path.realpath(folder)), folder / name
    target = Path(os.path.realpath(path)) if "\0" not in name else root.parent  # of a circle of links it makes something
    allowed = [root]
    if root.parent.name == "snapshots":
        allowed.append(root.parent.parent / "blobs")
    if Path(name).is_absolute() or not any(target.is_relative_to(place) for place in allowed):
        raise FcitError(f"{path} leads out of its folder, to {target}; put the file itself there.")
    return path


def check_regular(path: Path, most: int | None = None, remedy: str = SOUND_COPY) -> None:
    """Refuse what is no regular file, or is too large, without opening it: to open a device may do something.

    Args:
        path: The file.
        most: Bytes that it may have; None for any number.
        remedy: What the sentence says to do.

    Raises:
        FcitError: The sentence names it.
        OSError: It is not there.
    """
    _check(os.stat(path), path, most, remedy)


def _check(status: os.stat_result, path: Path, most: int | None, remedy: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise FcitError(f"{path} cannot be read (it is no regular file); {remedy}.")
    if most is not None and status.st_size > most:
        raise FcitError(f"{path} has {status.st_size:,} bytes where at most {most:,} fit; {remedy}.")


@contextlib.contextmanager
def opened(path: Path, most: int | None = None, remedy: str = SOUND_COPY) -> Iterator[BinaryIO]:
    """Within the block a regular file is open for reading. Whatever comes from outside is opened here.

    Args:
        path: The file.
        most: Bytes that it may have; None for any number.
        remedy: What the sentence says to do.

    Raises:
        FcitError: It cannot be opened, is no regular file, or is too large.
    """
    try:
        check_regular(path, most, remedy)
        # a pipe without a writer would hold an open that waits
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as error:
        raise FcitError(f"{path} cannot be read ({error.strerror or error}); {remedy}.") from error
    with file:
        _check(os.fstat(file.fileno()), path, most, remedy)  # still
        yield file


def read_bytes(path: Path, remedy: str = SOUND_COPY, most: int | None = None) -> bytes:
    """The content of a file.

    Args:
        path: The file.
        remedy: What the sentence says to do.
        most: Bytes that it may have; None for any number.

    Raises:
        FcitError: It cannot be read.
    """
    with opened(path, most, remedy) as file:
        try:
            return file.read()
        except OSError as error:
            raise FcitError(f"{path} cannot be read ({error.strerror or error}); {remedy}.") from error


def private_bytes(path: Path, what: str, most: int, remedy: str = SOUND_COPY) -> bytes:
    """What a file holds that nobody else may read or write.

    Args:
        path: The file.
        what: What is in it, such as "the secret", for the sentence.
        most: Bytes that it may have.
        remedy: What the sentence says to do.

    Raises:
        FcitError: It cannot be read, is too large, or others have rights to it; the sentence names the file.
    """
    with opened(path, most, remedy) as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise FcitError(
                f"{path} has mode {mode:03o}, so that others may come by {what} in it; if nobody has, take their rights away "
                f"with chmod 600 {path}, else make a new one."
            )
        return file.read()


def read_text(path: Path, remedy: str = SOUND_COPY) -> str:
    """The content of a UTF-8 file.

    Raises:
        FcitError: It cannot be read, or is not UTF-8 text.
    """
    try:
        return read_bytes(path, remedy, LARGEST_JSON).decode()
    except UnicodeDecodeError as error:
        raise FcitError(f"{path} is not UTF-8 text (byte {error.start}); {remedy}.") from error


def parse_json(data: bytes | str) -> Any:
    """The value of a JSON text, as bytes in UTF-8. All JSON that comes from outside is parsed by this.

    Raises:
        UnicodeDecodeError: It is not UTF-8.
        json.JSONDecodeError: It is not JSON, nested too deeply, or holds a number or text that nothing else could take.
    """
    text = data if isinstance(data, str) else data.decode()
    try:
        value = json.loads(text, parse_int=_whole, parse_float=_number)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()  # halves of letters
    except RecursionError as error:
        raise json.JSONDecodeError("nested too deeply", text, 0) from error
    except UnicodeEncodeError as error:
        raise json.JSONDecodeError("half a letter (a lone surrogate)", text, 0) from error
    return value


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise json.JSONDecodeError(f"a number of {len(digits)} digits", digits, 0)
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if value in (math.inf, -math.inf):
        raise json.JSONDecodeError(f"a number that is too large, {digits[:20]}", digits, 0)
    return value


def read_json(path: Path, remedy: str = SOUND_COPY, most: int | None = LARGEST_JSON) -> Any:
    """The value that a JSON file holds.

    Args:
        path: The file.
        remedy: What the sentence says to do.
        most: Bytes that it may have; None for any number.

    Raises:
        FcitError: It cannot be read, or is not JSON; the sentence names it.
    """
    return _parsed(read_bytes(path, remedy, most), str(path), remedy)


def read_object(
    path: Path, keys: Iterable[str] = (), remedy: str = SOUND_COPY, most: int | None = LARGEST_JSON
) -> dict[str, Any]:
    """The object that a JSON file holds.

    Args:
        path: The file.
        keys: What it has to have.
        remedy: What the sentence says to do.
        most: Bytes that it may have; None for any number.

    Raises:
        FcitError: It cannot be read, is not JSON, not an object, or lacks a key; the sentence names it.
    """
    value = read_json(path, remedy, most)
    if not isinstance(value, dict):
        raise FcitError(f"{path} does not hold a JSON object; {remedy}.")
    require(value, keys, path, remedy)
    return value


def read_as(form: type[T], path: Path, remedy: str = SOUND_COPY, most: int | None = LARGEST_JSON) -> T:
    """The object that a JSON file holds, of a form (:func:`fcit_plugin.schema.checked`).

    Args:
        form: A ``TypedDict``.
        path: The file.
        remedy: What the sentence says to do.
        most: Bytes that it may have; None for any number.

    Raises:
        FcitError: It cannot be read or is not of the form; the sentence names the file and the place in it.
    """
    from .schema import checked  # pydantic takes a moment

    return checked(form, read_object(path, remedy=remedy, most=most), str(path), remedy)


def require(values: Mapping[str, Any], keys: Iterable[str], path: Path, remedy: str = SOUND_COPY) -> None:
    """Refuse what a JSON file holds if it lacks one of some keys.

    Raises:
        FcitError: The sentence names the file and the keys.
    """
    missing = [key for key in keys if key not in values]
    if missing:
        raise FcitError(f"{path} lacks {', '.join(missing)}; {remedy}.")


def read_json_lines(
    path: Path, remedy: str = SOUND_COPY, most: int | None = LARGEST_JSON, grows: bool = False
) -> dict[int, Any]:
    """The values of a file with a JSON value in each line, by the line's number from 1; empty lines have none.

    Args and errors are those of :func:`read_json`; the sentence names the line, too. Of a file that ``grows``
    (:func:`append_lines`) a last line without its end does not count: somebody writes it, or was stopped while it did.
    """
    data = read_bytes(path, remedy, most)
    lines = enumerate((data[: data.rfind(b"\n") + 1] if grows else data).splitlines(), 1)
    return {number: _parsed(line, f"{path}, line {number}", remedy) for number, line in lines if line.strip()}


def read_lines_as(
    form: type[T], path: Path, remedy: str = SOUND_COPY, most: int | None = LARGEST_JSON, grows: bool = False
) -> list[T]:
    """The same where each line is of a form, as for :func:`read_as`."""
    from .schema import checked

    lines = read_json_lines(path, remedy, most, grows)
    return [checked(form, value, f"{path}, line {number}", remedy) for number, value in lines.items()]


def _parsed(data: bytes, place: str, remedy: str) -> Any:
    try:
        return parse_json(data)
    except ValueError as error:
        raise FcitError(f"{place} is not valid JSON ({error}); {remedy}.") from error
