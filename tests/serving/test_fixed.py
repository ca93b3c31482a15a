"""Weights that a recipe fixes, by number, name, list or mean."""

import numpy as np
import pytest

from fcit_plugin.errors import FcitError
from fcit_plugin.scenario.settings import get_scenario
from fcit_plugin.serving.fixed_weights import fixed_weights

TASKS = [{"color": 4}, {"letter+number": 2, "shape": 1}, {"shape": 3}]
COUNTS = np.array([10, 0, 30])


DATASETS = {"color": ("color",), "letter+number": ("letter", "number"), "shape": ("shape",)}


def weights(given, tasks=TASKS, datasets=DATASETS, counts=COUNTS):
    return fixed_weights(given, tasks, counts, datasets)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, [0.5, 0, 0.5]),  # the unused subspace 1 has no part
        ("mean", [0.5, 0, 0.5]),
        ("2", [0, 0, 1]),
        ("0", [1, 0, 0]),
        ("[0.25, 0, 0.75]", [0.25, 0, 0.75]),
        ([1, -2, 0.5], [1, -2, 0.5]),
        ("color", [1, 0, 0]),
        ("letter", [0, 1, 0]),
        ("number", [0, 1, 0]),
        ("letter+number", [0, 1, 0]),
    ],
)
def test_each_form(given, expected):
    assert weights(given) == expected


def test_a_data_set_of_a_capability_is_found_in_the_papers_setting():
    tasks, counts = [{"general": 3}, {"math": 2}], np.array([1, 1])
    datasets = {task.name: task.datasets for task in get_scenario("cap_het").tasks}
    assert weights("fcit_tabmwp", tasks, datasets, counts) == [0, 1]
    assert weights("fcit_iconqa", tasks, datasets, counts) == [1, 0]
    assert weights("general", tasks, datasets, counts) == [1, 0]


def test_a_data_set_in_several_subspaces_is_refused_with_the_candidates():
    with pytest.raises(ValueError, match=r"several took in that dataset: 1 \(1 clients\), 2 \(3 clients\); give one"):
        weights("shape")


@pytest.mark.parametrize("given", ["3", "[1.0]", "nearest", "-1", "true", "[1, 2, true]", "[0, 0, NaN]", "1.0", '"color"'])
def test_what_is_none_of_these_is_one_sentence_that_lists_them(given):
    with pytest.raises(FcitError) as caught:
        weights(given)
    text = str(caught.value)
    for part in (f"{given!r}", "mean, auto", "from 0 to 2", "list of 3 weights", "color, letter, letter+number, number"):
        assert part in text
    assert "\n" not in text
