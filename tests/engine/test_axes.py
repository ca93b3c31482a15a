"""The three axes are free: each pair of choices trains, is finite, and goes on after a kill to the same bits.

A run that goes on from its first commit in another folder repeats all later rounds, so equal bits also say that the pair
is deterministic. What makes no sense together is refused in one sentence that names both keys.
"""

import itertools
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from runs import report_of, run_recipe, weight_bytes
from safetensors.torch import load_file

from fcit_plugin.adapters.lora_aggregations import LORA_AGGREGATIONS
from fcit_plugin.continual.methods import METHODS
from fcit_plugin.errors import FcitError
from fcit_plugin.federation.server_rules import SERVER_RULES
from fcit_plugin.state.names import BASE_CHANGE

AXES = {
    "fcit_server_rule": sorted(SERVER_RULES),
    "fcit_lora_aggregation": sorted(LORA_AGGREGATIONS),
    "fcit_method": sorted(METHODS),
}
DEFAULTS = {"fcit_server_rule": "fedavg", "fcit_lora_aggregation": "factors", "fcit_method": "sequential"}
MORE = {
    "moe_lora": {"fcit_num_experts": 2},
    "trimmed_mean": {"fcit_trim_fraction": 0.4},
    "krum": {"fcit_num_malicious": 0},
    "multi_krum": {"fcit_num_malicious": 0},
}
PRODUCTS = ("svd", "exact", "stack")
NEW_BASIS = ("refactor", "svd", "stack")


def refused(rule, aggregation, method):
    """Which choices make no sense together; written down here, not asked of the code."""
    return (
        # a rule that takes no mean does not go with means of products, nor one that remembers numbers whose basis changes
        (aggregation in PRODUCTS and rule not in ("fedavg", "fedprox", "scaffold"))
        or (aggregation in NEW_BASIS and rule in ("scaffold", "fedavgm", "fedadam", "fedyogi", "fedadagrad"))
        # nor does a method that holds single numbers of the factors, or whose LoRA is more than a product
        or (aggregation in NEW_BASIS and method in ("ewc", "ties_merging"))
        or (aggregation in (*PRODUCTS, *NEW_BASIS) and method == "moe_lora")
        # the base weights act in all subspaces, and in a model that is asked as it was
        or (
            aggregation in ("exact", "stack")
            and method in ("disco", "disco_plus", "o_lora", "c_lora", "lwf", "lamol", "ties_merging")
        )
        # what belongs to the factors A cannot be learned where these are not trained
        or (aggregation == "ffa" and method in ("o_lora", "moe_lora"))
    )


PAIRS = [
    DEFAULTS | {one: left, other: right}
    for one, other in itertools.combinations(AXES, 2)
    for left, right in itertools.product(AXES[one], AXES[other])
]
PAIRS = [keys for i, keys in enumerate(PAIRS) if keys not in PAIRS[:i]]


def covering():
    """Pairs that have each choice at least once."""
    left, taken = {(axis, choice) for axis, choices in AXES.items() for choice in choices}, []
    for keys in sorted(PAIRS, key=lambda keys: sum(keys[axis] == DEFAULTS[axis] for axis in AXES)):
        if left & set(keys.items()) and not refused(*(keys[axis] for axis in AXES)):
            taken.append(keys)
            left -= set(keys.items())
    return taken


def named(keys):
    return "-".join(keys.values())


@pytest.fixture
def recipe(text_model, text_data, tmp_path):
    def make(keys, name):
        more = {key: value for choice in keys.values() for key, value in MORE.get(choice, {}).items()}
        return tiny.recipe(
            *(text_model, text_data, tmp_path / name),
            **(keys | more),
            fcit_num_rounds=1,
            fcit_clients_per_round=3,
            fcit_min_client_samples=2,
            fcit_eval_restricted=False,
            fcit_zero_shot=False,
            fcit_eval_samples=2,
            save_total_limit=0,
            max_steps=1,
        )

    return make


def check(keys, recipe):
    choices = [keys[axis] for axis in AXES]
    if refused(*choices):
        with pytest.raises(FcitError) as error:
            run_recipe(recipe(keys, "out"))
        named_keys = [key for key in AXES if f"`{key}" in str(error.value)]
        assert len(named_keys) >= 2, str(error.value)
        return
    whole = run_recipe(recipe(keys, "whole"))
    tensors = [value for path in whole.rglob("*.safetensors") for value in load_file(path).values()]
    assert tensors and all(bool(torch.isfinite(value).all()) for value in tensors)
    moved = [load_file(path) for path in sorted(whole.glob("subspaces/*/adapter_model.safetensors"))]
    base = load_file(whole / BASE_CHANGE) if (whole / BASE_CHANGE).exists() else {}
    assert base or all(any(value.abs().max() > 0 for key, value in state.items() if "lora_B" in key) for state in moved)

    half = recipe(keys, "half")
    shutil.copytree(whole / "checkpoints/round-0001", Path(half["output_dir"]) / "checkpoints/round-0001")
    again = run_recipe(half)
    ours, theirs = (
        {name: data for name, data in weight_bytes(output).items() if not name.startswith("checkpoints/round-0000")}
        for output in (again, whole)
    )
    assert ours == theirs
    assert report_of(again)["accuracy"] == report_of(whole)["accuracy"]


@pytest.mark.parametrize("keys", covering(), ids=named)
def test_each_choice_in_some_pair(keys, recipe):
    check(keys, recipe)


@pytest.mark.slow
@pytest.mark.parametrize("keys", PAIRS, ids=named)
def test_every_pair(keys, recipe):
    check(keys, recipe)
