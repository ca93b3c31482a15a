"""Whether a command line or a recipe has to do with us, told before anything of it is parsed."""

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import end_in_a_sentence
from ..files import read_bytes
from ..plugins import blame
from ..state.output_folder import is_fcit_folder

_KEY_OR_STAGE = re.compile(r"""(?m)^[^#\n]*?(--fcit_|\bfcit_\w+["']?\s*[:=]|\bstage["']?[\s:=]+["']?fcit)""")
_NAMES_MODELS = r"(?:(?:adapter|model)_name_or_path|(?:ref|reward)_model(?:_adapters)?)"
_ADAPTER = re.compile(rf"""(?m)^[^#\n]*?\b{_NAMES_MODELS}["']?[\s:=]+([^#\n]*)""")
_RECIPE = (".yaml", ".yml", ".json")
_UTF_16 = (BOM_UTF16_LE, BOM_UTF16_BE)


def watch(given: Mapping[str, Any] | Sequence[str]) -> bool:
    """End in a sentence from now on, if these arguments have to do with us.

    Args:
        given: A recipe's keys and values, or command line arguments, the first of which may be a recipe file.

    Returns:
        Whether they have.
    """
    ours = _concerns_fcit(_text(given))
    if ours:
        end_in_a_sentence(blame)
    return ours


def _text(given: Mapping[str, Any] | Sequence[str]) -> str:
    if isinstance(given, Mapping):
        return "\n".join(f"{key}: {value}" for key, value in given.items())
    text = "\n".join(given)
    if given and given[0].endswith(_RECIPE):
        path = Path(given[0])
        if path.is_file():
            data = read_bytes(path)
            # what PowerShell's `>` writes is no recipe, but it is to be told in a sentence
            text += "\n" + data.decode("utf-16" if data.startswith(_UTF_16) else "utf-8", errors="replace")
        elif path.name.startswith("fcit"):  # nothing else is known of a recipe that is not there
            text += "\nstage: fcit"
    return text


def _concerns_fcit(text: str) -> bool:
    if _KEY_OR_STAGE.search(text):
        return True
    pieces = [piece.strip().removeprefix("- ") for line in _ADAPTER.findall(text) for piece in re.split(r"""[,"'\[\]]""", line)]
    # a name may have blanks in it, or other flags may follow it
    return any(is_fcit_folder(name) for piece in pieces for name in (piece, *piece.split()) if name)
