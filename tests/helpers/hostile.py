"""Ways in which somebody can spoil a file before we read it."""

import contextlib
import copy
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: What takes the place of a JSON value.
VALUES = [
    None,
    True,
    -1,
    0.5,
    10**15,
    2**63,
    1e300,
    "",
    "x",
    "../../x",
    "/etc/passwd",
    "\x1b[31m",
    "\ud800",
    [],
    [[]],
    {},
    {"x": 1},
]

Spoil = Callable[[Path], None]


def spoilt_files(outside: Path) -> dict[str, Spoil]:
    """What can be done to any file, by name.

    Args:
        outside: A folder elsewhere.
    """

    def replaced(content: bytes) -> Spoil:
        return lambda path: path.write_bytes(content)

    def flipped(place: float) -> Spoil:
        def flip(path: Path) -> None:
            content = bytearray(path.read_bytes())
            content[int(place * (len(content) - 1))] ^= 0xA5
            path.write_bytes(content)

        return flip

    def linked(target: str) -> Spoil:
        def link(path: Path) -> None:
            path.unlink()
            path.symlink_to(target)

        return link

    def link_outside(path: Path) -> None:
        path.rename(outside / path.name)
        path.symlink_to(outside / path.name)

    def pipe(path: Path) -> None:
        path.unlink()
        os.mkfifo(path)

    def folder(path: Path) -> None:
        path.unlink()
        path.mkdir()

    return {
        "missing": Path.unlink,
        "empty": replaced(b""),
        "not UTF-8": replaced(b'{"a": "\xff\xfe"}'),
        "null": replaced(b"null"),
        "brackets": replaced(b"[" * 200_000),
        "objects": replaced(b'{"a":' * 100_000),
        "digits": replaced(b'{"a": ' + b"9" * 400 + b"}"),
        "exponent": replaced(b'{"a": 1e999}'),
        "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        **{f"flip at {place}": flipped(place) for place in (0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.95, 1)},
        "pipe": pipe,
        "device": linked("/dev/zero"),
        "link to itself": lambda path: linked(path.name)(path),
        "link to nothing": linked("nowhere"),
        "link outside": link_outside,
        "folder": folder,
    }


def spoilt_values(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The value with one part replaced, or taken out, and how one would say it."""
    for place in _places(value):
        name = ".".join(map(str, place))
        for other in VALUES:
            yield f"{name} = {other!r}", _with(value, place, lambda holder, key, other=other: holder.__setitem__(key, other))
        yield f"{name} taken out", _with(value, place, lambda holder, key: holder.pop(key))


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield (*at, key)
        yield from _places(part, (*at, key))


def _with(value: Any, place: tuple[Any, ...], change: Callable[[Any, Any], Any]) -> Any:
    changed = copy.deepcopy(value)
    holder = changed
    for key in place[:-1]:
        holder = holder[key]
    change(holder, place[-1])
    return changed


def write_anything(path: Path, value: Any) -> None:
    """Write JSON that our own writer would refuse."""
    path.write_text(json.dumps(value))


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """The block ends in time, or with an AssertionError: what waits for a pipe would wait for ever."""

    def too_long(*_: Any) -> None:
        raise AssertionError(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
