"""All processes that came of one: torchrun gives its own a session each, and leaves them behind where it is killed."""

import contextlib
import os
import signal
import time
import uuid
from pathlib import Path

from .errors import FcitError
from .files import read_bytes

#: Where Linux tells of processes; elsewhere none is found.
_PROCESSES = Path("/proc")
#: Seconds within which the last one that was killed has ended.
_PATIENCE = 10.0


class Descendants:
    """A process that is started with :attr:`env`, and all that it starts in turn, whosever children they are by then."""

    def __init__(self) -> None:
        self._mark = f"FCIT_DESCENDANTS_{uuid.uuid4().hex}"

    @property
    def env(self) -> dict[str, str]:
        """What the environment of the first one has to hold; it is handed down."""
        return {self._mark: "1"}

    def pids(self) -> list[int]:
        """Those that are at work."""
        return [*self._environments()]

    def workers(self) -> list[int]:
        """Those of them that torchrun, or another launcher of several, has started; all of them where there are none."""
        found = self._environments()
        numbered = [pid for pid, environment in found.items() if any(line.startswith(b"LOCAL_RANK=") for line in environment)]
        return numbered or [*found]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all of them."""
        _send(number, self.pids())

    def ask(self, number: signal.Signals) -> bool:
        """Send a signal to those workers that have a way of their own to take it; it would only kill the others.

        Returns:
            Whether there is any.
        """
        return _send(number, [pid for pid in self.workers() if _catches(pid, number)])

    def end(self) -> None:
        """Kill all of them, also those that are started meanwhile."""
        until = time.monotonic() + _PATIENCE
        while _send(signal.SIGKILL, self.pids()) and time.monotonic() < until:
            time.sleep(0.02)

    def _environments(self) -> dict[int, list[bytes]]:
        """What each of them was started with."""
        wanted = f"{self._mark}=1".encode()
        pids = [int(folder.name) for folder in _PROCESSES.glob("[0-9]*") if folder.name.isdecimal()]
        found = {pid: _content(_PROCESSES / str(pid) / "environ").split(b"\0") for pid in pids}
        return {pid: environment for pid, environment in found.items() if wanted in environment}


def _send(number: signal.Signals, pids: list[int]) -> bool:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(pid, number)
    return bool(pids)


def _content(file: Path) -> bytes:
    """What a file says of a process; nothing of one that has ended, or is another user's."""
    try:
        return read_bytes(file)
    except FcitError:
        return b""


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal."""
    for line in _content(_PROCESSES / str(pid) / "status").splitlines():
        if line.startswith(b"SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False
