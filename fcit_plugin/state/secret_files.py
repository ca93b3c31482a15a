"""The user's secrets: small files outside of every output folder, made once and for nobody else to read."""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from ..errors import FcitError
from ..files import at_home, private_bytes, to_disk, writing


def secrets_folder() -> Path:
    """Where the user's secrets are: ``FCIT_SECRETS_DIR``, else the user's configuration folder.

    Raises:
        OSError: The user has no home, as in containers.
    """
    if given := os.environ.get("FCIT_SECRETS_DIR"):
        return at_home(given, "FCIT_SECRETS_DIR")
    return at_home(os.environ.get("XDG_CONFIG_HOME") or "~/.config", "FCIT_SECRETS_DIR") / "fcit_plugin"


def secret_file(name: str) -> Path:
    """Where the secret of a name is, whether or not it is there."""
    return secrets_folder() / name


def write_private(path: Path, text: str) -> None:
    """Write a UTF-8 file with mode 600, and have it on the disk, name and all, when this returns."""
    with writing(path):
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(handle)
            os.replace(partial, path)
        except OSError:
            os.unlink(partial)
            raise
        to_disk(path.parent)


def keep_secret(name: str, content: bytes) -> None:
    """Write a secret with mode 600, whole or not at all; one that is there already stays.

    Raises:
        OSError: It cannot be written; the error names the file.
    """
    path = secret_file(name)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, partial = tempfile.mkstemp(dir=path.parent)  # mode 600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(handle)
            with contextlib.suppress(FileExistsError):  # another process was first
                os.link(partial, path)
        finally:
            os.unlink(partial)


def read_secret(name: str, length: int, remedy: str) -> bytes:
    """A secret that was kept.

    Args:
        name: Its name.
        length: Bytes that it has.
        remedy: What the sentence says to do where it is missing or damaged.

    Raises:
        FcitError: It is missing, not of this length, or others may read or write it; the sentence names the file.
    """
    path = secret_file(name)
    content = private_bytes(path, "the secret", length, remedy)
    if len(content) != length:
        raise FcitError(f"{path} has {len(content)} bytes, not {length}; {remedy}.")
    return content


def new_secret(length: int = 32) -> bytes:
    """Bytes from the operating system."""
    return secrets.token_bytes(length)
