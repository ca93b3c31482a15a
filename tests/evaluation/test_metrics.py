"""Metrics on answers worked by hand."""

import difflib
import math
import random
from fractions import Fraction

import numpy as np
import pytest
import torch

from fcit_plugin.errors import FcitError
from fcit_plugin.evaluation.metrics import METRICS, exact_match, get_metric, label_set, mean_of, score, score_of_one, substring
from fcit_plugin.evaluation.others import code_similarity, contains, normalized_match, option_letter
from fcit_plugin.hookspecs import hookimpl


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("Cafe\N{COMBINING ACUTE ACCENT}", "café", 1),
        ("cafe", "café", 0),
        ("Yes", "yes", 1),
        (" b\n", "B", 1),
        ("B.", "B", 0),
        ("", "B", 0),
        ("yes it is", "yes", 0),
        ("7", "7.0", 0),
    ],
)
def test_exact_match(prediction, answer, expected):
    assert exact_match(prediction, answer) == expected


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [("blue", "Dark Blue", 1), ("Dark Blue", "blue", 0), ("", "blue", 1), (" \n", "blue", 1), ("red", "blue", 0)],
)
def test_substring_is_the_research_rule_with_its_hole(prediction, answer, expected):
    assert substring(prediction, answer) == expected


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [("It is blue.", "Blue", 1), ("blu", "blue", 0), ("", "blue", 0), ("blue", "", 0), ("blue", " \n", 0)],
)
def test_contains_finds_the_answer_in_the_prediction(prediction, answer, expected):
    assert contains(prediction, answer) == expected


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("B", "B", 1),
        ("b", "B", 1),
        ("(b) because it melts", "B", 1),
        ("B. Ice", "B", 1),
        ("B\nBecause", "B\nIt does", 1),
        ("The answer is C.", "C", 1),
        ("Because", "B", 0),
        ("A", "B", 0),
        ("", "B", 0),
        ("Because", "Because", 0),
        ("7", "7", 0),
        ("2 of them melt: B", "B", 0),
        ("12 of them melt: B", "B", 1),
        ("是 B", "B", 0),
    ],
)
def test_option_letter_is_the_first_that_stands_alone(prediction, answer, expected):
    assert option_letter(prediction, answer) == expected


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("Very  negative.", "very negative", 1),
        ("Science or Technology", "Science & Technology", 0),
        ("society  culture", "Society & Culture", 1),
        ("negative", "very negative", 0),
        ("", "-", 1),
        ("neutral", "-", 0),
    ],
)
def test_normalized_match_is_of_words_without_case_and_marks(prediction, answer, expected):
    assert normalized_match(prediction, answer) == expected


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("x = 1", "x = 1", 1),
        ("", "", 0),
        ("abcd", "bd", 4 / 6),
        ("x = 0", "x = <NUM_LIT>", 1),
        ('f("a b")', 'f("<STR_LIT:a b>")', 1),
        ("f('')", "f('<CHAR_LIT>')", 1),
        ("f('')", "f('<STR_LIT>')", 1),
        ("x = 0", "x = <NUM_LIT:1>", 8 / 10),
    ],
)
def test_code_similarity_is_of_letters_with_literals_put_in(prediction, answer, expected):
    assert code_similarity(prediction, answer) == pytest.approx(expected)


def test_code_similarity_is_the_ratio_of_insertions_and_deletions():
    """1 - (insertions + deletions) / letters, whose smallest number a search over all alignments finds."""

    def distance(one, other):
        if not one or not other:
            return len(one) + len(other)
        if one[0] == other[0]:
            return distance(one[1:], other[1:])
        return 1 + min(distance(one[1:], other), distance(one, other[1:]))

    rng = random.Random(0)
    for _ in range(100):
        one, other = ("".join(rng.choices("ab(", k=rng.randint(1, 7))) for _ in range(2))
        assert code_similarity(one, other) == pytest.approx(1 - distance(one, other) / len(one + other))


def test_of_several_answers_the_best_counts():
    assert score("exact_match", ["b", "c"], [["a", "B"], ["a", "b"]]) == 50
    assert score("substring", ["b"], [["a", "abc"]]) == 100
    assert score("anls", ["abc"], [["xyz", "abcd"]]) == 75


def test_score_is_a_mean_from_0_to_100():
    assert score("exact_match", ["a", "b", "c"], ["A", "x", "C"]) == pytest.approx(200 / 3)
    assert score("iou", ["[0,0,1,1]", "?"], ["[0,0,1,1]", [0, 0, 1, 1]]) == 50
    assert score("rouge_l", ["a dog", "a"], [["a cat", "a dog"], "b"]) == 50
    assert score("vqa", ["a dog", "2"], [["dog"] * 10, ["one"] * 10]) == 50


@pytest.mark.parametrize(("predictions", "answers"), [([], []), (["a"], []), (["a"], ["a", "b"])])
def test_score_needs_one_answer_for_each_prediction(predictions, answers):
    with pytest.raises(ValueError, match=f"{len(predictions)} predictions .* {len(answers)} answers"):
        score("exact_match", predictions, answers)


