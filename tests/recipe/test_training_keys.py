"""LLaMA-Factory's keys of how a client computes its steps: they change speed and memory, not what is learned."""

import json

import pytest
import tiny
import torch.utils.checkpoint
from llamafactory.hparams import get_train_args
from runs import run_recipe
from safetensors.torch import load_file

#: Largest difference of a trained weight; the weights themselves go up to 0.2.
TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=["text", "llava"])
def keys(request, tmp_path_factory):
    """One stage and one round on a tiny model, the LLaVA's projector trained; four records a client, two steps."""
    model, data = {"text": ("text_model", "text_data"), "llava": ("llava_model", "image_data")}[request.param]
    return tiny.recipe(
        request.getfixturevalue(model),
        request.getfixturevalue(data),
        tmp_path_factory.mktemp("keys") / "plain",
        fcit_stages=[["color"]],
        fcit_num_rounds=1,
        fcit_eval_every="never",
        fcit_partition="iid",
        per_device_train_batch_size=2,
        freeze_multi_modal_projector=False,
        seed=1,
    )


@pytest.fixture(scope="module")
def plain(keys):
    """What is learned without any of these keys."""
    return learned(keys)


def learned(keys):
    """The trained weights that a run leaves, and the loss of each step."""
    output_dir = run_recipe(keys)
    weights = load_file(output_dir / "subspaces" / "0" / "adapter_model.safetensors")
    if (output_dir / "shared.safetensors").exists():
        weights |= load_file(output_dir / "shared.safetensors")
    log = (output_dir / "trainer_log.jsonl").read_text().splitlines()
    return weights, [json.loads(line)["loss"] for line in log]


def largest_difference(found, expected):
    assert found.keys() == expected.keys()
    return max((found[key] - value).abs().max().item() for key, value in expected.items())


@pytest.mark.parametrize(
    "changes",
    [
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2},
        {"disable_gradient_checkpointing": False},
        {"disable_gradient_checkpointing": False, "use_reentrant_gc": False},
    ],
    ids=["accumulation", "checkpointing", "checkpointing without reentrance"],
)
def test_the_same_is_learned(keys, plain, changes, tmp_path, monkeypatch):
    checkpoints = []
    original = torch.utils.checkpoint.checkpoint
    monkeypatch.setattr(
        torch.utils.checkpoint, "checkpoint", lambda *args, **kwargs: checkpoints.append(1) or original(*args, **kwargs)
    )
    weights, losses = learned(keys | {"output_dir": str(tmp_path / "out")} | changes)
    assert largest_difference(weights, plain[0]) < TOLERANCE
    assert losses == pytest.approx(plain[1], abs=1e-4)
    assert bool(checkpoints) == ("disable_gradient_checkpointing" in changes)


def test_mixed_precision_learns_nearly_the_same(keys, plain, tmp_path):
    weights, losses = learned(keys | {"output_dir": str(tmp_path / "out"), "bf16": True, "use_cpu": True})
    assert losses == pytest.approx(plain[1], rel=0.01)
    assert all(value.isfinite().all() for value in weights.values())
    moved = sum(value.square().sum() for key, value in plain[0].items() if "lora_B" in key).sqrt()
    apart = sum((weights[key] - value).square().sum() for key, value in plain[0].items() if "lora_B" in key).sqrt()
    assert 0 < apart < 0.2 * moved


#: Sections with which DeepSpeed makes what the Trainer would, and what of ours is done to the Trainer's.
SECTIONS = {
    "optimizer": {"type": "AdamW", "params": {"lr": "auto"}},
    "scheduler": {"type": "WarmupLR", "params": {}},
}
TO_THE_TRAINERS = {
    "optimizer": {"fcit_projector_learning_rate": 1e-4, "freeze_multi_modal_projector": False},
    "scheduler": {"fcit_schedule_over": "stage"},
}


@pytest.mark.parametrize("section", [*SECTIONS, None])
@pytest.mark.parametrize("changed", [*TO_THE_TRAINERS, None])
def test_what_is_done_to_the_trainers_own_is_refused_where_deepspeed_makes_it(llava_recipe, section, changed):
    config = {"zero_optimization": {"stage": 2}, "train_micro_batch_size_per_gpu": "auto"}
    config |= {section: SECTIONS[section]} if section else {}
    keys = TO_THE_TRAINERS.get(changed, {})
    recipe = llava_recipe(deepspeed=config, fcit_dry_run=True, **keys)
    if section is None or section != changed:
        get_train_args(recipe)
        return
    with pytest.raises(ValueError, match=f"`deepspeed` cannot be used with `{next(iter(keys))}: .*(`{section}`)"):
        get_train_args(recipe)
