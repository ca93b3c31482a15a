"""What JSON from outside must look like: types with ranges, and one sentence about a value that is of another one."""

import unicodedata
from dataclasses import MISSING, fields
from functools import lru_cache
from typing import Annotated, Any, NotRequired, TypeVar, cast, get_type_hints

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from .errors import FcitError

#: Numbers up to here are exact in JSON as others read it, and fit 64 bits.
LARGEST = 2**53
#: A count, an index, a number of tokens or bytes.
Count = Annotated[int, Field(ge=0, le=LARGEST)]
#: A number that a measurement or a setting may be; not NaN and not infinite.
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e300, le=1e300)]


def _without_controls(text: str) -> str:
    if not text.isprintable() and any(unicodedata.category(letter) == "Cc" for letter in text):
        raise ValueError("it holds control characters")
    return text


#: A name, a key or a short sentence.
Word = Annotated[str, Field(max_length=10_000), AfterValidator(_without_controls)]
#: A whole number, such as a seed.
Whole = Annotated[int, Field(ge=-LARGEST, le=LARGEST)]
#: Text of several lines that people read.
Text = Annotated[str, Field(max_length=1_000_000)]


def _no_longer_than_names_are(path: str) -> str:
    if len(path.encode(errors="replace")) > 4000 or any(len(part.encode(errors="replace")) > 255 for part in path.split("/")):
        raise ValueError("no file has so long a name")
    return path


#: The name of a file or folder, with those that it lies in.
PathName = Annotated[Word, AfterValidator(_no_longer_than_names_are)]
#: A SHA-256 sum.
Sum = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

T = TypeVar("T")


def form_of(kind: type) -> Any:
    """The form of the JSON object with the fields of a dataclass, of which those with a default may be missing."""
    return _form_of(cast("Any", kind))


@lru_cache(maxsize=64)
def _form_of(kind: Any) -> Any:
    hints = get_type_hints(kind, include_extras=True)
    needed = {item.name for item in fields(kind) if item.default is item.default_factory is MISSING}
    form = {item.name: hints[item.name] if item.name in needed else NotRequired[hints[item.name]] for item in fields(kind)}
    return TypedDict(kind.__name__, form)  # type: ignore[operator]  # from what is known once it runs


def checked(form: type[T], value: Any, place: str, remedy: str) -> T:
    """The value as it is, which is of the form.

    Args:
        form: A ``TypedDict`` or another type with its ranges; keys that it does not name are let through.
        value: What a JSON file holds.
        place: Where it stands, for the sentence.
        remedy: What the sentence says to do.

    Raises:
        FcitError: The value is of another form; the sentence names the place in it.
    """
    try:
        _adapter(cast("Any", form)).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = " ".join(".".join(map(str, first["loc"])).split())[:200]
        raise FcitError(f"{place} is not of its form{f', at `{where}`' if where else ''}: {first['msg']}; {remedy}.") from error
    return cast("T", value)


@lru_cache(maxsize=64)
def _adapter(form: Any) -> TypeAdapter[Any]:
    return TypeAdapter(form)
