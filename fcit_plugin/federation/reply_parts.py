"""What is read of one reply: which records it holds, and arrays of the right form.

Nothing is allocated or computed on a client's word: headers are read before data.
"""

from collections.abc import Iterable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord

from ..errors import FcitError
from .arrays import LazyArray, fault_of, numbers_of
from .messages import ARRAYS, CONFIG, METRICS, SHARED, TOKEN

#: A reason comes from outside: one line of at most this many characters is kept of it.
MAX_REASON = 300
#: What each record of a message must be.
_KINDS = {ARRAYS: ArrayRecord, SHARED: ArrayRecord, TOKEN: ArrayRecord, METRICS: MetricRecord, CONFIG: ConfigRecord}


class Unusable(FcitError):
    """A reply cannot be used; the text says why, of the client as "it"."""


def one_line(text: str) -> str:
    """A text from outside as one line of bounded length that is safe to print."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * MAX_REASON]).split())
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 3] + "..."


def check_records(reply: Message, names: set[str]) -> None:
    """Are just the right records there, each of its kind?"""
    if set(reply.content) != names:
        raise Unusable(f"it holds the records {listed(reply.content)}, not {listed(names)}")
    for name in names:
        kind = _KINDS.get(name, ArrayRecord)
        if not isinstance(reply.content[name], kind):
            raise Unusable(f"its record {name} is a {type(reply.content[name]).__name__}, not {kind.__name__}")


def read_array(array: Array, shape: tuple[int, ...], what: str) -> np.ndarray:
    """The finite float32 numbers of an array of the right form."""
    values = numbers_in(array, shape, what)
    check_finite(values, what)
    return values


def check_finite(values: np.ndarray, what: str) -> None:
    """Refuse numbers that are none."""
    if not np.isfinite(values).all():
        raise Unusable(f"{what} is not finite; if its training diverged, lower the learning rate")


def numbers_in(array: Array, shape: tuple[int, ...], what: str, dtype: str = "float32") -> np.ndarray:
    """The numbers of an array, once its file header is one that NumPy writes for what was expected."""
    if array.dtype != dtype:
        raise Unusable(f"{what} is of dtype {short(array.dtype)}, not {dtype}")
    if tuple(array.shape) != shape:
        other = "; was it trained with another lora_rank?" if len(array.shape) == len(shape) == 2 else ""
        raise Unusable(f"{what} is of shape {short(tuple(array.shape))}, not {shape}{other}")
    if isinstance(array, LazyArray):  # of a file whose form is checked when it is read
        numbers = array.numpy()
        if numbers.dtype != dtype or numbers.shape != shape:
            raise Unusable(f"{what} is of another form than its file said")
        return numbers
    if (fault := fault_of(array)) is not None:
        raise Unusable(f"{what} {fault}")
    return numbers_of(array)


def listed(names: Iterable[str]) -> str:
    """Names as text."""
    return ", ".join(sorted(map(str, names))) or "nothing"


def short(value: object) -> str:
    """A value as text, without writing out the whole of something huge."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, (str, bytes)) and len(value) > 40:
        return f"{value[:40]!r}..."
    return repr(value)
