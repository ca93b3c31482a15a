"""One process has a file at a time; what is killed leaves it, and a file system without locks is said."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading

import pytest
from runs import ROOT

from fcit_plugin.errors import FcitError
from fcit_plugin.locks import locked, take

HOLD = "import sys, time, pathlib; from fcit_plugin.locks import take\n"
HOLD += "held = take(pathlib.Path(sys.argv[1]), 'it', 'another', 'busy'); print('held', flush=True); time.sleep(600)"


def test_another_process_is_refused_or_waits_and_gets_it_when_the_first_is_killed(tmp_path):
    path, got = tmp_path / "lock", threading.Event()

    def wait():
        with locked(path, "it", "another"):
            got.set()

    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(FcitError, match=r"^It is taken\.$"), locked(path, "it", "another", "It is taken."):
            pass
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not got.wait(0.5)
        other.send_signal(signal.SIGKILL)
        assert got.wait(60)
        waiting.join()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_that_is_there_is_never_taken_for_a_lock(number, tmp_path, monkeypatch):
    def refuse(*given):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    for busy in ("It is taken.", None):
        with pytest.raises(
            FcitError, match=r"^The folder cannot be locked against another \(.*\); let its file system have locks"
        ):
            take(tmp_path / "lock", "The folder", "another", busy)


def test_all_locks_are_made_here():
    package = ROOT / "fcit_plugin"
    naming = re.compile(r"^\s*(import|from) filelock", re.MULTILINE)
    found = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if naming.search(path.read_text("utf-8"))}
    assert found == {"locks.py"}
