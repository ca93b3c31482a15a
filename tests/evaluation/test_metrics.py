"""Metrics on answers worked by hand."""

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcit_plugin.evaluation.metrics import METRICS, caption, exact_match, get_metric, iou, label_set, score, substring


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [("Yes", "yes", 1), (" b\n", "B", 1), ("B.", "B", 0), ("", "B", 0), ("yes it is", "yes", 0), ("7", "7.0", 0)],
)
def test_exact_match(prediction, answer, expected):
    assert exact_match(prediction, answer) == expected


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [("blue", "Dark Blue", 1), ("Dark Blue", "blue", 0), ("", "blue", 1), (" \n", "blue", 1), ("red", "blue", 0)],
)
def test_substring_is_the_research_rule_with_its_hole(prediction, answer, expected):
    assert substring(prediction, answer) == expected


# [0, 0, 1, 1] and [0, 0, 1, h]: IoU = h.
@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("[0, 0, 1, 1]", 1),
        ("[0.0, 0.0, 1.0, 0.51]", 1),
        ("[0, 0, 1, 0.5]", 0),
        ("The 2 dogs are at [0.00,0.00,1.00,0.75].", 1),
        ("0 0 1 9e-1", 1),
        ("(.0; .0; 1.; .8)", 1),
        ("[0.5, 0.5, 1.5, 1.5]", 0),
        ("[1, 1, 0, 0]", 0),
        ("[-1, 0, 1, 1]", 0),
        ("[-0.5, 0, 1, 1]", 1),
        ("[0, 0, 1]", 0),
        ("[0, 0, 1, x1]", 0),
        ("[0, 0, 1e999, 1e999]", 0),
        ("no box", 0),
        ("", 0),
    ],
)
def test_iou(prediction, expected):
    assert iou(prediction, "[0, 0, 1, 1]") == expected
    assert iou(prediction, [0, 0, 1, 1]) == expected


def test_iou_by_hand():
    # 4 x 4 and 4 x 4 shifted by 1: 12 in common, 20 together, 0.6; shifted by 2: 8 / 24.
    assert iou("[1, 0, 5, 4]", [0, 0, 4, 4]) == 1
    assert iou("[2, 0, 6, 4]", [0, 0, 4, 4]) == 0
    assert iou("[1, 1, 1, 1]", [1, 1, 1, 1]) == 0


@pytest.mark.parametrize("answer", ["nowhere", [0, 1, 2], []])
def test_iou_refuses_an_answer_without_a_box(answer):
    with pytest.raises(ValueError, match="no box of four numbers"):
        iou("[0, 0, 1, 1]", answer)


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("A dog runs.", "a dog runs", 1),
        ("police killed the gunman", "police kill the gunman", 3 / 4),
        ("the gunman kill police", "police kill the gunman", 2 / 4),
        ("a dog", "a black dog runs", 2 * 2 / 6),
        ("a a a", "a b", 2 / 5),
        ("cat", "dog", 0),
        ("", "dog", 0),
        ("", "", 0),
        ("a cat", ["a dog", "the cat", "a cat sleeps"], 4 / 5),
        ("a cat", [], 0),
    ],
)
def test_caption_is_rouge_l_of_the_best_reference(prediction, answer, expected):
    assert caption(prediction, answer) == pytest.approx(expected)


def longest_common(x, y):
    if not x or not y:
        return 0
    if x[0] == y[0]:
        return 1 + longest_common(x[1:], y[1:])
    return max(longest_common(x[1:], y), longest_common(x, y[1:]))


@given(st.lists(st.sampled_from("abc"), max_size=6), st.lists(st.sampled_from("abc"), max_size=6))
def test_caption_equals_the_recursive_definition(x, y):
    common = longest_common(x, y)
    precision, recall = (common / len(x), common / len(y)) if common else (0, 0)
    expected = 2 * precision * recall / (precision + recall) if common else 0
    assert caption(" ".join(x), " ".join(y)) == pytest.approx(expected)


def test_score_is_a_mean_from_0_to_100():
    assert score("exact_match", ["a", "b", "c"], ["A", "x", "C"]) == pytest.approx(200 / 3)
    assert score("iou", ["[0,0,1,1]", "?"], ["[0,0,1,1]", [0, 0, 1, 1]]) == 50
    assert score("caption", ["a dog", "a"], [["a cat", "a dog"], "b"]) == 50


@pytest.mark.parametrize(("predictions", "answers"), [([], []), (["a"], []), (["a"], ["a", "b"])])
def test_score_needs_one_answer_for_each_prediction(predictions, answers):
    with pytest.raises(ValueError, match=f"{len(predictions)} predictions .* {len(answers)} answers"):
        score("exact_match", predictions, answers)


def test_an_unknown_metric_is_told_the_nearest():
    with pytest.raises(ValueError, match="'exact_mach' is unknown; did you mean 'exact_match'"):
        get_metric("exact_mach")
    with pytest.raises(ValueError, match="Valid are exact_match, substring, iou, caption"):
        score("bleu", ["a"], ["a"])
    assert all(difflib.get_close_matches(name, METRICS)[0] == name for name in METRICS)


def test_label_set():
    assert label_set(["no", "yes", "no"]) == ("no", "yes")
    assert label_set([str(n) for n in range(64)]) == tuple(sorted(str(n) for n in range(64)))
    assert label_set([str(n) for n in range(65)]) is None
    assert label_set(["a", "b", "a", "c"], limit=2) is None
