"""VQA accuracy and ANLS on answers worked by hand, and against their formulas by brute force."""

from functools import cache
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcit_plugin.evaluation.questions import anls, normalize, vqa


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Yes", "yes"),
        (" a  Dog \n", "dog"),
        ("The cat.", "cat"),
        ("none", "0"),
        ("Two dogs", "2 dogs"),
        ("ten", "10"),
        ("3.5", "3.5"),
        ("u.s.", "us"),
        ("1,000", "1000"),
        ("red/blue", "red blue"),
        ("red, blue", "red blue"),
        ("t-shirt", "t shirt"),
        ("dont know", "don't know"),
        ("couldnt've", "couldn't've"),
        ("dog's", "dog's"),
        ("10:30", "10:30"),
        ("twas", "'twas"),
        ("wed", "wed"),
        ("yes!", "yes"),
        ("an", ""),
        ("", ""),
    ],
)
def test_normal_form_of_an_answer(text, normal):
    assert normalize(text) == normal


def answers(**counts):
    """Ten human answers: `counts` of each, the rest of them all different."""
    said = [answer for answer, count in counts.items() for _ in range(count)]
    return said + [f"other {i}" for i in range(10 - len(said))]


# m of ten humans: leaving out one who said it m times (m - 1)/3, leaving out another 10 - m times m/3.
@pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, (3 * 2 / 3 + 7) / 10), (4, 1), (10, 1)])
def test_vqa_by_hand(count, expected):
    assert vqa("Yes.", answers(yes=count)) == pytest.approx(expected)


@given(
    st.sampled_from(["a cat", "Two", "dont", "red"]),
    st.lists(st.sampled_from(["cat", "2", "don't", "two.", "blue", "Cat!"]), min_size=10, max_size=10),
)
def test_vqa_is_the_mean_over_all_subsets_of_nine(prediction, said):
    def matches(answer):
        return normalize(answer) == normalize(prediction)

    rates = [min(1, sum(map(matches, nine)) / 3) for nine in combinations(said, 9)]
    assert vqa(prediction, said) == pytest.approx(sum(rates) / 10)


@pytest.mark.parametrize("said", ["yes", ["yes"], ["yes"] * 3, []])
def test_vqa_needs_several_people(said):
    with pytest.raises(ValueError, match="answers of several people"):
        vqa("yes", said)


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("Denver Broncos", "denver  broncos", 1),
        ("12/15/88", "12/15/89", 7 / 8),
        ("kitten", "sitting", 1 - 3 / 7),
        ("ab", "abcd", 0),
        ("abc", "abcd", 3 / 4),
        ("dog", "cat", 0),
        ("", "cat", 0),
        ("", "", 1),
    ],
)
def test_anls_by_hand(prediction, answer, expected):
    assert anls(prediction, answer) == pytest.approx(expected)


def edits(one, other):
    """Levenshtein distance by its recursive definition."""

    @cache
    def to_go(i, j):
        if i == 0 or j == 0:
            return i + j
        return min(to_go(i - 1, j) + 1, to_go(i, j - 1) + 1, to_go(i - 1, j - 1) + (one[i - 1] != other[j - 1]))

    return to_go(len(one), len(other))


@given(st.text("abc", max_size=7), st.text("abc", max_size=7), st.sampled_from([0.3, 0.5, 1.1]))
def test_anls_equals_the_recursive_definition(prediction, answer, threshold):
    distance = edits(prediction, answer) / max(len(prediction), len(answer), 1)
    assert anls(prediction, answer, threshold) == pytest.approx(1 - distance if distance < threshold else 0)
