"""One run at a time writes into an output folder: two would take each other's commits for their own."""

import contextlib
import os
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from typing_extensions import TypedDict

from ..errors import FcitError
from ..files import read_as, write_json
from ..locks import take
from ..schema import Count, Word


class _Owner(TypedDict):
    process: Count
    machine: Word
    since: Word


@contextlib.contextmanager
def one_run(folder: Path, is_main: bool) -> Iterator[None]:
    """Within the block the folder is this run's.

    What is locked is a hidden file beside the folder, which may not be there yet; a process that is killed leaves no lock.

    Args:
        folder: The run's output folder.
        is_main: Whether this process does the writing.

    Raises:
        FcitError: Another process is at it, and the sentence names it; or nothing can be written there.
    """
    if not is_main:
        yield
        return
    folder = folder.resolve()
    path, owner = (folder.with_name(f".{folder.name}.{end}") for end in ("lock", "owner.json"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        path.touch()  # a lock that cannot be made looks to filelock like one that is held
    except OSError as error:
        raise FcitError(f"`output_dir` {folder} cannot be written ({error.strerror}); name another one.") from error
    busy = f"Another run writes into {folder}{_who(owner)}; wait for its end, or name another `output_dir`."
    lock = take(path, f"`output_dir` {folder}", "a second run", busy)
    try:
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        write_json(owner, {"process": os.getpid(), "machine": socket.gethostname(), "since": since})
        yield
    finally:
        for left in (owner, path):  # while it is held: nobody else has it open for good
            left.unlink(missing_ok=True)
        lock.release()


def _who(owner: Path) -> str:
    try:
        found = read_as(_Owner, owner)
    except FcitError:  # it has only just begun
        return ""
    return f" (process {found['process']} on {found['machine']}, since {found['since']})"
