"""Two runs in one folder: the second one says who is there, and leaves everything as it was."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from runs import run_recipe

from fcit_plugin.engine.one_run import one_run
from fcit_plugin.errors import FcitError
from fcit_plugin.federation.secure_sum.store import FileStore

HOLD = """
import sys, time
from pathlib import Path
from fcit_plugin.engine.one_run import one_run

with one_run(Path(sys.argv[1]), True):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that is at ``out``."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_names_the_first_and_changes_nothing(text_recipe, tmp_path, other):
    with pytest.raises(FcitError, match=rf"Another run writes into .*/out \(process {other.pid} on {socket.gethostname()}"):
        run_recipe(text_recipe())
    assert not (tmp_path / "out").exists()
    other.send_signal(signal.SIGKILL)
    other.wait()
    with one_run(tmp_path / "out", True):
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO, errno.ENOSYS])
def test_a_file_system_without_locks_is_said(number, tmp_path, monkeypatch):
    def refuse(*given):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with (
        pytest.raises(FcitError, match=r"/out cannot be locked against a second run \(.*\); let"),
        one_run(tmp_path / "out", True),
    ):
        pass
    with pytest.raises(FcitError, match=r"/sums cannot be locked against a second process of this site"):
        FileStore(tmp_path / "sums")


def test_nothing_is_left_beside_the_folder(tmp_path):
    def fail():
        with one_run(tmp_path / "new" / "out", True):
            assert os.listdir(tmp_path / "new") != []
            raise RuntimeError("a run that fails")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="fails"):
            fail()
        assert os.listdir(tmp_path / "new") == []


def test_other_processes_of_the_run_and_other_folders_are_free(tmp_path):
    with one_run(tmp_path / "a", True), one_run(tmp_path / "a", False), one_run(tmp_path / "b", True):
        began = time.monotonic()
        with pytest.raises(FcitError, match="Another run writes into"), one_run(tmp_path / "a", True):
            pass
        assert time.monotonic() - began < 5
