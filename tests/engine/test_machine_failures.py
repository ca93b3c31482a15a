"""The machine's failure ends a run, whose replies are kept; trainings that cannot take a step are known before."""

import contextlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest
import tiny
import torch
from forked import command
from runs import differences, fresh_process, outcome, report_of, run_recipe
from safetensors.torch import load_file
from scalar import Scalar
from strangers import method, write_package
from transformers import Trainer, TrainingArguments

from fcit_plugin.engine.idle import why_idle
from fcit_plugin.engine.trainer_mixins import ScheduleOfChainMixin
from fcit_plugin.errors import FcitError, OutOfMemory
from fcit_plugin.federation.folders import FAILURE
from fcit_plugin.scenario.sampling import sample_clients

OOM = "CUDA out of memory. Tried to allocate 2.00 GiB."


@contextlib.contextmanager
def failing_step(number, error):
    """Within the block the n-th training step of this process fails."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        fail_step(monkeypatch, number, error)
        yield


def fail_step(monkeypatch, number, error):
    """Lets the n-th training step of this process fail."""
    left, step = [number], Trainer.training_step

    def training_step(self, *args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            raise error
        return step(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", training_step)


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (torch.OutOfMemoryError(OOM), OutOfMemory),
        pytest.param(RuntimeError("CUDA error: device-side assert triggered"), RuntimeError, marks=pytest.mark.thorough),
    ],
)
def test_a_run_that_fails_once_and_is_started_again_ends_in_the_bits_of_one_that_never_failed(
    text_keys, text_run, tmp_path, error, ends, logged
):
    keys = text_keys | {"output_dir": str(tmp_path / "out")}
    with failing_step(11, error), pytest.raises(ends) as caught:
        run_recipe(keys)
    assert "is left out" not in logged.text
    assert "goes on from the last reply that it has kept" in caught.value.__notes__[-1]
    kept = list((tmp_path / "out").glob("checkpoints/*/client-*")) + list((tmp_path / "out").rglob("kept.json"))
    assert kept, "replies of the round that failed"
    assert not (tmp_path / "out" / "fcit_report.json").exists()
    found, expected = outcome(run_recipe(keys)), outcome(text_run)
    of_tensorboard = [name for name in differences(found, expected) if " at step " in name]
    assert [name for name in differences(found, expected) if name not in of_tensorboard] == []


def test_a_run_without_memory_ends_in_one_sentence_and_goes_on_with_half_the_batch(text_recipe, tmp_path, monkeypatch, logged):
    keys = text_recipe(fcit_eval_every="never", fcit_stages=[["color"]], fcit_num_rounds=2)
    whole = run_recipe(keys | {"output_dir": str(tmp_path / "whole")})
    recipe = tiny.write_recipe(tmp_path / "r.yaml", keys)
    ended = command(["train", str(recipe)], tmp_path, setup=lambda: fail_step(monkeypatch, 5, torch.OutOfMemoryError(OOM)))
    assert ended.code == 1 and "Traceback" not in ended.stderr and "left out" not in ended.stdout + ended.stderr
    (sentence,) = ended.sentences
    assert sentence.startswith("Memory is too small for the training of client ") and "CUDA out of memory" in sentence
    assert "Halve `per_device_train_batch_size`" in sentence and sentence.endswith("from the last reply that it has kept.")

    assert keys["per_device_train_batch_size"] == 4
    half = keys | {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    out = run_recipe(half)
    assert (
        "`gradient_accumulation_steps` was 1 and is 2; `per_device_train_batch_size` was 4 and is 2: a step takes as"
        in logged.text
    )
    assert report_of(out)["assignments"] == report_of(whole)["assignments"]
    one, other = (load_file(folder / "subspaces/0/adapter_model.safetensors") for folder in (whole, out))
    assert max((one[key] - other[key]).abs().max().item() for key in one) < 1e-5
    with pytest.raises(FcitError, match=r"`per_device_train_batch_size` was 4 and is 2\. Take"):
        run_recipe(keys | {"output_dir": str(whole), "per_device_train_batch_size": 2})


def test_an_evaluation_without_memory_says_what_to_lower(text_recipe, monkeypatch):
    from fcit_plugin.engine.evaluator import Evaluator

    def generate(*_, **how):
        if how:  # the rehearsal asks for two tokens
            return [[]]
        raise torch.OutOfMemoryError(OOM)

    monkeypatch.setattr(Evaluator, "_generate_batch", generate)
    with pytest.raises(OutOfMemory, match=r"Memory is too small for the evaluation: .* Lower `per_device_eval_batch_size`"):
        run_recipe(text_recipe())


ONE_RANK = """
import os
import torch
from fcit_plugin.continual.method import ContinualMethod
from fcit_plugin.continual.terms import GradientTerm

