"""A relay on a real model: what a client begins with, and the learning rate that goes through a chain."""

import json
import math

import pytest
import tiny
import torch
from llamafactory.hparams import get_train_args
from runs import run_recipe
from safetensors.torch import load_file
from transformers import SchedulerType, get_scheduler

from fcit_plugin.engine.trainer_mixins import ScheduleOfChainMixin
from fcit_plugin.scenario.sampling import turn

BY_STEP = sorted({kind.value for kind in SchedulerType} - {"reduce_lr_on_plateau", "greedy"})
MORE = {
    "cosine_with_min_lr": {"min_lr": 0.01},
    "cosine_warmup_with_min_lr": {"min_lr": 0.01},
    "warmup_stable_decay": {"num_decay_steps": 5},
}
RATES = (0.5, 0.125)
WARMUP = 0.2


class PlainTrainer:
    """What the mixin stands before: makes a schedule as transformers' Trainer does."""

    def __init__(self, kind):
        groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in RATES]
        self.optimizer, self.lr_scheduler, self.kind = torch.optim.SGD(groups, lr=1.0), None, kind

    def create_scheduler(self, num_training_steps, optimizer=None):
        if self.lr_scheduler is None:
            warmup = round(WARMUP * num_training_steps)
            more = {"num_warmup_steps": warmup, "scheduler_specific_kwargs": MORE.get(self.kind)}
            self.lr_scheduler = get_scheduler(self.kind, self.optimizer, num_training_steps=num_training_steps, **more)
        return self.lr_scheduler


class ChainTrainer(ScheduleOfChainMixin, PlainTrainer):
    pass


def rates(trainer, steps, planned=None):
    """The rates of all groups at each step."""
    scheduler, found = trainer.create_scheduler(planned or steps), []
    assert trainer.create_scheduler(planned or steps) is scheduler, "asked again, it is the same"
    for _ in range(steps):
        found.append([group["lr"] for group in trainer.optimizer.param_groups])
        trainer.optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("links", [1, 2, 5])
@pytest.mark.parametrize("kind", BY_STEP)
def test_the_pieces_of_a_chain_are_one_schedule(kind, links):
    steps = 4
    whole = rates(PlainTrainer(kind), links * steps)
    pieces = [rate for place in range(links) for rate in rates(ChainTrainer(link=(place, links), kind=kind), steps)]
    assert pieces == whole
    assert rates(ChainTrainer(link=None, kind=kind), steps) == rates(PlainTrainer(kind), steps)


#: Keys of the runs whose trainings share one schedule, and how many rounds those have.
SHARED = {
    "chain": ({"fcit_round_order": "relay", "fcit_schedule_over": "chain"}, 1),
    "stage": ({"fcit_round_order": "relay", "fcit_schedule_over": "stage"}, 2),
    "stage_in_parallel": ({"fcit_schedule_over": "stage"}, 2),
}


@pytest.fixture(scope="module", params=SHARED)
def run(request, text_model, text_data, tmp_path_factory):
    """Two clients of one subspace, several steps each."""
    keys, rounds = SHARED[request.param]
    return request.param, run_recipe(
        tiny.recipe(
            text_model,
            text_data,
            tmp_path_factory.mktemp("relay") / "out",
            **keys,
            fcit_stages=[["color"]],
            fcit_num_rounds=rounds,
            fcit_num_clients=2,
            fcit_method="sequential",
            fcit_keep_client_updates=True,
            fcit_eval_every="never",
            fcit_partition="iid",
            per_device_train_batch_size=2,
            seed=1,
        )
    )


def test_a_run_ends_with_what_the_last_client_has_returned(run):
    kind, run = run
    last_round = SHARED[kind][1] - 1
    last = max(range(2), key=lambda client: turn(1, 0, last_round, client))
    returned = load_file(run / "updates" / f"stage0_round{last_round}_client{last}" / "fcit_update.safetensors")
    weights = load_file(run / "subspaces" / "0" / "adapter_model.safetensors")
    sent = [value for key, value in returned.items() if key.startswith("arrays/")]
    found = [sorted(value.numpy().tobytes() for value in values) for values in (sent, weights.values())]
    assert (found[0] == found[1]) == (kind != "stage_in_parallel"), "in parallel it ends with a mean"


def test_one_schedule_goes_through_all_pieces_and_everybody_takes_the_steps_that_were_planned(run):
    kind, run = run
    lines = [json.loads(line) for line in (run / "trainer_log.jsonl").read_text().splitlines()]
    assert lines[-1]["current_steps"] == lines[-1]["total_steps"] == len(lines)
    rounds = SHARED[kind][1]
    trainings = {
        (r, c): [line["lr"] for line in lines if (line["round"], line["client"]) == (r, c)]
        for r in range(rounds)
        for c in range(2)
    }
    for r in range(rounds):
        order = sorted(range(2), key=lambda client: turn(1, 0, r, client))
        for place, client in enumerate(order):
            piece, pieces = (r, rounds) if kind == "stage_in_parallel" else (r * 2 + place, rounds * 2)
            count = len(trainings[r, client])
            done = [(piece + step / count) / pieces for step in range(count)]
            # cosine without a warm-up, of the whole stage or chain
            assert trainings[r, client] == pytest.approx([0.01 * (1 + math.cos(math.pi * share)) / 2 for share in done])
    if kind != "stage_in_parallel":
        whole = [line["lr"] for line in lines]
        assert whole == sorted(whole, reverse=True), "it never goes up again"


@pytest.mark.parametrize("kind", sorted({kind.value for kind in SchedulerType}))
@pytest.mark.parametrize("keys", [{}, *(keys for keys, _ in SHARED.values())], ids=["alone", *SHARED])
def test_of_every_kind_of_schedule_clients_take_pieces_or_it_is_refused_by_name(text_recipe, kind, keys):
    """The pieces of ``BY_STEP`` are compared above."""
    recipe = text_recipe(lr_scheduler_type=kind, fcit_dry_run=True, **keys)
    if kind in BY_STEP:
        get_train_args(recipe)
        return
    for asks in ({}, {"eval_strategy": "epoch"}):  # which is what transformers would have one add
        with pytest.raises(ValueError, match=f"^`lr_scheduler_type: {kind}` cannot be used with the fcit stages: [^\n]*$"):
            get_train_args(recipe | asks)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("keys", [keys for keys, _ in SHARED.values()], ids=SHARED)
def test_a_schedule_of_deepspeeds_own_has_no_pieces(text_recipe, own, keys):
    config = {"zero_optimization": {"stage": 2}, "train_micro_batch_size_per_gpu": "auto"}
    config |= {"scheduler": {"type": "WarmupLR", "params": {}}} if own else {}
    recipe = text_recipe(deepspeed=config, fcit_dry_run=True, **keys)
    if not own:
        get_train_args(recipe)
        return
    with pytest.raises(ValueError, match=f"`deepspeed` cannot be used with `fcit_schedule_over: {keys['fcit_schedule_over']}`"):
        get_train_args(recipe)
