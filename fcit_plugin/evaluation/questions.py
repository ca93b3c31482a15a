"""Soft scores of short answers to questions, for users' own data: VQA accuracy and ANLS."""

import re

from ..errors import FcitError
from .answers import Answer, texts

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"none": "0", **{word: str(number) for number, word in enumerate(_WORDS)}}
_ARTICLES = {"a", "an", "the"}
_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""
#: A contraction that lacks one apostrophe -> the whole one.
_MENDED = {word[:i] + word[i + 1 :]: word for word in _CONTRACTED.split() for i, letter in enumerate(word) if letter == "'"}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'


def vqa(prediction: str, answers: Answer) -> float:
    """Return the VQA accuracy of one answer: min(humans who gave it / 3, 1), averaged over leaving each human out.

    Prediction and human answers (ten in VQA v2) are normalized alike, see `normalize`. Antol et al., "VQA: Visual
    Question Answering", arXiv 1505.00468, and https://visualqa.org/evaluation.html.

    Raises:
        FcitError: there are fewer than four human answers, with which not even the best prediction could reach 1.
    """
    if isinstance(answers, str) or len(answers) < 4:
        raise FcitError(
            f"The metric vqa needs the answers of several people (VQA v2 has ten, four are the fewest), got {answers!r}; "
            "exact_match does with one."
        )
    given, said = normalize(prediction), [normalize(answer) for answer in texts(answers)]
    matching = said.count(given)
    return sum(min((matching - (answer == given)) / 3, 1.0) for answer in said) / len(said)


def normalize(text: str) -> str:
    """Return an answer in the form that VQA compares: the rules of https://visualqa.org/evaluation.html.

    Lower case, number words as digits, without articles, contractions with their apostrophe, without periods that are
    no decimal point, and other punctuation (but apostrophe and colon) as a space - or as nothing, where it stands
    beside a space or the text has a comma between digits, which is how the official script reads the rule.
    """
    text = text.replace("\n", " ").replace("\t", " ").strip()
    grouped = re.search(r"\d,\d", text) is not None
    table = {ord(p): "" if grouped or f"{p} " in text or f" {p}" in text else " " for p in _PUNCTUATION}
    words = re.sub(r"\.(?!\d)", "", text.translate(table)).lower().split()
    words = [_NUMBERS.get(word, word) for word in words]
    return " ".join(_MENDED.get(word, word) for word in words if word not in _ARTICLES)


def anls(prediction: str, answer: str, threshold: float = 0.5) -> float:
    """Return 1 - NL if NL is below the threshold, else 0; NL = edits / letters of the longer text.

    Case and the amount of white space do not count. Over several answers the best counts, which with the mean over
    the questions makes ANLS. Biten et al., "Scene Text Visual Question Answering", arXiv 1905.13648, equation 1.
    """
    one, other = (" ".join(text.lower().split()) for text in (prediction, answer))
    longer = max(len(one), len(other))
    distance = _edits(one, other) / longer if longer else 0.0
    return 1 - distance if distance < threshold else 0.0


def _edits(one: str, other: str) -> int:
    """Levenshtein distance: the fewest insertions, deletions and substitutions of letters."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        above, row = row, [i]
        for j, match in enumerate(other, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (letter != match)))
    return row[-1]
