"""The reference answer of a record, and the form in which texts are compared."""

import unicodedata
from collections.abc import Sequence

import regex

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


def comparable(text: str) -> str:
    """Return a text without white space at its ends, letters composed (Unicode's NFC): one form of what reads the same."""
    return unicodedata.normalize("NFC", text).strip()


def words(text: str) -> list[str]:
    """Return the words of a text, in lower case, by Unicode's rules (https://unicode.org/reports/tr29/, section 4).

    In scripts that are written without spaces (Han, Hiragana, Katakana, Thai, Khmer ...) each letter counts as a word.
    """
    found: list[str] = []
    for piece in _BOUNDARY.split(unicodedata.normalize("NFC", text).lower()):
        if _WORD.search(piece):
            found += _LETTER.findall(piece) if _WITHOUT_SPACES.search(piece) else [piece]
    return found


_BOUNDARY = regex.compile(r"(?V1w)\b")
_WORD = regex.compile(r"\w")
_LETTER = regex.compile(r"\X")
# the rules alone part the letters of all of these but Katakana
_WITHOUT_SPACES = regex.compile(r"\p{Katakana}")
