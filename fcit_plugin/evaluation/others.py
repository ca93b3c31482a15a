"""Scores of other benchmarks' answers: the letter of an option, an answer within a sentence, words alone, a line of code."""

import re
import string

from .answers import comparable
from .subsequence import in_common

_ALONE = re.compile(r"\b\w\b")
_WITHOUT_MARKS = str.maketrans("", "", string.punctuation)
_BARE = re.compile(r"<(STR|NUM|CHAR)_LIT>")
_LITERAL = re.compile(r"<(?:STR|NUM|CHAR)_LIT:(.*?)>", re.DOTALL)


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

    MLLM-CL's rule for Med (bjzhb666/MLLM-CL 80bf389, eval_pvqa.py).
    """
    right = comparable(answer).upper()
    return float(bool(right) and right in comparable(prediction).upper())


def contains_word(prediction: str, answer: str) -> float:
    """Return 1 if the answer is a part of the prediction, case aside, else 0; one word begins or ends there as a word does.

    A single word, whose full stops do not count, needs a space before it, or a space, a full stop or a comma behind it, in a
    prediction of several words; an empty answer is in none. MLLM-CL's rule for RS and AD (bjzhb666/MLLM-CL 80bf389,
    eval_ai2d.py).
    """
    said, right = (comparable(text).lower() for text in (prediction, answer))
    if " " not in right:
        right = right.replace(".", "")
        if right and " " in said:
            return float(any(part in said for part in (f" {right}", f"{right} ", f"{right}.", f"{right},")))
    return float(bool(right) and right in said)


def match_without_spaces(prediction: str, answer: str) -> float:
    """Return 1 if both texts are equal, case, spaces and full stops aside, else 0.

    MLLM-CL's rule for Fin (bjzhb666/MLLM-CL 80bf389, eval_finvis.py), which takes them out of the prediction alone: its
    answers, letters, True and False, have none.
    """
    one, other = (comparable(text).lower().replace(" ", "").replace(".", "") for text in (prediction, answer))
    return float(one == other)


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
    code = _BARE.sub(lambda found: "0" if found[1] == "NUM" else "", code)
    return _LITERAL.sub(r"\1", code)
