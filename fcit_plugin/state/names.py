"""Names and plain reading of the files in state and update folders; no torch, so that a look is quick."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import FcitError

MANIFEST = "fcit_manifest.json"
TOKENS = "identity_tokens.safetensors"
SHARED = "shared.safetensors"
BASE_CHANGE = "base_change.safetensors"
RULES = "server_rules.safetensors"
METHOD_STATE = "method_state.safetensors"
#: Rises when the folder's form changes so that an older plugin cannot read it.
FORMAT_VERSION = 5


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a state folder.

    Raises:
        FcitError: It is missing, no JSON, or of a newer format.
    """
    path = folder / MANIFEST
    version = read_object(path, ("format_version",))["format_version"]
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise FcitError(
            f"{path} has format version {version}, this fcit-plugin reads up to {FORMAT_VERSION}; upgrade fcit-plugin."
        )
    manifest = read_object(path, ("stage", "round", "subspaces", "shared"))
    return {"identity_source": "text", **manifest}  # older plugins knew no other, and did not say it


def read_object(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """A JSON file that holds an object with these keys.

    Raises:
        FcitError: It is missing, no JSON, or lacks a key; the sentence names it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in keys if key not in value] if isinstance(value, dict) else keys
        if missing:
            raise FcitError(f"{', '.join(missing)} missing")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FcitError(
            f"{path} cannot be read, so {path.parent} is no FCIT folder: {reason}; name one that a run has left."
        ) from error
    return value
