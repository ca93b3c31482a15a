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
    given: list[object] = [answer] if isinstance(answer, str) else list(answer)
    found = [text for text in given if isinstance(text, str)]
    if not found or len(found) < len(given):
        raise FcitError(f"The answer {answer!r} is neither a text nor a list of texts.")
    return found
