"""``packing`` and ``neat_packing``: each client's records are packed apart, as LLaMA-Factory packs a dataset."""

import json

import pytest
from llamafactory.hparams import get_train_args
from runs import losses_of, run_recipe, trained_alone
from safetensors.torch import load_file

KEYS = {"cutoff_len": 64, "per_device_train_batch_size": 2, "fcit_eval_every": "never", "fcit_stages": [["color"]]}
ONE_CLIENT = {"fcit_num_clients": 1, "fcit_clients_per_round": 1, "fcit_num_rounds": 1, "num_train_epochs": 3.0}


@pytest.mark.parametrize("key", ["packing", "neat_packing"])
def test_one_client_learns_what_llamafactory_learns_from_packed_records(key, text_recipe, tmp_path):
    keys = text_recipe(**KEYS, **ONE_CLIENT, **{key: True})
    output_dir = run_recipe(keys)
    plain = trained_alone(keys, output_dir, tmp_path / "alone")
    losses = losses_of(output_dir)
    assert len(losses) == 9, "24 records in 5 sequences, two a step, three epochs"
    assert losses == losses_of(plain)
    expected = load_file(plain / "adapter_model.safetensors")
    found = load_file(output_dir / "subspaces/0/adapter_model.safetensors")
    assert max((found[name] - value).abs().max().item() for name, value in expected.items()) < 1e-6


def test_packs_of_different_masks_are_learned_differently(text_recipe):
    """Else neither test above would tell whether records of a pack see each other."""
    both = ("packing", "neat_packing")
    losses = [losses_of(run_recipe(text_recipe(key, **KEYS, **ONE_CLIENT, **{key: True}))) for key in both]
    assert losses[0] != losses[1]


def test_each_client_packs_its_own_records_in_the_steps_that_were_planned(text_recipe):
    keys = KEYS | {"fcit_stages": [["color", "letter"]], "per_device_train_batch_size": 1, "packing": True}
    keys |= {"preprocessing_batch_size": 7, "fcit_beta": 0.3, "fcit_clients_per_round": 3}
    plan = json.loads((run_recipe(text_recipe("plan", **keys, fcit_dry_run=True)) / "fcit_dry_run.json").read_text())
    lines = (run_recipe(text_recipe(**keys)) / "trainer_log.jsonl").read_text().splitlines()
    log = [json.loads(line) for line in lines]
    steps = {(work["stage"], work["round"], work["client"]): work["steps"] for work in plan["work"][""]}
    found = dict.fromkeys(steps, 0)
    for line in log:
        found[line["stage"], line["round"], line["client"]] += 1
    assert found == steps
    assert log[-1]["total_steps"] == log[-1]["current_steps"] == plan["steps"]
    assert len(set(steps.values())) > 1, "clients of different sizes"
    assert all(work["steps"] < work["records"] for work in plan["work"][""])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"packing": True, "cutoff_len": 60}, "`cutoff_len` is 60; with `packing` it must be a multiple of 8"),
        ({"packing": True, "fcit_local_stage": "dpo"}, "`packing` cannot be used with `fcit_local_stage: dpo`"),
        ({"neat_packing": True, "flash_attn": "fa2"}, "`per_device_train_batch_size` is 4; `neat_packing` with"),
    ],
)
def test_what_cannot_be_packed_is_refused(text_recipe, changes, said):
    with pytest.raises(ValueError, match=said):
        get_train_args(text_recipe(**changes))
