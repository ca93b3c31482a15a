"""Which folders this user's own runs have written: what they name may be loaded without being asked for again.

A run signs the names of models in its manifest with a secret of the user's; a folder from elsewhere has no such signature.
"""

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import read_bytes, writing

#: Key of the manifest.
SIGNATURE = "signature"
#: Keys of the manifest that name what is loaded.
_NAMES = ("base_model", "identity_encoder")
_KEY, _BYTES = "signing.key", 32


def secrets_folder() -> Path:
    """Where the user's secrets are: ``FCIT_SECRETS_DIR``, else the user's configuration folder."""
    given = os.environ.get("FCIT_SECRETS_DIR")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config").expanduser() / "fcit_plugin"


def sign(manifest: Mapping[str, Any]) -> str:
    """The signature of what a manifest names.

    Raises:
        OSError: The secret can be neither read nor written.
    """
    return _signature(_secret(), manifest)


def is_own(manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest is of a run of this user on this machine, so far as it names what is loaded."""
    path = secrets_folder() / _KEY
    given = manifest.get(SIGNATURE)
    if not isinstance(given, str) or not path.is_file():
        return False
    return hmac.compare_digest(given.encode(), _signature(_secret(), manifest).encode())


def _signature(secret: bytes, manifest: Mapping[str, Any]) -> str:
    names = json.dumps([manifest.get(name) for name in _NAMES])
    return hmac.new(secret, names.encode(), hashlib.sha256).hexdigest()


def _secret() -> bytes:
    path = secrets_folder() / _KEY
    if not path.is_file():
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, name = tempfile.mkstemp(dir=path.parent)  # mode 600
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(secrets.token_bytes(_BYTES))
                with contextlib.suppress(FileExistsError):  # another process was first
                    os.link(name, path)
            finally:
                os.unlink(name)
    return read_bytes(path, "take it away, and name encoder and base model of earlier runs yourself", _BYTES)