class Term(GradientTerm):
    steps = 0

    def add(self, weights):
        Term.steps += 1
        if Term.steps == 4 and os.environ["RANK"] == os.environ.get("FAILS"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

class Stranger(ContinualMethod):
    def terms(self, sent):
        return [Term()]
"""


@pytest.fixture
def two(text_recipe, tmp_path):
    """Runs a recipe in two processes, of which one may run out of memory in its fourth step."""
    write_package(tmp_path / "site", "somebody", method(), modules={"code": ONE_RANK})

    def run(name, fails=None):
        keys = text_recipe(name, fcit_method="Stranger", fcit_eval_every="never", fcit_stages=[["color"]], ddp_backend="gloo")
        keys |= {"per_device_train_batch_size": 2, "fcit_engine": "process"}
        recipe = tiny.write_recipe(tmp_path / "r.yaml", keys)
        env = {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "2", "FAILS": str(fails)}
        env["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
        shown = fresh_process(["llamafactory-cli", "train", str(recipe)], env, timeout=400, code=0 if fails is None else 1)
        return Path(keys["output_dir"]), shown.stdout

    return run


def test_one_of_two_processes_without_memory_ends_both_soon_and_says_why(two):
    start = time.monotonic()
    out, shown = two("out", fails=1)
    assert time.monotonic() - start < 180, "not the ten minutes that a client's failure waits"
    assert "fcit-plugin: Memory is too small for the training of client " in shown
    assert "rank      : 1" in shown.partition("Root Cause")[2], "torchrun names the process"
    assert "is left out" not in shown
    assert list(out.rglob("kept.json")) and not (out / "fcit_report.json").exists()


@pytest.mark.slow
def test_started_again_two_processes_end_in_the_bits_of_a_run_that_never_failed(two):
    whole, _ = two("whole")
    two("out", fails=0)
    out, _ = two("out")
    assert differences(outcome(out), outcome(whole)) == []


class Site:
    """A federation by folders of which a site fails."""

    def __init__(self, keys, root):
        self.keys, self.root = {key: value for key, value in keys.items() if key not in ("stage", "output_dir")}, root
        self.state = self.stage("fcit_aggregate", "state")

    def stage(self, stage, name, **changes):
        return run_recipe({**self.keys, "stage": stage, "output_dir": str(self.root / name), **changes})

    def update(self, client):
        return self.stage("fcit_client", f"client{client}", fcit_state_dir=str(self.state), fcit_client=client)

    def fold(self, *updates):
        dirs = ",".join(map(str, updates))
        return self.stage("fcit_aggregate", "next", fcit_state_dir=str(self.state), fcit_update_dirs=dirs)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError(OOM), "Memory is too small for the training of client"),
        pytest.param(ImportError("no x"), "ImportError: no x", marks=pytest.mark.thorough),
        pytest.param(FcitError("its records name no speaker"), "its records name no speaker", marks=pytest.mark.thorough),
    ],
)
def test_a_site_that_fails_is_a_missing_reply_with_its_reason(text_recipe, tmp_path, logged, error, reason):
    site = Site(text_recipe(fcit_eval_every="never", fcit_stages=[["color"]]), tmp_path)
    first, second = sample_clients(3, 2, seed=42, stage=0, round=0)
    good = site.update(first)
    with failing_step(1, error), pytest.raises((FcitError, ImportError)):
        site.update(second)
    bad = tmp_path / f"client{second}"
    assert [path.name for path in bad.iterdir()] == [FAILURE]
    assert json.loads((bad / FAILURE).read_text())["config"]["client"] == second
    site.fold(bad, good)
    (line,) = [line for line in logged.messages if "An update is left out" in line]
    assert str(bad) in line and reason in line
    shutil.rmtree(tmp_path / "next")
    assert site.update(second) == bad and FAILURE not in [path.name for path in bad.iterdir()], "it may try again"
    logged.clear()
    site.fold(bad, good)
    assert "left out" not in logged.text


def test_a_client_whose_records_make_no_batch_is_known_before_and_left_out_with_that_reason(text_recipe, logged):
    keys = text_recipe(
        fcit_eval_every="never", fcit_stages=[["color"]], fcit_clients_per_round=3, fcit_num_rounds=1,
        fcit_beta=0.5, dataloader_drop_last=True, per_device_train_batch_size=8,
    )  # fmt: skip
    run_recipe(keys | {"output_dir": f"{keys['output_dir']}_plan", "fcit_dry_run": True})
    plan = json.loads((Path(f"{keys['output_dir']}_plan") / "fcit_dry_run.json").read_text())
    small = {work["client"]: work["records"] for work in plan["work"][""] if work["records"] < 8}
    assert 0 < len(small) < 3
    note = f"{len(small)} of 3 local trainings cannot take a step"
    assert [note in text for text in plan["notes"]].count(True) == 1
    assert {work["client"] for work in plan["work"][""] if work["idle"]} == small.keys()
    out = run_recipe(keys)
    assert logged.text.index(note) < logged.text.index("is left out")
    assert {row["client"]: row["reason"] for row in report_of(out)["dropped"]} == {
        client: f"it has {records} records, which are no batch of 8 with `dataloader_drop_last`"
        for client, records in small.items()
    }
    assert {row["client"] for row in report_of(out)["assignments"]} == {0, 1, 2} - small.keys()


def test_a_client_whose_only_step_has_a_rate_of_0_is_known_before_and_counted(text_recipe, logged, capsys):
    keys = text_recipe(
        fcit_eval_every="never", fcit_stages=[["color"]], warmup_ratio=0.1, per_device_train_batch_size=8, fcit_beta=0.5
    )
    out = run_recipe(keys)
    report, log = report_of(out), (out / "trainer_log.jsonl").read_text().splitlines()
    steps = [(line["stage"], line["round"], line["client"]) for line in map(json.loads, log)]
    alone = sorted(place for place in set(steps) if steps.count(place) == 1)
    assert 0 < len(alone) < len(report["assignments"])
    assert sorted((row["stage"], row["round"], row["client"]) for row in report["idle"]) == alone
    said = f"{len(alone)} of {len(report['assignments'])} local trainings"
    assert f"{said} cannot take a step and learn nothing: one of them is 1 step long, under a warm-up" in logged.text
    assert f"{said} could not take a step: see idle in fcit_report.json." in capsys.readouterr().out


SCHEDULES = {
    **{name: {} for name in ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup")},
    "inverse_sqrt": {},
    "cosine_with_min_lr": {"min_lr_rate": 0.1},
    "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1},
}


WARMUPS = [(1, 0.1), (1, 0), (2, 0.1), (3, 5), (3, 0)]  # records, warm-up


@pytest.mark.parametrize(
    ("schedule", "records", "warmup"),
    [
        pytest.param(schedule, *case, marks=[] if schedule == "linear" or case == (1, 0.1) else pytest.mark.thorough)
        for schedule in SCHEDULES
        for case in WARMUPS
    ],
)
def test_a_training_is_idle_where_the_trainer_moves_nothing(schedule, records, warmup, tmp_path):
    """``records`` are as many steps."""
    if schedule == "polynomial" and warmup > 0 and records == 1:
        pytest.skip("transformers divides by 0 there")
    args = TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=1, learning_rate=0.5, lr_scheduler_type=schedule,
        lr_scheduler_kwargs=SCHEDULES[schedule], warmup_steps=warmup, use_cpu=True, disable_tqdm=True, report_to=[],
        save_strategy="no", num_train_epochs=1,
    )  # fmt: skip

    model = Scalar()
    Trainer(model, args, train_dataset=[{"x": torch.ones(1)}] * records).train()
    assert (why_idle(args, records, records, 1) is not None) == (model.weight.item() == 0)


class Link(ScheduleOfChainMixin, Trainer):
    pass


@pytest.mark.parametrize("links", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0, 1, 4])
def test_a_piece_of_a_schedule_is_idle_where_the_trainer_moves_nothing_in_it(links, warmup, tmp_path):
    moved = []
    for place in range(links):
        args = TrainingArguments(
            output_dir=str(tmp_path), per_device_train_batch_size=1, learning_rate=0.5, warmup_steps=warmup, use_cpu=True,
            disable_tqdm=True, report_to=[], save_strategy="no", num_train_epochs=1,
        )  # fmt: skip
        model = Scalar()
        Link(link=(place, links), model=model, args=args, train_dataset=[{"x": torch.ones(1)}]).train()
        moved.append(model.weight.item() != 0)
        assert (why_idle(args, 1, 1, 1, ((place, links),)) is None) == moved[-1]
    every = tuple((place, links) for place in range(links))
    assert (why_idle(args, 1, 1, 1, every) is None) == any(moved), "of a place that is not known nothing false is said"
    assert why_idle(args, 1, 1, 1, every, known=False) is None


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, {0, 1}),
        ({"fcit_schedule_over": "stage"}, {0}),
        ({"fcit_schedule_over": "stage", "fcit_round_order": "relay"}, set()),
        ({"fcit_schedule_over": "chain", "fcit_round_order": "relay"}, set()),
    ],
)
def test_the_dry_run_calls_idle_who_is_so_wherever_in_a_chain(text_recipe, keys, expected):
    """One step each, of which the first of a schedule is at a rate of 0: the first round's, or the first of a chain."""
    recipe = text_recipe(max_steps=1, warmup_steps=1, fcit_dry_run=True, fcit_stages=[["color"]], **keys)
    work = json.loads((run_recipe(recipe) / "fcit_dry_run.json").read_text())["work"][""]
    assert {each["round"] for each in work if each["idle"] is not None} == expected
    assert all("all at a learning rate of 0" in each["idle"] for each in work if each["idle"] and keys)


@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [("cosine_with_restarts", {"num_cycle": 2}), ("cosine_with_min_lr", {}), ("polynomial", {"lr_end": 1.0})],
)
def test_a_schedule_that_cannot_be_made_is_refused_by_the_dry_run(text_recipe, kind, kwargs):
    recipe = text_recipe(lr_scheduler_type=kind, lr_scheduler_kwargs=kwargs, fcit_dry_run=True)
    with pytest.raises(
        FcitError, match=rf"`lr_scheduler_type: {kind}` cannot be made for \d+ steps with `lr_scheduler_kwargs`"
    ):
        run_recipe(recipe)
