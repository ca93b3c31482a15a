"""Scores of other benchmarks' answers: the letter of an option, an answer within a sentence, words alone, a line of code."""

import re
import string

from .answers import comparable
from .subsequence import in_common

_ALONE = re.compile(r"\b\w\b")
_WITHOUT_MARKS = str.maketrans("", "", string.punctuation)
_LITERAL = re.compile(r"<(STR|NUM|CHAR)_LIT(?::(.*?))?>", re.DOTALL)


def option_letter(prediction: str, answer: str) -> float:
    """Return 1 if both choose the same option, else 0: the first letter that stands alone, as in `B`, `(b)` and `B. Because`.

    Without such a letter nothing is chosen, and neither where another single character, such as a digit, stands alone before
    it. CoIN's rule for ScienceQA (zackschen/CoIN 4122465, eval_science_qa.py); TRACE compares the first character of both.
    """
    chosen, right = _option(prediction), _option(answer)
    return float(chosen is not None and chosen == right)


def _option(text: str) -> str | None:
    found = _ALONE.search(comparable(text))
    return found[0].upper() if found is not None and found[0] in string.ascii_letters else None


def contains(prediction: str, answer: str) -> float:
    """Return 1 if the answer is a part of the prediction, case aside, else 0; an empty answer is in none.

    MLLM-CL's rule for Med (bjzhb666/MLLM-CL 80bf389, eval_pvqa.py); for RS and AD it asks for a space or a mark beside a word.
    """
    right = comparable(answer).upper()
    return float(bool(right) and right in comparable(prediction).upper())


def normalized_match(prediction: str, answer: str) -> float:
    """Return 1 if both texts are equal in lower case, without ASCII's marks and with single spaces, else 0.

    The rule for the sequence of 15 text tasks (cmnfriend/O-LoRA 07117e1, src/compute_metrics.py).
    """
    one, other = (" ".join(comparable(text).lower().translate(_WITHOUT_MARKS).split()) for text in (prediction, answer))
    return float(one == other)


def code_similarity(prediction: str, answer: str) -> float:
    """Return how similar two lines of code are, from 0 to 1, by their letters: see `in_common`.

    Placeholders of literals become what they stand for: `<STR_LIT:x>` x, `<NUM_LIT>` 0, the others nothing. TRACE's rule for
    Py150 (BeyonderXX/TRACE 462e39f, eval_Py150.py), whose ratio is this one, rounded, where python-Levenshtein is installed.
    """
    return in_common(_without_placeholders(prediction), _without_placeholders(answer))


def _without_placeholders(code: str) -> str:
    return _LITERAL.sub(lambda found: found[2] or ("0" if found[1] == "NUM" else ""), code)
