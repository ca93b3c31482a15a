"""Scores of other benchmarks beside their rules, written down anew letter by letter, on texts that nobody would think of."""

import random
import unicodedata

import pytest

from fcit_plugin.evaluation.metrics import score
from fcit_plugin.evaluation.simplification import _tokens

PIECES = (
    *("A", "b", "(c)", "B. ", "2", "a.", "is", "no", "not", "bus", "don't", "_", "-", "#", "!", "'", '"', ":"),
    *(" ", "  ", "\n", "\t", "\xa0", ".", ",", ",.5", "5", "3.5", "1-2", "nan", "NaN", "1e999", "Unanswerable"),
    *("é", "e\u0301", "ß", "İ", "½", "٣", "\uff21", "中文", "\u200b", "😀"),
    *("<|im_end|>", "</s>", "<skipped>", "-\n", "&lt;", "&copy;"),
    *("<STR_LIT>", "<NUM_LIT>", "<CHAR_LIT>", "<STR_LIT:", "<NUM_LIT:", "x", ">", "<NUM_LIT:1>", "<CHAR_LIT:>"),
)


def composed(text):
    """Without blanks at the ends, letters composed: what any metric is given."""
    return unicodedata.normalize("NFC", text).strip()


def option(text):
    """The first character that stands alone among letters, digits and underscores, if it is one of ASCII's letters."""
    runs, run = [], ""
    for letter in f"{text} ":
        if letter.isalnum() or letter == "_":
            run += letter
        else:
            runs += [run] if run else []
            run = ""
    first = next((run for run in runs if len(run) == 1), "")
    return first.upper() if first.isascii() and first.isalpha() else None


def option_letter(prediction, answer):
    return option(answer) is not None and option(prediction) == option(answer)


def contains(prediction, answer):
    return answer != "" and answer.upper() in prediction.upper()


def contains_word(prediction, answer):
    said, right = prediction.lower(), answer.lower()
    if right.count(" ") == 0:
        right = "".join(letter for letter in right if letter != ".")
    if not right:
        return False
    places = [place for place in range(len(said)) if said[place:].startswith(right)]
    if " " in right or " " not in said:
        return bool(places)
    ends = [place + len(right) for place in places]
    return any(said[place - 1 : place] == " " for place in places) or any(said[end : end + 1] in tuple(" .,") for end in ends)


def match_without_spaces(prediction, answer):
    one, other = ([letter for letter in text.lower() if letter not in " ."] for text in (prediction, answer))
    return one == other


def normalized_match(prediction, answer):
    one, other = ("".join(letter for letter in text.lower() if not marks(letter)).split() for text in (prediction, answer))
    return one == other


def marks(letter):
    return letter.isascii() and letter.isprintable() and not letter.isalnum() and letter != " "


def literal(text):
    """Placeholders without content first, then those with one, each up to the next `>`."""
    for name, meant in (("NUM", "0"), ("STR", ""), ("CHAR", "")):
        text = meant.join(text.split(f"<{name}_LIT>"))
    done = ""
    while text:
        opening = next((f"<{name}_LIT:" for name in ("STR", "NUM", "CHAR") if text.startswith(f"<{name}_LIT:")), "")
        if opening and ">" in text[len(opening) :]:
            inside, _, text = text[len(opening) :].partition(">")
            done += inside
        else:
            done, text = done + text[0], text[1:]
    return done


def code_similarity(prediction, answer):
    one, other = literal(prediction), literal(answer)
    row = list(range(len(other) + 1))  # insertions and deletions, row by row
    for i, letter in enumerate(one, 1):
        above, row = row, [i]
        for j, match in enumerate(other, 1):
            row.append(above[j - 1] if letter == match else 1 + min(above[j], row[j - 1]))
    return 1 - row[-1] / len(one + other) if one and other else 0


RULES = {
    rule.__name__: rule
    for rule in (option_letter, contains, contains_word, match_without_spaces, normalized_match, code_similarity)
}


@pytest.mark.parametrize("name", RULES)
def test_any_answers_are_scored_by_the_rule(name):
    rng, found = random.Random(name), set()
    for _ in range(1500):
        answer = composed("".join(rng.choices(PIECES, k=rng.randint(0, 2))))
        around = ["".join(rng.choices(PIECES, k=rng.randint(0, 3))) for _ in range(2)]
        prediction = composed(answer.swapcase().join(around) if rng.random() < 0.5 else around[0])
        expected = 100 * float(RULES[name](prediction, answer))
        assert score(name, [prediction], [answer]) == pytest.approx(expected), (prediction, answer)
        found.add(expected)
    assert {0, 100} <= found


def nist(text):
    """The tokens of NIST's mteval-v13a, from left to right, one rule after the other."""
    text = text.lower().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, letter in (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")):
        text = text.replace(entity, letter)
    text = "".join(f" {letter} " if marks(letter) and letter not in ".,-'" else letter for letter in f" {text} ")
    for mark_is_first in (False, True):
        done, place = "", 0
        while place < len(text):
            pair = text[place : place + 2]
            mark, other = (pair[:1], pair[1:]) if mark_is_first else (pair[1:], pair[:1])
            if len(pair) == 2 and mark in ".," and other not in "0123456789":
                done, place = done + (f" {mark} {other}" if mark_is_first else f"{other} {mark} "), place + 2
            else:
                done, place = done + text[place], place + 1
        text = done
    digits = tuple("0123456789")
    pairs = zip(f" {text}", text, strict=False)
    return "".join(" - " if letter == "-" and before in digits else letter for before, letter in pairs).split() or [""]


def test_words_of_any_text_are_those_of_nist():
    rng = random.Random(0)
    for _ in range(5000):
        text = "".join(rng.choices([*PIECES, *".,-5'"], k=rng.randint(0, 7)))
        assert _tokens(text) == nist(text), text
    assert _tokens("um ,.5 und ..5") == ["um", ",", ".5", "und", ".", ".5"]
