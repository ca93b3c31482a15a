"""The sentences of a prompt, and what a prompt is told by at inference: itself or one of them."""

import re

#: What ends a sentence: a mark with white space behind it (not the point of 3.14), a mark of Chinese or Japanese, a new line;
#: marks that close a quotation or a bracket belong to it.
_END = re.compile(r"(?<=[.!?\u2026])[\"')\]\u2019\u201d]*\s+|(?<=[\u3002\uff01\uff1f])[\u201d\u300d\u300f\uff09]*|\n+")
#: Of a longer prompt the first and the last so many: what is asked stands before or behind what it is asked about.
_EITHER_END = 4
#: A sentence of fewer letters and digits says nothing: "Hi!", "OK."
_FEWEST = 8
#: Two letters of these scripts say as much as a short word.
_DENSE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def sentences(text: str) -> list[str]:
    """The sentences of a text that may say what it asks for; none if it is a single one.

    Marks of sentences in Latin, Chinese and Japanese are known, and so are lines. Of more than eight the first and the last
    four are given.
    """
    parts = [part.strip() for part in _END.split(text)]
    found = list(dict.fromkeys(part for part in parts if _weight(part) >= _FEWEST))
    if found == [text.strip()]:
        return []
    return found if len(found) <= 2 * _EITHER_END else found[:_EITHER_END] + found[-_EITHER_END:]


def _weight(part: str) -> int:
    return sum(map(str.isalnum, part)) + 3 * len(_DENSE.findall(part))
