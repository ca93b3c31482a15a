"""Forked children: one that is killed leaves nobody waiting for its lock, and each has a limit in time."""

import ast
import os
import signal
from pathlib import Path

import pytest
import torch
import tqdm.auto
import tqdm.std
from children import ended
from crashes import in_a_child
from datasets.utils import tqdm as DatasetsBar
from tqdm.std import TqdmDefaultWriteLock

ROOT = Path(__file__).parents[1]
BARS = {"tqdm": tqdm.std.tqdm, "auto": tqdm.auto.tqdm, "datasets": DatasetsBar}


@pytest.mark.parametrize("first", BARS)
def test_a_child_that_is_killed_in_a_progress_bar_leaves_no_other_waiting(first):
    """Whichever kind of bar the parent showed first, for each may have a lock of its own from then on."""

    def parent():  # in a process with a semaphore of its own, which its children could leave locked
        if hasattr(TqdmDefaultWriteLock, "mp_lock"):
            del TqdmDefaultWriteLock.mp_lock
        for kind in BARS.values():
            if "_lock" in vars(kind):
                del kind._lock
        for name in (first, *BARS):
            list(BARS[name](range(2), disable=True))
        for kind in BARS.values():
            assert ended(lambda kind=kind: die_with_the_lock_of(kind), 10) == -signal.SIGKILL
            assert [ended(lambda other=other: list(other(range(2))), 10) for other in BARS.values()] == [0, 0, 0]
        assert TqdmDefaultWriteLock.mp_lock.acquire(False), "nobody holds what all forks have in common"

    assert ended(parent, 60) == 0


def die_with_the_lock_of(kind) -> None:
    with kind.get_lock():
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_child_that_waits_forever_is_ended():
    assert ended(signal.pause, seconds=1) == -signal.SIGALRM

    def wait_forever():
        signal.alarm(1)
        signal.pause()

    with pytest.raises(TimeoutError, match="did not end"):
        in_a_child(wait_forever)


def test_a_child_ends_by_the_alarm_whatever_its_parent_does_at_one():
    def parent():
        signal.signal(signal.SIGALRM, lambda *_: None)
        assert ended(lambda: [signal.pause() for _ in range(2)], seconds=1) == -signal.SIGALRM

    assert ended(parent, 10) == 0


def test_how_a_child_ends_is_told():
    def stop():
        os.kill(os.getpid(), signal.SIGTERM)

    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    assert [in_a_child(work) for work in (lambda: None, lambda: 1 / 0, kill, stop)] == [0, 1, None, -signal.SIGTERM]


def test_a_child_computes_after_its_parent_has_used_two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.ones(512, 512) @ torch.ones(512, 512)
        assert ended(lambda: torch.ones(512, 512) @ torch.ones(512, 512), 10) == 0
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("folder", ["tests", "tools", "benchmarks", "examples", "fcit_plugin"])
def test_nothing_else_calls_the_systems_fork(folder):
    forking = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / folder).rglob("*.py")
        if path != ROOT / "tests" / "helpers" / "children.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.fork", "os.forkpty", "pty.fork"))
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and {"fork", "forkpty"} & {n.name for n in node.names})
    ]
    assert forking == []
