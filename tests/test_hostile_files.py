"""Whatever is spoilt in a file that comes from elsewhere ends in one sentence that names it, and in nothing else.

The readers are in ``tests/helpers/readers.py``, the ways to spoil a file in ``hostile.py``. 100,000 cases:

    FCIT_FUZZ=100000 python -m pytest tests/test_hostile_files.py -m slow
"""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fuzz import Yard
from hostile import ways_of
from jail import Watch, in_children
from readers import READERS

from fcit_plugin.errors import FcitError

#: Cases of the quick tests, and of the slow proof by default.
QUICK, SLOW = 2_000, 20_000


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    return Yard(tmp_path_factory.mktemp("hostile") / "yard")


def told(wrong):
    return "\n".join(wrong[:20]) + f"\n{len(wrong)} in all"


def test_whatever_is_spoilt_ends_in_a_sentence_that_names_it(yard):
    wrong, counts = yard.run(yard.cases(QUICK, seed=0))
    assert not wrong, told(wrong)
    assert counts.total() == QUICK and counts["refused"] > 0.8 * QUICK


@pytest.mark.slow
def test_whatever_is_spoilt_ends_in_a_sentence_that_names_it_many_times(yard, capsys):
    count, began = int(os.environ.get("FCIT_FUZZ", SLOW)), time.monotonic()
    wrong, counts = yard.run(yard.cases(count, seed=int(os.environ.get("FCIT_FUZZ_SEED", 1))))
    with capsys.disabled():
        print(f"\n{count:,} cases: {counts['refused']:,} refused, {counts['taken']:,} taken, {time.monotonic() - began:.0f} s")
    assert not wrong, told(wrong)


# --- the harness itself finds what it is there for


def _leaky(folder: Path):
    """Reads without a look at what it reads, and says so badly."""
    text = (folder / "x.json").read_text()
    if "second" in text:
        time.sleep(60)
    return iter(())


def _imports(folder: Path):
    sys.modules.pop("canary", None)
    import canary  # noqa: F401

    return iter(())


def _opens(folder: Path):
    (folder.parent / "canaries" / "secret.json").read_text()
    return iter(())


def _writes(folder: Path):
    (folder.parent / "canaries" / "secret.json").write_text("x")
    return iter(())


def _starts(folder: Path):
    os.system("true")
    return iter(())


def _eats(folder: Path):
    assert bytearray(10**10)
    return iter(())


def _dies(folder: Path):
    os.kill(os.getpid(), signal.SIGKILL)


def _hangs(folder: Path):
    while True:
        pass


def _says_nothing(folder: Path):
    raise FcitError("Something is wrong.")


def _shows(folder: Path):
    return ["x.json a holds \x1b[31m"]


def _raises(folder: Path):
    raise KeyError("a")


FAULTS = {
    _imports: "import 'canary'",
    _opens: "canaries/secret.json",
    _writes: "canary secret.json has changed",
    _starts: "os.system",
    _eats: "MemoryError",
    _dies: "it ended the process",
    _hangs: "it was not done within 1 s",
    _says_nothing: "the file is not named",
    _shows: "no sentence to be shown",
    _raises: "KeyError: 'a'",
}


@pytest.mark.parametrize("read", FAULTS)
def test_the_harness_sees(read, tmp_path):
    asked = []

    def reading(folder):
        asked.append(folder)
        return read(folder) if os.getpid() != parent else iter(())

    parent = os.getpid()
    reader = replace(READERS["DeepSpeed's file"], name="x", make=_make, read=reading, free=("*",), takes=())
    yard = Yard(tmp_path / "yard", {"x": reader})
    wrong, _ = yard.run([["x", "x.json", "a list", "0"]], seconds=1)
    assert any(FAULTS[read] in one for one in wrong), wrong


def _make(folder: Path) -> None:
    (folder / "x.json").write_text('{"a": 1, "b": [2, "c"]}')


def test_after_a_case_that_ends_the_child_another_one_goes_on(tmp_path):
    def work(case: int, watch: Watch) -> int:
        if case % 3 == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return case

    (tmp_path / "work").mkdir()
    ended = in_children(list(range(8)), work, tmp_path / "work", seconds=5)
    assert [one.value for one in ended] == [0, 1, None, 3, 4, None, 6, 7]


def test_every_way_changes_the_file(tmp_path, monkeypatch):
    """But those that change it now and then alone."""
    from random import Random

    (tmp_path / "canaries").mkdir()
    (tmp_path / "canaries" / "secret.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for number, way in enumerate(ways_of(Path("x.json"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        _make(folder)
        before = (folder / "x.json").read_bytes()
        done = ways_of(folder / "x.json")[way](folder / "x.json", Random(3))
        path = folder / "x.json"
        same = path.is_file() and not path.is_symlink() and path.read_bytes() == before
        assert done.what and not same, way