def test_an_unknown_metric_is_told_the_nearest():
    with pytest.raises(ValueError, match="'exact_mach' is unknown; did you mean 'exact_match'"):
        get_metric("exact_mach")
    with pytest.raises(ValueError, match="Valid are exact_match, substring, iou, rouge_l"):
        score("bleu", ["a"], ["a"])
    assert all(difflib.get_close_matches(name, METRICS)[0] == name for name in METRICS)


SPECIES = ["About 95 species are currently known.", "About 95 species are now accepted.", "95 species are now accepted."]


@pytest.mark.parametrize(
    ("question", "prediction", "answers", "expected"),
    [
        # the example of Hugging Face's and EASSE's documentation
        ("About 95 species are currently accepted.", "About 95 you now get in.", SPECIES, 26.953601953601954),
        ("", "", [""], 100),
        # of one n in four: an empty text is one empty word
        ("", "", ["a"], 100 * (3 + 1 / 3) / 4),  # it is kept and should not be, none is deleted, a is not added
        ("", "a", [""], 75),  # it should be kept and is deleted, a should not be added
        ("a", "", ["a"], 75),  # a should be kept and is deleted, the empty word should not be added
        ("a", "a", [""], 100 * (3 + 1 / 3) / 4),  # a should not be kept, the empty word is not added
        ("a b", "a", "a", 100),
        ("a a b", "a", "a", 100 * 11.5 / 12),  # of unigrams half of what is deleted is right: b is, the second a is not
        ("x", "The 3.5-inch, 1,000", "the 3.5 - inch , 1,000", 100),  # marks apart, but not within numbers
        ("x", "don't (stop)!", "don't ( stop ) !", 100),
        ("A &quot;B&quot;", 'a "b"', 'A "B"', 100),
        ("x", "super-\nmarket &copy;", "supermarket & copy ;", 100),  # joined at the end of a line; four entities alone
        ("x", "one\ntwo <skipped>", "one two", 100),
    ],
)
def test_sari(question, prediction, answers, expected):
    assert score("sari", [prediction], [answers], [question]) == pytest.approx(expected)
    assert score_of_one("sari", prediction, answers, question) == pytest.approx(expected)


def test_sari_is_the_mean_over_records_and_asks_for_their_questions():
    both = score("sari", ["", "a"], [[""], [""]], ["", ""])
    assert both == pytest.approx((100 + 75) / 2)
    with pytest.raises(FcitError, match=r"The metric sari looks at questions; .* 1 predictions, got none"):
        score("sari", ["a"], ["a"])
    with pytest.raises(FcitError, match=r"got 2"):
        score("sari", ["a"], ["a"], ["b", "c"])
    assert score("exact_match", ["a"], ["a"], ["b"]) == 100, "others look at none"


def test_label_set():
    assert label_set(["no", "yes", "no"]) == ("no", "yes")
    assert label_set([str(n) for n in range(64)]) == tuple(sorted(str(n) for n in range(64)))
    assert label_set([str(n) for n in range(65)]) is None
    assert label_set(["a", "b", "a", "c"], limit=2) is None
    assert label_set(["a", ["a", "b"]]) is label_set([[0.0, 0.0, 1.0, 1.0]]) is None


@pytest.mark.parametrize("metric", ["exact_match", "substring", "anls", "rouge_l", "own"])
def test_every_metric_is_given_composed_letters(metric, register):
    class Own:
        @hookimpl
        def fcit_metrics(self):
            return {"own": lambda predictions, answers: 100.0 * (predictions == [answers[0][0]])}

    register(Own())
    assert score(metric, [" e\N{COMBINING ACUTE ACCENT}te\N{COMBINING ACUTE ACCENT}\n"], [["été"]]) == 100


NUMBERS = [kind(1) for kind in (int, float, bool, np.float32, np.int64, np.array, torch.tensor, Fraction)]
NO_SCORES = [math.nan, math.inf, -math.inf, np.float32("nan"), torch.tensor(math.nan), np.array(math.inf)]
NO_NUMBERS = [10**400, None, "1", b"1", [1.0], np.ones(2), 1j]


@pytest.mark.parametrize(
    ("given", "by_record", "expected"),
    [
        *((given, by_record, 100.0 if by_record else 1.0) for given in NUMBERS for by_record in (True, False)),
        *((given, by_record, None) for given in NO_SCORES for by_record in (True, False)),
        *((given, False, None) for given in NO_NUMBERS),
    ],
)
def test_what_a_metric_gives_is_a_number_that_any_file_can_hold_or_refused(given, by_record, expected, register):
    """A NaN of a further metric ended a run that was done in a traceback, a float32 every commit."""

    class Own:
        @hookimpl
        def fcit_metrics(self):
            return {"own": mean_of(lambda *record: given) if by_record else lambda predictions, answers: given}

    register(Own())
    if expected is None:
        with pytest.raises(FcitError, match=r"^The metric own gave .*; it has to give a finite number, whatever the answers"):
            score("own", ["a"], ["a"])
    else:
        found = score("own", ["a", "b"], ["a", "b"])
        assert type(found) is float and found == expected
