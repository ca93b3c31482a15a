"""Real faults in a process of its own: killed, or refused by the system, at the n-th operation on a file."""

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from children import ended

#: What Python tells its audit hooks right before it does them.
OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")


def in_a_child(work: Callable[[], None]) -> int | None:
    """Do it in a forked process; returns its exit code (1: it raised), None if it was killed, minus any other signal's number.

    Raises:
        TimeoutError: It was still running when its time was over (:data:`children.LIMIT`).
    """
    code = ended(work)
    if code == -signal.SIGALRM:
        raise TimeoutError("the forked process did not end in its time")
    return None if code == -signal.SIGKILL else code


def at_operation(number: int, below: Path, then: Callable[[], None]) -> None:
    """Install for the rest of this process: call ``then`` right before the n-th operation below a folder."""
    left = [number]

    def hook(event: str, args: tuple) -> None:
        if event in OPERATIONS and str(below) in _where(args):
            left[0] -= 1
            if left[0] == 0:
                then()

    sys.addaudithook(hook)


def _where(args: tuple) -> str:
    """The path in an audit event; shutil.rmtree gives a file's name and the open folder that it lies in."""
    if len(args) == 2 and isinstance(args[1], int) and args[1] >= 0:
        return f"{os.readlink(f'/proc/self/fd/{args[1]}')}/{args[0]}"
    return str(args)


def die() -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def refuse() -> None:
    """What the system says when the disk is full."""
    raise OSError(28, "No space left on device")


def limit_file_size(num_bytes: int) -> None:
    """Let the system refuse longer files, in the middle of writing one."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def crash_everywhere(work: Callable[[], None], below: Path, check: Callable[[bool], None], fault=die) -> int:
    """Do the work again and again, with a fault at its first operation, its second, and so on, until it comes through.

    Args:
        work: Must do the same each time.
        below: The folder whose operations count.
        check: Called after each try with whether the work came through.
        fault: What happens at the operation.

    Returns:
        How many operations there were.
    """
    number = 0
    while True:
        number += 1

        def tried(number=number) -> None:
            at_operation(number, below, fault)
            work()

        done = in_a_child(tried) == 0
        check(done)
        if done:
            return number - 1
