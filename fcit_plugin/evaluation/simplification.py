"""SARI: how well a text was made simpler, by what was kept of the question's words, what deleted and what added."""

import re
from collections import Counter
from statistics import fmean

from .answers import Answer, texts

#: What NIST's script reads otherwise, in this order: skipped passages, words parted at the end of a line, entities.
_WRITTEN = (("<skipped>", ""), ("-\n", ""), ("\n", " "), ("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
#: What stands apart from words, one after the other: ASCII's marks but these; periods and commas behind no digit, and before
#: none; dashes behind a digit. Of a row of periods two are one step, so that before a digit the last may stay with it (`..5`).
_APART = tuple(
    (re.compile(pattern), apart)
    for pattern, apart in (
        (r"[!-&(-+/:-@\[-`{-~]", r" \g<0> "),
        (r"([^0-9])([.,])", r"\1 \2 "),
        (r"([.,])([^0-9])", r" \1 \2"),
        (r"(?<=[0-9])-", " - "),
    )
)


def sari(prediction: str, answer: Answer, question: str) -> float:
    """Return SARI, from 0 to 1: the mean of what is right of the words kept, deleted and added.

    For n = 1 to 4 the n-grams of the prediction are held against those of the question and of the right answers: F1 of those
    that are kept, precision of those that are deleted, F1 of those that are added; 0/0 is 1. Of r right answers each n-gram of
    prediction and question counts r times. A word that the question repeats more often than prediction and answer do is not
    wholly a right deletion, so the right answer itself may have less than 1. An empty text is one empty word.

    Source: Xu et al. 2016 (https://aclanthology.org/Q16-1029/), with the recall of kept n-grams as in TensorFlow's and Hugging
    Face's versions, over all of them; the tokens are those of NIST's mteval-v13a, in lower case.

    Args:
        prediction: The simpler text.
        answer: One right text, or several.
        question: The text that was to be made simpler, with what else the prompt says.
    """
    rights = [_tokens(text) for text in texts(answer)]
    asked, said = _tokens(question), _tokens(prediction)
    return fmean(_of_ngrams(asked, said, rights, n) for n in (1, 2, 3, 4))


def _of_ngrams(asked: list[str], said: list[str], rights: list[list[str]], n: int) -> float:
    source, output = (
        Counter({gram: count * len(rights) for gram, count in _ngrams(text, n).items()}) for text in (asked, said)
    )
    right = sum((_ngrams(text, n) for text in rights), Counter[tuple[str, ...]]())
    kept, deleted = source & output, source - output
    could_keep, added, could_add = source & right, output.keys() - source.keys(), right.keys() - source.keys()
    recall = _part((kept & right).total(), could_keep.total())
    return fmean(
        (
            _f1(_mean_part(kept & right, kept), recall),
            _mean_part(deleted - right, deleted),
            _f1(_part(len(added & could_add), len(added)), _part(len(added & could_add), len(could_add))),
        )
    )


def _ngrams(text: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(text[start:] for start in range(n)), strict=False))


def _tokens(text: str) -> list[str]:
    text = text.lower()
    for written, meant in _WRITTEN:
        text = text.replace(written, meant)
    text = f" {text} "
    for mark, apart in _APART:
        text = mark.sub(apart, text)
    return text.split() or [""]


def _mean_part(some: Counter[tuple[str, ...]], of: Counter[tuple[str, ...]]) -> float:
    """The mean over n-grams of how many of their occurrences are among some."""
    return fmean(some[gram] / count for gram, count in of.items()) if of else 1.0


def _part(some: int, of: int) -> float:
    return some / of if of else 1.0


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
