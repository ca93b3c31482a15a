"""What server and sites say in words: one JSON text of a version, typed and bounded."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from ..errors import FcitError
from ..files import parse_json
from ..schema import checked

FormT = TypeVar("FormT")

#: Version of all that is said; another one is refused by both sides.
VERSION = 1
#: Characters of the longest text.
LONGEST = 2**24
_REMEDY = "server and sites need one version of fcit-plugin"


def written(values: Mapping[str, Any]) -> str:
    """Values as text, the same for the same values."""
    return json.dumps({"version": VERSION, **values}, sort_keys=True)


def read(form: type[FormT], text: object, what: str) -> FormT:
    """Values of a form, from text that may be anything.

    Args:
        form: A ``TypedDict`` whose values these are.
        text: The text.
        what: Of what it is, for the sentence.

    Raises:
        FcitError: It is too long, not JSON, of another version or of another form.
    """
    if not isinstance(text, str) or len(text) > LONGEST:
        raise FcitError(f"{what} is no text of up to {LONGEST:,} characters; {_REMEDY}.")
    try:
        value = parse_json(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise FcitError(f"{what} is not JSON; {_REMEDY}.") from error
    version = value.get("version") if isinstance(value, dict) else None
    if version != VERSION:
        raise FcitError(f"{what} is of version {str(version)[:20]}, not {VERSION}; {_REMEDY}.")
    unknown = value.keys() - cast("Any", form).__annotations__.keys() - {"version"}
    if unknown:
        raise FcitError(f"{what} has {str(sorted(unknown))[:100]}, which nobody knows; {_REMEDY}.")
    return checked(form, value, what, _REMEDY)
