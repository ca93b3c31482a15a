"""Locks: one process has a file at a time, and a process that is killed leaves it to the others."""

import contextlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import FcitError

#: Where a file system has no locks, newer filelocks would take the file's being there for one, which outlives a kill.
_NEVER_SOFT: dict[str, Any] = (
    {"fallback_to_soft": False} if "fallback_to_soft" in inspect.signature(FileLock.__init__).parameters else {}
)


def take(path: Path, what: str, against: str, busy: str | None = None) -> FileLock:
    """Lock a file; it is let go with ``release()``, from any thread.

    Args:
        path: The file, made where it is not there; its folder is.
        what: What the lock stands for, as a sentence begins with it: a key and a folder.
        against: Whom it is locked against, such as "a second run".
        busy: What is said where another process has it; None: it is waited for.

    Raises:
        FcitError: Another process has it, or the file system has no locks.
    """
    lock = FileLock(path, timeout=-1 if busy is None else 0, thread_local=False, **_NEVER_SOFT)
    try:
        lock.acquire()
    except Timeout as error:
        raise FcitError(busy or "") from error
    except OSError as error:  # as some network file systems say it
        raise FcitError(
            f"{what} cannot be locked against {against} ({error.strerror}); let its file system have locks, or name a folder "
            "on another one."
        ) from error
    return lock


@contextlib.contextmanager
def locked(path: Path, what: str, against: str, busy: str | None = None) -> Iterator[None]:
    """Within the block the file is this process's; see :func:`take`."""
    lock = take(path, what, against, busy)
    try:
        yield
    finally:
        lock.release()
