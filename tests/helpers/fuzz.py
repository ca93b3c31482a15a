"""Spoils the files of every reader and judges what it says of them; :mod:`readers` has the readers, :mod:`hostile` the ways."""

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from random import Random
from typing import Any

from hostile import ways_of
from hostile_files import Done
from jail import FORBIDDEN, Ended, Watch, in_children
from readers import READERS, Reader

from fcit_plugin.errors import FcitError, printable
from fcit_plugin.state.sealed import CHECKSUMS

#: A sentence is no page.
LONGEST = 10_010


class Yard:
    """Where cases are done: good files of every reader, the folder in which a copy is spoilt, and canaries beside it.

    Args:
        folder: Empty.
        readers: By name.
    """

    def __init__(self, folder: Path, readers: dict[str, Reader] = READERS) -> None:
        self.readers = readers
        self.good, self.work, self.canaries = folder / "good", folder / "work", folder / "canaries"
        self.canaries.mkdir(parents=True)
        (self.canaries / "secret.json").write_text('{"reason": "a secret"}')
        (folder / "canary.py").write_text(f"open({str(self.canaries / 'imported')!r}, 'w')\n")
        self._pairs = {}
        for name, reader in readers.items():
            good = self.good / name
            good.mkdir(parents=True)
            self.work.mkdir()
            reader.make(self.work)  # where it is read, for paths may stand in it
            shutil.copytree(self.work, good, dirs_exist_ok=True)
            self._pairs[name] = list(self._ways(name))
            said = list(reader.read(self.work))
            assert not said, (name, said)
            shutil.rmtree(self.work)
        for case in self.cases(4 * len(readers), "warm up"):  # what is imported over an error is imported by then
            self.work.mkdir(exist_ok=True)
            with contextlib.suppress(Exception):  # it is told when it counts
                self.do(case, Watch(str(self.work)))

    def _ways(self, name: str) -> Iterator[tuple[str, str]]:
        """Each file of a reader with each way to spoil it."""
        for path in sorted((self.good / name).rglob("*")):
            file = path.relative_to(self.good / name).as_posix()
            if path.is_file() and any(fnmatchcase(file, pattern) for pattern in self.readers[name].spoil):
                yield from ((file, way) for way in ways_of(path))

    def cases(self, count: int, seed: int | str) -> list[list[Any]]:
        """So many cases: of each reader its share, which go through its files and ways in an order by the seed."""
        order = {name: Random(f"{seed} {name}").sample(pairs, len(pairs)) for name, pairs in self._pairs.items()}
        names = [name for turn in range(4) for name, reader in self.readers.items() if turn < reader.share]
        found, taken = [], Counter[str]()
        for number in range(count):
            name = names[number % len(names)]
            found.append([name, *order[name][taken[name] % len(order[name])], f"{seed} {number}"])
            taken[name] += 1
        return found

    def do(self, case: Sequence[Any], watch: Watch) -> dict[str, Any]:
        """Do one case.

        Args:
            case: Reader, file, way, and a text that chance comes from.
            watch: Made active while the reader reads.

        Returns:
            What was done, what the reader said, and what is wrong with that.
        """
        name, file, way, chance = case
        reader, path = self.readers[name], self.work / file
        shutil.rmtree(self.work)
        shutil.copytree(self.good / name, self.work)
        done = ways_of(path)[way](path, Random(chance))
        if done.readable and path.name != CHECKSUMS:
            reader.mend(self.work)
        watch.seen.clear()
        watch.active = True
        try:
            said = list(reader.read(self.work))
        except FcitError as error:
            said = [str(error)]
        finally:
            watch.active = False
        seen = watch.seen
        if done.link and _fits(file, reader.own):  # a link of the user's own
            seen = [event for event in seen if event.startswith(FORBIDDEN)]
        faults = [*self._judge(reader, file, way, done, said), *seen[:1]]
        return {"what": done.what, "said": said[:2] if not faults else said, "faults": faults}

    def _judge(self, reader: Reader, file: str, way: str, done: Done, said: Sequence[str]) -> Iterator[str]:
        place = ".".join(map(str, done.place or ()))
        free = any(fnmatchcase(f"{file}:{place}", pattern) for pattern in reader.free)
        excused = (done.missing and _fits(file, reader.optional)) or (done.link and _fits(file, reader.own)) or free
        excused = excused or _fits(file, reader.unread) or (file, way) in reader.takes
        if done.refused and not said and not excused:
            yield "it was taken"
        if said and not any(self._names(reader, file, sentence) for sentence in said):
            yield "the file is not named"
        placed = done.place is not None and not free and not _fits(file, reader.whole)
        if said and placed and not any(_names_place(done.place, sentence) for sentence in said):
            yield f"`{place}` is not named"
        for sentence in said:
            if not sentence.isprintable() or len(sentence) > LONGEST:
                yield f"no sentence to be shown: {sentence[:200]!r} ({len(sentence)} letters)"

    @staticmethod
    def _names(reader: Reader, file: str, sentence: str) -> bool:
        others = [name for pattern, name in reader.names.items() if fnmatchcase(file, pattern)]
        return any(name in sentence for name in (file, *others))

    def run(self, cases: Sequence[Any], seconds: float = 20.0) -> tuple[list[str], Counter[str]]:
        """Do cases in watched children.

        Returns:
            What is wrong, and how many cases were refused and taken.
        """
        self.work.mkdir(exist_ok=True)
        before = self._canaries()
        ended = in_children(cases, self.do, self.work, seconds)
        wrong = [f"{one.case}: {one.value['what'] if one.value else ''}: {fault}" for one in ended for fault in _faults(one)]
        after = self._canaries()
        wrong += [f"the canary {name} has changed" for name, content in before.items() if after.get(name) != content]
        if (self.canaries / "imported").exists():
            wrong.append("the canary was imported")
        counts = Counter("refused" if one.value and one.value["said"] else "taken" for one in ended)
        return wrong, counts

    def _canaries(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.canaries.iterdir()}


def _faults(one: Ended) -> list[str]:
    if one.fault is not None:
        return [one.fault]
    return [f"{fault}; said: {one.value['said']}" for fault in one.value["faults"]]


def _fits(file: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(file, pattern) for pattern in patterns)


def _names_place(place: Sequence[Any], sentence: str) -> bool:
    """Whether a sentence names a value's place: its key, or one that it is under."""
    names = [printable(" ".join(key.split())[:100]) for key in place if isinstance(key, str)]
    return not names or any(name in sentence for name in names) or f"record {place[0]}" in sentence.lower()
