"""The reference answer of a record."""

from collections.abc import Sequence

from ..errors import FcitError

Answer = str | Sequence[str] | Sequence[float]
"""A text, several texts, or the four numbers of a box."""


def texts(answer: Answer) -> list[str]:
    """Return the answer's texts: the one, or the several.

    Raises:
        FcitError: it holds none, or something else.
    """
    found = [answer] if isinstance(answer, str) else list(answer)
    if not found or not all(isinstance(text, str) for text in found):
        raise FcitError(f"The answer {answer!r} is neither a text nor a list of texts.")
    return found
