"""All that a process has started is found and ended, whoever's child it is by then and whatever session it is in."""

import os
import signal
import subprocess
import sys
import time

import pytest

from fcit_plugin.descendants import Descendants

#: Starts itself, once less each time, with a session of its own at each second one; the last but one may end before the last.
CHAIN = """
import subprocess, sys, time
left, ends = int(sys.argv[1]), sys.argv[2] == "ends"
if left:
    subprocess.Popen([sys.executable, "-c", sys.argv[3], str(left - 1), *sys.argv[2:]], start_new_session=left % 2 == 0)
print("up", flush=True)
if not (ends and left):
    time.sleep(60)
"""


@pytest.fixture
def start():
    """Starts a chain of processes and waits until all are up; whatever is left of it is ended."""
    families = []

    def go(length, how="stays"):
        family = Descendants()
        families.append(family)
        process = subprocess.Popen(
            [sys.executable, "-c", CHAIN, str(length), how, CHAIN],
            env={**os.environ, **family.env},
            stdout=subprocess.PIPE,
        )
        for _ in range(length + 1):
            assert process.stdout.readline() == b"up\n"
        return family, process

    yield go
    for family in families:
        family.end()


def wait_until(holds):
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_all_of_a_chain_are_found_and_ended_and_nobody_else(start):
    one, process = start(4)
    other, _ = start(1)
    assert len(one.pids()) == 5 and process.pid in one.pids() and len(other.pids()) == 2
    assert os.getpid() not in one.pids() + other.pids() and not {*one.pids()} & {*other.pids()}
    one.end()
    assert one.pids() == [] and process.wait() == -signal.SIGKILL
    assert len(other.pids()) == 2


def test_those_whose_parents_have_ended_are_found_too(start):
    family, process = start(3, "ends")
    assert process.wait() == 0
    wait_until(lambda: len(family.pids()) == 1)
    family.end()
    assert family.pids() == []


def test_one_within_another_is_found_by_both(start):
    outer = Descendants()
    inner, _ = start(1)
    assert outer.pids() == []
    nested = subprocess.Popen(["sleep", "60"], env={**os.environ, **outer.env, **inner.env})
    wait_until(lambda: outer.pids() == [nested.pid])
    assert nested.pid in inner.pids()
    outer.end()
    assert nested.wait() == -signal.SIGKILL and len(inner.pids()) == 2


@pytest.mark.parametrize(
    ("takes", "asked"), [("lambda *_: sys.exit(7)", True), ("signal.SIG_DFL", False), ("signal.SIG_IGN", False)]
)
def test_only_those_that_listen_are_asked(takes, asked):
    family = Descendants()
    code = f"import signal, sys, time; signal.signal(signal.SIGABRT, {takes}); print('up', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **family.env}, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"up\n"
    try:
        assert family.ask(signal.SIGABRT) is asked
        if asked:
            assert process.wait(10) == 7
        else:
            assert family.pids() == [process.pid]
    finally:
        family.end()
        process.wait()


def test_a_signal_for_all_reaches_all(start):
    family, process = start(2)
    family.send(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM
    wait_until(lambda: family.pids() == [])
