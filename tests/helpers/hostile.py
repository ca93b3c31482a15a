"""Ways in which somebody can spoil a file before we read it, each with what a reader has to say of it."""

import contextlib
import copy
import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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


def kind_of(value: Any) -> str:
    """What JSON calls a value."""
    names = {dict: "object", list: "list", str: "text", bool: "truth value", int: "number", float: "number"}
    return names.get(type(value), "null")


# --- any file


def _replaced(content: Callable[[bytes], bytes], what: str, refused: bool = True) -> Spoil:
    def spoil(path: Path, rng: Random) -> Done:
        path.write_bytes(content(path.read_bytes()))
        return Done(what, refused, readable=True)

    return spoil


def _flipped(path: Path, rng: Random) -> Done:
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
    "bytes flipped": _flipped,
    "cut": _cut,
    "bytes put in": _inserted,
    "noise": _noise,
    "empty": _replaced(lambda _: b"", "empty"),
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


# --- JSON


def _document(content: bytes, what: str) -> Spoil:
    return _replaced(lambda _: content, what)


def _places(value: Any, at: Place = ()) -> Iterator[Place]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield (*at, key)
        yield from _places(part, (*at, key))


def value_at(value: Any, place: Place) -> Any:
    """The part of a value at a place."""
    for key in place:
        value = value[key]
    return value


def dump(value: Any) -> str:
    """JSON text with what our own writers would refuse."""
    text = json.dumps(value)
    for mark, raw in RAW.items():
        text = text.replace(f'"{mark}"', raw)
    return text


def _parsed(path: Path) -> Any:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return json.loads(path.read_text())


def _written(path: Path, value: Any) -> None:
    lines = isinstance(value, list) and path.suffix == ".jsonl"
    path.write_text("".join(f"{dump(line)}\n" for line in value) if lines else dump(value))


def _of_value(change: Callable[[Any, Place, Random], Done | None]) -> Spoil:
    """A change of the value in a JSON file, at a place by chance."""

    def spoil(path: Path, rng: Random) -> Done:
        value = _parsed(path)
        places = list(_places(value))
        rng.shuffle(places)
        for place in places:
            changed = copy.deepcopy(value)
            done = change(changed, place, rng)
            if done is not None:
                _written(path, changed)
                if path.suffix == ".yaml" and (done.place is None or "Infinity" in done.what or "NaN" in done.what):
                    return replace(done, refused=False)  # its numbers may have any length, and these are words there
                return done
        return _flipped(path, rng)

    return spoil


def _other_value(value: Any, place: Place, rng: Random) -> Done:
    holder, other = value_at(value, place[:-1]), rng.choice(VALUES)
    before, holder[place[-1]] = holder[place[-1]], other
    never = isinstance(other, str) and other in NEVER
    refused = never or ("null" not in (kind_of(before), kind_of(other)) and kind_of(before) != kind_of(other))
    return Done(f"{_spoken(place)} = {dump(other)[:60]}", refused, None if never else place, readable=True)


def _without(value: Any, place: Place, rng: Random) -> Done:
    value_at(value, place[:-1]).pop(place[-1])
    return Done(f"{_spoken(place)} taken out", False, place, readable=True)


def _one_more(value: Any, place: Place, rng: Random) -> Done | None:
    part = value_at(value, place)
    if isinstance(part, list):
        part.append(copy.deepcopy(rng.choice(part)) if part and rng.random() < 0.5 else rng.choice(VALUES[:30]))
    elif isinstance(part, dict):
        place = (*place, rng.choice(KEYS))
        part[place[-1]] = rng.choice(VALUES[:30])
    else:
        return None
    return Done(f"more in {_spoken(place)}", False, place, readable=True)


def _another_key(value: Any, place: Place, rng: Random) -> Done | None:
    holder = value_at(value, place[:-1])
    if not isinstance(holder, dict):
        return None
    name = rng.choice(KEYS)
    holder[name] = holder.pop(place[-1])
    return Done(f"{_spoken(place)} renamed to {name[:20]!r}", False, (*place, name), readable=True)


