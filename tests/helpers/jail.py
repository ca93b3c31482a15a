"""Work in forked children that are watched: bounded in time and memory, and what they open, import or start is written down.

One child takes many cases, one after the other. A case that kills it, or that it does not end in time, is told as such, and
another child goes on with the rest.
"""

import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from children import fork

#: Audit events that nothing does that only reads.
FORBIDDEN = (
    *("import", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn"),
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "urllib.Request", "webbrowser.open"),
    *("pickle.find_class", "marshal.loads", "ctypes.dlopen", "os.chown", "os.kill", "sqlite3.connect"),
)
#: Audit events whose first arguments, so many, are paths.
PATHS = {
    **dict.fromkeys(("open", "os.listdir", "os.scandir", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate"), 1),
    **dict.fromkeys(("os.utime", "os.chdir", "shutil.rmtree"), 1),
    **dict.fromkeys(("os.rename", "os.symlink", "os.link", "shutil.copyfile", "shutil.move"), 2),
}
#: Memory that a child may take on top of what the parent has, bytes; and the largest file that it may write.
MEMORY, FILE = 1_500_000_000, 100_000_000


@dataclass
class Watch:
    """What happens in this process while it is active.

    Attributes:
        folder: The only one that may be touched.
        seen: What was not all right.
        active: Whether it looks.
    """

    folder: str
    seen: list[str] = field(default_factory=list)
    active: bool = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook (:func:`sys.addaudithook`)."""
        if not self.active:
            return
        self.active = False  # not what is done here
        try:
            if event in FORBIDDEN:
                self.seen.append(f"{event} {arguments[0]!r}"[:300])
            for path in arguments[: PATHS.get(event, 0)]:
                self._look(event, path)
        finally:
            self.active = True

    def _look(self, event: str, path: Any) -> None:
        if isinstance(path, int) or path is None:
            return
        name = os.fsdecode(path)
        real = os.path.realpath(name) if "\0" not in name else name
        if real != self.folder and not real.startswith(f"{self.folder}/"):
            self.seen.append(f"{event} {name!r} is {real!r}"[:300])


@dataclass(frozen=True)
class Ended:
    """What became of a case: what the work returned, or what went wrong."""

    case: Any
    value: Any = None
    fault: str | None = None


def in_children(cases: Sequence[Any], work: Callable[[Any, Watch], Any], folder: Path, seconds: float = 20.0) -> list[Ended]:
    """Do cases in forked children.

    Args:
        cases: JSON values.
        work: Does one; it sets the watch active, and returns a JSON value.
        folder: The only one that may be touched while the watch is active; the children stand in its parent.
        seconds: Within which each case has to end.
    """
    ended: list[Ended] = []
    while len(ended) < len(cases):
        ended += _one_child(cases[len(ended) :], work, folder, seconds)
    return ended


def _one_child(cases: Sequence[Any], work: Callable[[Any, Watch], Any], folder: Path, seconds: float) -> list[Ended]:
    """The cases that one child came through, and the one that ended it."""
    reading, writing = os.pipe()
    child = fork(0)  # each case has its own limit
    if child == 0:
        os.close(reading)
        try:
            _serve(cases, work, folder, writing)
        except BaseException:
            os.write(writing, (json.dumps({"broken": traceback.format_exc()}) + "\n").encode())
        finally:
            os._exit(0)
    os.close(writing)
    ended: list[Ended] = []
    left = b""
    while len(ended) < len(cases):
        deadline = time.monotonic() + seconds
        while b"\n" not in left:
            ready, _, _ = select.select([reading], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(reading, 65536) if ready else b""
            if not more:
                break
            left += more
        line, found, left = left.partition(b"\n")
        if not found:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(status)
            why = f"it was not done within {seconds:g} s" if not ready else f"it ended the process ({code})"
            os.close(reading)
            return [*ended, Ended(cases[len(ended)], fault=why)]
        told = json.loads(line)
        if "broken" in told:
            raise AssertionError(f"the child itself is broken:\n{told['broken']}")
        ended.append(Ended(cases[len(ended)], told.get("value"), told.get("fault")))
    os.close(reading)
    os.waitpid(child, 0)
    return ended


def _serve(cases: Sequence[Any], work: Callable[[Any, Watch], Any], folder: Path, writing: int) -> None:
    os.chdir(folder.parent)
    sys.path.insert(0, str(folder.parent))  # as with `python -m`: what stands there can be imported
    here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (here + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):  # what readers print is not looked at
        os.dup2(nowhere, number)
    watch = Watch(os.path.realpath(folder))
    sys.addaudithook(watch)
    for case in cases:
        try:
            told = {"value": work(case, watch)}
        except BaseException:
            told = {"fault": traceback.format_exc()[-3000:]}
        finally:
            watch.active = False
        os.write(writing, (json.dumps(told) + "\n").encode())
