"""Keys that transformers has renamed: a recipe of before means what it meant."""

from dataclasses import dataclass

import pytest
from llamafactory.hparams import get_train_args
from transformers import TrainingArguments

from fcit_plugin.recipe.renamed import with_known_names


@dataclass
class Later:
    """What a later version has of the arguments."""

    warmup_steps: float = 0


@dataclass
class Earlier(Later):
    """And one of before."""

    warmup_ratio: float | None = None


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"warmup_ratio": 0.03, "seed": 1}, {"warmup_steps": 0.03, "seed": 1}),
        ({"warmup_ratio": 0.03, "warmup_steps": 7}, {"warmup_steps": 0.03}),
        ({"warmup_ratio": None, "warmup_steps": 7}, {"warmup_steps": 7}),
        ({"warmup_steps": 7}, {"warmup_steps": 7}),
    ],
)
def test_a_key_has_the_new_name_where_the_old_one_is_not_known_and_is_left_where_it_is(given, found):
    assert with_known_names(given, [Later]) == found
    assert with_known_names(given, [Earlier]) == given


def test_the_new_key_with_the_old_value_is_the_same_warm_up(text_recipe, tmp_path):
    def steps(**key):
        arguments = get_train_args(text_recipe(**key))[2]
        return [arguments.get_warmup_steps(count) for count in range(1, 90)]

    old = {"warmup_ratio": 0.03} if hasattr(TrainingArguments, "warmup_ratio") else {"warmup_steps": 0.03}
    assert steps(**old) == steps(warmup_steps=0.03)
    assert len({*steps(**old)}) > 2
