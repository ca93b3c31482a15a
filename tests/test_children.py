"""Forked children: one that is killed leaves nothing locked, and no test or tool forks in another way."""

import ast
import os
import signal
from pathlib import Path

import pytest
import torch
from children import fork
from crashes import in_a_child
from tqdm import tqdm

ROOT = Path(__file__).parents[1]


def ended(work, seconds: int = 10) -> int:
    """How a child ends that does this: 0, or minus the signal that ended it."""
    child = fork(seconds)
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def show_a_bar() -> None:
    list(tqdm(range(2), disable=True))


def test_a_child_that_is_killed_in_a_progress_bar_leaves_its_parent_and_other_children_going():
    show_a_bar()  # the lock of all bars exists before the fork

    def die_with_the_lock():
        with tqdm.get_lock():
            os.kill(os.getpid(), signal.SIGKILL)

    assert ended(die_with_the_lock) == -signal.SIGKILL
    assert ended(show_a_bar) == 0
    shared = tqdm.get_lock().mp_lock
    assert shared.acquire(False)
    shared.release()


def test_a_child_that_waits_for_ever_is_ended():
    assert ended(signal.pause, seconds=1) == -signal.SIGALRM

    def wait_for_ever():
        signal.alarm(1)
        signal.pause()

    with pytest.raises(TimeoutError, match="waits for ever"):
        in_a_child(wait_for_ever)


def test_a_child_computes_after_its_parent_has_used_two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.ones(512, 512) @ torch.ones(512, 512)
        assert ended(lambda: torch.ones(512, 512) @ torch.ones(512, 512)) == 0
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("folder", ["tests", "tools", "benchmarks", "examples", "fcit_plugin"])
def test_nothing_else_forks(folder):
    forking = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / folder).rglob("*.py")
        if path != ROOT / "tests" / "helpers" / "children.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("fork", "forkpty")
    ]
    assert forking == []
