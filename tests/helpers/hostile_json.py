"""Ways to spoil a JSON file, or one of YAML."""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from hostile_files import KEYS, NEVER, RAW, VALUES, Done, Place, Spoil, flipped, replaced


def kind_of(value: Any) -> str:
    """What JSON calls a value."""
    names = {dict: "object", list: "list", str: "text", bool: "truth value", int: "number", float: "number"}
    return names.get(type(value), "null")


def _document(content: bytes, what: str) -> Spoil:
    return replaced(lambda _: content, what)


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Those of all parts of a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield (*at, key)
        yield from places(part, (*at, key))


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
        found = list(places(value))
        rng.shuffle(found)
        for place in found:
            changed = copy.deepcopy(value)
            done = change(changed, place, rng)
            if done is not None:
                _written(path, changed)
                if path.suffix == ".yaml" and (done.place is None or "Infinity" in done.what or "NaN" in done.what):
                    return replace(done, refused=False)  # its numbers may have any length, and these are words there
                return done
        return flipped(path, rng)

    return spoil


def other_value(value: Any, place: Place, rng: Random) -> Done:
    """Another value in the place of one."""
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
    other = rng.choice([p for p in places(value) if p[: len(place)] != place and place[: len(p)] != p] or [place])
    one, two = copy.deepcopy(value_at(value, place)), copy.deepcopy(value_at(value, other))
    value_at(value, place[:-1])[place[-1]], value_at(value, other[:-1])[other[-1]] = two, one
    return Done(f"{_spoken(place)} and {_spoken(other)} exchanged", readable=True)


def _twice(path: Path, rng: Random) -> Done:
    """A key that stands there twice; of the two the last one counts."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    value = json.loads(lines[0])
    if not isinstance(value, dict) or not value:
        return flipped(path, rng)
    key, whole = rng.choice(sorted(value)), json.dumps(value)
    one = f"{json.dumps(key)}: {dump(rng.choice(VALUES[:30]))}"
    lines[0] = f"{{{one}, {whole[1:]}" if rng.random() < 0.5 else f"{whole[:-1]}, {one}}}"
    path.write_text("\n".join(lines))
    return Done(f"{key} twice", False, (key,), readable=True)


def _spoken(place: Place) -> str:
    return ".".join(str(key)[:40] for key in place)


JSON_FILE: dict[str, Spoil] = {
    "not UTF-8": _document(b'{"a": "\xff\xfe"}', "not UTF-8"),
    "UTF-16": replaced(lambda content: content.decode().encode("utf-16"), "in UTF-16"),
    "BOM": replaced(lambda content: b"\xef\xbb\xbf" + content, "with a byte order mark"),
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
    "another value": _of_value(other_value),
    "another value, ": _of_value(other_value),  # the likeliest one
    "another value, again": _of_value(other_value),
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
    "BOM": replaced(lambda content: b"\xef\xbb\xbf" + content, "with a byte order mark", refused=False),
    "an empty object": replaced(lambda _: b"{}", "an empty object", refused=False),
    "digits": replaced(lambda _: b'{"a": ' + b"9" * 400 + b"}", "400 digits", refused=False),
    "exponent": replaced(lambda _: b'{"a": 1e999}', "a number beyond all", refused=False),
    "brackets": _document(b"[" * 20_000, "20,000 brackets"),
    "objects": _document(b'{"a":' * 10_000, "10,000 objects in each other"),
    "many digits": _document(b'{"a": ' + b"9" * 10_000 + b"}", "10,000 digits"),
    "a date that is none": _document(b"a: 2020-99-99", "a date that is none"),
    "code": _document(b'!!python/object/apply:os.system ["true"]', "a tag that calls"),
    "aliases": replaced(lambda _: _bomb(12), "a bomb of aliases", refused=False),
    "a circle": replaced(lambda _: b"&a [*a]", "a list in itself"),
    "a circle of keys": replaced(lambda _: b"&a {b: *a}", "an object in itself", refused=False),
    "a set": replaced(lambda _: b"!!set {a, b}", "a set", refused=False),
    "keys that are lists": _document(b"? [a, b]\n: 1", "a list for a key"),
}
