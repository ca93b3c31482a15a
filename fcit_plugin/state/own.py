"""Which folders this user's own runs have written: what they name may be loaded without being asked for again.

A run signs the names of models in its manifest with a secret of the user's; a folder from elsewhere has no such signature.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import one_line
from .secret_files import keep_secret, new_secret, read_secret, secret_file

#: Key of the manifest.
SIGNATURE = "signature"
#: Keys of the manifest that name what is loaded.
_NAMES = ("base_model", "identity_encoder")
_KEY, _BYTES = "signing.key", 32


def sign(manifest: Mapping[str, Any]) -> str:
    """The signature of what a manifest names.

    Raises:
        OSError: The secret can be neither read nor written.
    """
    return _signature(_secret(), manifest)


def signed(manifest: Mapping[str, Any], folder: Path, warn: Callable[[str], object]) -> dict[str, Any]:
    """A manifest with its signature; without one where no secret can be kept, which is said and ends nothing.

    Args:
        manifest: What it says.
        folder: Where it is written to.
        warn: Takes the sentence.
    """
    try:
        return {**manifest, SIGNATURE: sign(manifest)}
    except OSError as error:
        warn(f"{folder} is not signed as your own ({one_line(error)}); to use it, name its encoder and base model yourself.")
        return dict(manifest)


def is_own(manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest is of a run of this user on this machine, so far as it names what is loaded."""
    given = manifest.get(SIGNATURE)
    if not isinstance(given, str) or not _is_kept():
        return False
    return hmac.compare_digest(given.encode(), _signature(_secret(), manifest).encode())


def _signature(secret: bytes, manifest: Mapping[str, Any]) -> str:
    names = json.dumps([manifest.get(name) for name in _NAMES])
    return hmac.new(secret, names.encode(), hashlib.sha256).hexdigest()


def _is_kept() -> bool:
    try:
        return secret_file(_KEY).is_file()
    except OSError:  # nobody has a secret without a home, or where nobody may look
        return False


def _secret() -> bytes:
    if not _is_kept():
        keep_secret(_KEY, new_secret(_BYTES))
    return read_secret(_KEY, _BYTES, "take it away, and name encoder and base model of earlier runs yourself")