def _exchanged(value: Any, place: Place, rng: Random) -> Done:
    """Two values of one file in each other's place."""
    other = rng.choice([p for p in _places(value) if p[: len(place)] != place and place[: len(p)] != p] or [place])
    one, two = copy.deepcopy(value_at(value, place)), copy.deepcopy(value_at(value, other))
    value_at(value, place[:-1])[place[-1]], value_at(value, other[:-1])[other[-1]] = two, one
    return Done(f"{_spoken(place)} and {_spoken(other)} exchanged", readable=True)


def _twice(path: Path, rng: Random) -> Done:
    """A key that stands there twice; of the two the last one counts."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    value = json.loads(lines[0])
    if not isinstance(value, dict) or not value:
        return _flipped(path, rng)
    key, whole = rng.choice(sorted(value)), json.dumps(value)
    one = f"{json.dumps(key)}: {dump(rng.choice(VALUES[:30]))}"
    lines[0] = f"{{{one}, {whole[1:]}" if rng.random() < 0.5 else f"{whole[:-1]}, {one}}}"
    path.write_text("\n".join(lines))
    return Done(f"{key} twice", False, (key,), readable=True)


def _spoken(place: Place) -> str:
    return ".".join(str(key)[:40] for key in place)


JSON_FILE: dict[str, Spoil] = {
    "not UTF-8": _document(b'{"a": "\xff\xfe"}', "not UTF-8"),
    "UTF-16": _replaced(lambda content: content.decode().encode("utf-16"), "in UTF-16"),
    "BOM": _replaced(lambda content: b"\xef\xbb\xbf" + content, "with a byte order mark"),
    "null": _document(b"null", "null"),
    "a number": _document(b"3", "a number"),
    "a list": _document(b"[[]]", "a list"),
    "an empty object": _document(b"{}", "an empty object"),
    "brackets": _document(b"[" * 200_000, "200,000 brackets"),
    "objects": _document(b'{"a":' * 100_000, "100,000 objects in each other"),
    "digits": _document(b'{"a": ' + b"9" * 400 + b"}", "400 digits"),
    "exponent": _document(b'{"a": 1e999}', "a number beyond all"),
    "NaN": _document(b"NaN", "NaN"),
    "key twice": _twice,
    "another value": _of_value(_other_value),
    "another value, ": _of_value(_other_value),  # the likeliest one
    "another value, again": _of_value(_other_value),
    "a value less": _of_value(_without),
    "a value more": _of_value(_one_more),
    "another key": _of_value(_another_key),
    "exchanged": _of_value(_exchanged),
}


def _bomb(depth: int) -> bytes:
    """Aliases that stand for 10 to the power of the depth."""
    lines = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, depth)]
    return "\n".join(["a0: &a0 [x, x]", *lines]).encode()


#: YAML takes more than JSON does, and the most of it is no fault of the reader's.
YAML_FILE = JSON_FILE | {
    "BOM": _replaced(lambda content: b"\xef\xbb\xbf" + content, "with a byte order mark", refused=False),
    "an empty object": _replaced(lambda _: b"{}", "an empty object", refused=False),
    "digits": _replaced(lambda _: b'{"a": ' + b"9" * 400 + b"}", "400 digits", refused=False),
    "exponent": _replaced(lambda _: b'{"a": 1e999}', "a number beyond all", refused=False),
    "brackets": _document(b"[" * 20_000, "20,000 brackets"),
    "objects": _document(b'{"a":' * 10_000, "10,000 objects in each other"),
    "many digits": _document(b'{"a": ' + b"9" * 10_000 + b"}", "10,000 digits"),
    "a date that is none": _document(b"a: 2020-99-99", "a date that is none"),
    "code": _document(b'!!python/object/apply:os.system ["true"]', "a tag that calls"),
    "aliases": _replaced(lambda _: _bomb(12), "a bomb of aliases", refused=False),
    "a circle": _replaced(lambda _: b"&a [*a]", "a list in itself"),
    "a circle of keys": _replaced(lambda _: b"&a {b: *a}", "an object in itself", refused=False),
    "a set": _replaced(lambda _: b"!!set {a, b}", "a set", refused=False),
    "keys that are lists": _document(b"? [a, b]\n: 1", "a list for a key"),
}


# --- safetensors


def _head_of(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _with_head(path: Path, head: str, data: bytes) -> None:
    raw = head.encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)


def _length(path: Path, rng: Random) -> Done:
    content, length = path.read_bytes(), rng.choice([0, 1, 2**20, 2**32, 2**40, 2**63, 2**64 - 1])
    path.write_bytes(struct.pack("<Q", length) + content[8:])
    return Done(f"a head of {length} bytes", True, readable=True)


def _head(change: Callable[[dict[str, Any], Random], str], refused: bool = False) -> Spoil:
    def spoil(path: Path, rng: Random) -> Done:
        head, data = _head_of(path)
        what = change(head, rng)
        _with_head(path, dump(head), data)
        return Done(what, refused, readable=True)

    return spoil


def _a_tensor(head: dict[str, Any], rng: Random) -> str:
    return rng.choice(sorted(name for name in head if name != "__metadata__"))


def _head_value(head: dict[str, Any], rng: Random) -> str:
    return f"head: {_other_value(head, rng.choice(list(_places(head))), rng).what}"


def _tensor_name(head: dict[str, Any], rng: Random) -> str:
    name, other = _a_tensor(head, rng), rng.choice(KEYS)
    head[other] = head.pop(name)
    return f"tensor {name} is {other[:20]!r}"


def _dtype(head: dict[str, Any], rng: Random) -> str:
    name, dtype = (
        _a_tensor(head, rng),
        rng.choice(["I32", "U32", "F16", "BF16", "F64", "I64", "I8", "BOOL", "F8_E4M3", "C64", "X"]),
    )
    head[name]["dtype"] = dtype
    return f"{name} is of {dtype}"


def _dtype_and_shape(head: dict[str, Any], rng: Random) -> str:
    """Another dtype of the same bytes."""
    name = _a_tensor(head, rng)
    dtype, size = rng.choice([("F16", 2), ("BF16", 2), ("I8", 1), ("U8", 1), ("BOOL", 1), ("F8_E4M3", 1), ("F8_E5M2", 1)])
    start, end = head[name]["data_offsets"]
    head[name] |= {"dtype": dtype, "shape": [(end - start) // size]}
    return f"{name} is {(end - start) // size} numbers of {dtype}"


def _shape(head: dict[str, Any], rng: Random) -> str:
    name = _a_tensor(head, rng)
    shape = head[name]["shape"]
    head[name]["shape"] = rng.choice([[], [0], shape[::-1], [1, *shape], [2**32, 2**32], [10**9] * 2, [*shape, 0]])
    return f"{name} is of shape {head[name]['shape']}"


def _offsets(head: dict[str, Any], rng: Random) -> str:
    name = _a_tensor(head, rng)
    start, end = head[name]["data_offsets"]
    head[name]["data_offsets"] = rng.choice([[end, start], [0, 0], [start, end + 8], [2**63, 2**63 + end - start], [start], []])
    return f"{name} is at {head[name]['data_offsets']}"


def _no_tensors(head: dict[str, Any], rng: Random) -> str:
    head.clear()
    return "no tensors"


def _numbers(path: Path, rng: Random) -> Done:
    """Numbers that are none, or larger than all."""
    head, data = _head_of(path)
    number = rng.choice(
        [b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\xff\xff", b"\xff\xff\x7f\x7f", b"\xff\xff\xff\x7f"]
    )
    at = rng.randrange(max(len(data) // 4, 1)) * 4
    _with_head(path, json.dumps(head), data[:at] + number * (len(data[at : at + 4]) // 4) + data[at + 4 :])
    return Done(f"a number at byte {at} is {number!r}", readable=True)


TENSOR_FILE: dict[str, Spoil] = {
    "head's length": _length,
    "head's value": _head(_head_value),
    "tensor's name": _head(_tensor_name),
    "tensor's dtype": _head(_dtype),
    "tensor's dtype and shape": _head(_dtype_and_shape),
    "tensor's shape": _head(_shape),
    "tensor's place": _head(_offsets),
    "no tensors": _head(_no_tensors),
    "metadata": _head(lambda head, rng: head.__setitem__("__metadata__", rng.choice(VALUES[:30])) or "metadata"),
    "numbers": _numbers,
}


def ways_of(path: Path) -> dict[str, Spoil]:
    """What can be done to a file, by name."""
    if path.suffix in (".json", ".jsonl"):
        return ANY_FILE | JSON_FILE
    if path.suffix == ".yaml":  # what we write as YAML for these tests is JSON, too
        return ANY_FILE | YAML_FILE
    return ANY_FILE | (TENSOR_FILE if path.suffix == ".safetensors" else {})
