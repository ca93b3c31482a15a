"""Ways in which somebody can spoil any file before we read it, and what a reader then has to say of it."""

import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

Place = tuple[Any, ...]

#: Text that takes the place of a value once the rest is JSON: no writer of ours writes such.
RAW = {
    f"@{i}@": text
    for i, text in enumerate(["9" * 400, "-" + "9" * 400, "1e999", "-1e999", '"\\ud800"', "[" * 5000 + "]" * 5000])
}
#: What no parser may let through, wherever it stands.
NEVER = tuple(RAW)
#: What takes the place of a value.
VALUES = [
    *(None, True, False, 0, -1, 7, 0.5, 10**15, 2**53, 2**63, -(2**63), 1e300, float("nan"), float("inf"), -float("inf")),
    *(
        "",
        "x",
        "7",
        "../../x",
        "/etc/passwd",
        "/dev/zero",
        "canary",
        "\x1b[31mred\x1b[0m",
        "\0",
        "\u202eabc",
        "a\nb",
        "x" * 300,
    ),
    *("y" * 20_000, "%s{}", "(a+)+$", [], [[]], [0] * 2_000, {}, {"x": 1}, {"\x1b[31m": 1}, *NEVER),
]
#: Names that a key gets, or a tensor.
KEYS = ["", "x", "../../x", "\x1b[31mred", "\0", "a\nb", "k" * 1_000, "__class__", "canary", "megatron_core", "lora_A"]


@dataclass(frozen=True)
class Done:
    """What was done to a file.

    Attributes:
        what: In words.
        refused: Whether a reader has to refuse it; else it may also take it, if what it takes is in order.
        place: Of the value that was changed, if it was one.
        readable: Whether the file is still what it was by kind, so that sums over it can be mended.
        missing: Whether it is not there any more.
        link: Whether it is a link to a regular file elsewhere, which somebody may have made of a file that he names himself.
    """

    what: str
    refused: bool = False
    place: Place | None = None
    readable: bool = False
    missing: bool = False
    link: bool = False


Spoil = Callable[[Path, Random], Done]


def replaced(content: Callable[[bytes], bytes], what: str, refused: bool = True) -> Spoil:
    """Another content, made of the one that was there."""

    def spoil(path: Path, rng: Random) -> Done:
        path.write_bytes(content(path.read_bytes()))
        return Done(what, refused, readable=True)

    return spoil


def flipped(path: Path, rng: Random) -> Done:
    """A few bytes are others."""
    content = bytearray(path.read_bytes())
    places = [rng.randrange(len(content)) for _ in range(rng.choice([1, 1, 2, 8]))]
    for place in places:
        content[place] ^= rng.randrange(1, 256)
    path.write_bytes(content)
    return Done(f"bytes {places} changed", readable=True)


def _cut(path: Path, rng: Random) -> Done:
    content = path.read_bytes()
    end = rng.randrange(len(content))
    path.write_bytes(content[:end])
    whole = path.suffix in (".json", ".safetensors")  # of others a part may be as good
    return Done(f"cut at byte {end}", whole and bool(content[end:].strip()), readable=True)


def _inserted(path: Path, rng: Random) -> Done:
    content = path.read_bytes()
    at, more = rng.randrange(len(content) + 1), rng.randbytes(rng.choice([1, 3, 100]))
    path.write_bytes(content[:at] + more + content[at:])
    return Done(f"{len(more)} bytes put in at {at}", readable=True)


def _noise(path: Path, rng: Random) -> Done:
    path.write_bytes(rng.randbytes(rng.choice([1, 8, 100, 10_000])).strip() or b"\xff")  # blank lines hold nothing, and may
    return Done("noise", True, readable=True)


def _missing(path: Path, rng: Random) -> Done:
    path.unlink()
    return Done("missing", True, missing=True)


def _pipe(path: Path, rng: Random) -> Done:
    path.unlink()
    os.mkfifo(path)
    return Done("a pipe", True)


def _socket(path: Path, rng: Random) -> Done:
    path.unlink()
    here = os.getcwd()
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        os.chdir(path.parent)  # the name of a socket has to be short
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)
    return Done("a socket", True)


def _folder(path: Path, rng: Random) -> Done:
    path.unlink()
    path.mkdir()
    return Done("a folder", True)


def _linked(target: Callable[[Path], str | Path], what: str, link: bool = False) -> Spoil:
    def spoil(path: Path, rng: Random) -> Done:
        to = target(path)
        path.unlink()
        path.symlink_to(to)
        return Done(what, True, link=link)

    return spoil


def _circle(path: Path) -> str:
    other = path.with_name("another")
    other.symlink_to(path.name)
    return other.name


def _copy_outside(path: Path) -> Path:
    """A copy in the canaries' folder; it is a canary, too."""
    folder = Path.cwd() / "canaries"
    place = folder / path.name
    if not place.exists():
        place.write_bytes(path.read_bytes())
    return place


ANY_FILE: dict[str, Spoil] = {
    "bytes flipped": flipped,
    "cut": _cut,
    "bytes put in": _inserted,
    "noise": _noise,
    "empty": replaced(lambda _: b"", "empty"),
    "missing": _missing,
    "pipe": _pipe,
    "socket": _socket,
    "folder": _folder,
    "link to zeros": _linked(lambda _: "/dev/zero", "a link to /dev/zero"),
    "link to a terminal": _linked(lambda _: "/dev/ptmx", "a link to /dev/ptmx"),
    "link to itself": _linked(lambda path: path.name, "a link to itself"),
    "circle": _linked(_circle, "a circle of links"),
    "link to nothing": _linked(lambda _: "nowhere", "a link to nothing"),
    "link to a folder": _linked(lambda _: "..", "a link to a folder"),
    "link outside": _linked(_copy_outside, "a link to the like elsewhere", link=True),
    "link to a secret": _linked(lambda _: Path.cwd() / "canaries" / "secret.json", "a link to a secret", link=True),
    "link by its folder": _linked(lambda _: "/etc/passwd", "a link to /etc/passwd", link=True),
}
