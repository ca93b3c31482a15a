"""Continual methods in whole runs on a tiny model: what each promises, seen in what it leaves and in what travels."""

import json
import re
import shutil
from itertools import pairwise

import pytest
import tiny
import torch
from llamafactory.hparams import get_train_args
from runs import report_of, run_recipe, weight_bytes
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from fcit_plugin.adapters.lora import lora_parameters
from fcit_plugin.adapters.stacked import activated, frozen_beside
from fcit_plugin.continual.methods import METHODS
from fcit_plugin.engine.open_session import open_session
from fcit_plugin.engine.trainer_terms import SampleGradients
from fcit_plugin.federation.messages import ClientConfig
from fcit_plugin.federation.scaffold import GRADIENT

STAGES = [["color"], ["letter"], ["number"]]
MORE = {"moe_lora": {"fcit_num_experts": 2}}
PLAIN = {"optim": "sgd", "lr_scheduler_type": "constant", "lora_dropout": 0.0, "max_grad_norm": 0.0}


@pytest.fixture(scope="module")
def outputs(text_model, text_data, tmp_path_factory):
    """A short run of each method, made when it is first asked for."""
    made = {}

    def run(method, **changes):
        name = "-".join([method, *map(str, changes.values())])
        if name not in made:
            keys = tiny.recipe(
                text_model,
                text_data,
                tmp_path_factory.mktemp(name) / "out",
                fcit_method=method,
                fcit_stages=STAGES,
                fcit_eval_restricted=False,
                fcit_zero_shot=False,
                save_total_limit=0,
                **changes,
            )
            made[name] = run_recipe(keys)
        return made[name]

    return run


def subspace(folder, k=0):
    return load_file(folder / f"subspaces/{k}/adapter_model.safetensors")


def distance(one, other):
    return sum((one[key] - other[key]).double().square().sum().item() for key in one) ** 0.5


def test_ewc_moves_less_than_sequential_tuning_and_all_the_less_the_stronger_it_is(outputs):
    first = outputs("fedavg") / "checkpoints/round-0002"
    moved = [
        distance(subspace(output), subspace(first))
        for output in (outputs("fedavg"), outputs("ewc", fcit_ewc_lambda=1e3), outputs("ewc", fcit_ewc_lambda=1e6))
    ]
    assert moved[0] > moved[1] > moved[2] > 0
    before, after = report_of(outputs("fedavg")), report_of(outputs("ewc", fcit_ewc_lambda=1e3))
    assert subspace(outputs("ewc", fcit_ewc_lambda=1e3) / "checkpoints/round-0002").keys() == subspace(first).keys()
    assert after["bytes_up"] > before["bytes_up"], "the Fisher information travels"


def test_the_first_stage_is_that_of_sequential_tuning(outputs):
    expected = subspace(outputs("fedavg") / "checkpoints/round-0002")
    for method in ("ewc", "lwf", "o_lora", "c_lora", "replay", "a_gem", "ties_merging"):
        found = subspace(outputs(method) / "checkpoints/round-0002")
        assert all(torch.equal(found[key], value) for key, value in expected.items()), method
        last = len(STAGES) - 1 if method in ("o_lora", "c_lora") else 0
        assert distance(subspace(outputs(method), last), subspace(outputs("fedavg"))) > 0, method


@pytest.mark.parametrize("method", ["o_lora", "c_lora"])
def test_the_subspace_of_each_stage_is_frozen_and_all_of_them_act(method, outputs):
    output = outputs(method)
    for k in range(3):
        commit = output / f"checkpoints/round-{2 * k + 2:04d}"
        kept, now = subspace(commit, k), subspace(output, k)
        assert all(torch.equal(kept[key], value) for key, value in now.items())
        assert not (commit / f"subspaces/{k + 1}").exists()
    assert {row["subspace"] for row in report_of(output)["assignments"] if row["stage"] == 1} == {1}


def test_o_lora_is_orthogonal_to_the_earlier_stages_if_it_is_told_strongly_enough(outputs):
    def overlap(output):
        first, second = subspace(output, 0), subspace(output, 1)
        return sum((first[key] @ second[key].T).abs().sum().item() for key in first if ".lora_A." in key)

    assert overlap(outputs("o_lora", fcit_o_lora_lambda=50.0)) < 0.8 * overlap(outputs("o_lora", fcit_o_lora_lambda=1e-6))


def test_c_lora_changes_less_of_what_the_earlier_stage_has_changed_the_more_strongly_it_is_told(outputs):
    def overlap(output):
        one, other = (
            {key: state[key.replace("lora_A", "lora_B")] @ value for key, value in state.items() if ".lora_A." in key}
            for state in (subspace(output, 0), subspace(output, 1))
        )
        return sum((one[key] * other[key]).square().sum().item() for key in one)

    weak, strong = (overlap(outputs("c_lora", fcit_c_lora_lambda=strength)) for strength in (1e-6, 1e6))
    assert 0 < strong < 0.5 * weak


def test_frozen_subspaces_act_beside_the_one_in_training_and_keep_their_bits(text_recipe):
    session = open_session(*get_train_args(text_recipe(fcit_eval_every="never", lora_dropout=0.0)))
    model, fresh = session.model, [session.program.fresh(k) for k in range(3)]
    for k, state in enumerate(fresh):
        generator = torch.Generator().manual_seed(k)
        for key in state:
            state[key] = 0.1 * torch.randn(state[key].shape, generator=generator)
    ids = torch.tensor([[4, 5, 6, 7]])
    with torch.no_grad():
        for key, parameter in lora_parameters(model).items():
            parameter.copy_(fresh[0][key])
    with activated(model, fresh) as activation, torch.no_grad():
        activation.set(torch.ones(1, 3))
        expected = model(ids).logits
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    with frozen_beside(model, fresh[1:]):
        assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == trainable
        torch.testing.assert_close(model(ids).logits, expected, rtol=1e-5, atol=1e-5)
        model(ids).logits.sum().backward()
    model.zero_grad()
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == trainable
    assert list(model.peft_config) == ["default"]


@pytest.mark.parametrize("method", [name for name in sorted(METHODS) if not METHODS[name].load().makes_up_records()])
def test_every_method_trains_the_projector_in_every_stage(method, llava_recipe):
    keys = {"fcit_method": method, "freeze_multi_modal_projector": False, "fcit_num_rounds": 1, "save_total_limit": 0}
    output = run_recipe(llava_recipe(**keys, **MORE.get(method, {}), fcit_eval_every="never"))
    after = [load_file(path) for path in sorted(output.glob("checkpoints/round-*/shared.safetensors"))]
    assert len(after) > 1
    for earlier, later in pairwise(after):
        assert later and all(not torch.equal(later[key], value) for key, value in earlier.items())


@pytest.mark.parametrize(("method", "more"), [(name, MORE.get(name, {})) for name in sorted(METHODS)])
def test_a_run_that_was_killed_goes_on_to_the_same_bits(method, more, outputs, text_model, text_data, tmp_path):
    """Stopped where its second stage begins: a method's memory has been written and is read again."""
    whole = outputs(method, **more)
    half = tmp_path / "half"
    shutil.copytree(whole / "checkpoints/round-0003", half / "checkpoints/round-0003")
    keys = tiny.recipe(
        *(text_model, text_data, half),
        fcit_method=method,
        fcit_stages=STAGES,
        fcit_eval_restricted=False,
        fcit_zero_shot=False,
        save_total_limit=0,
        **more,
    )
    run_recipe(keys)
    ours = {name: data for name, data in weight_bytes(half).items() if not name.startswith("checkpoints")}
    theirs = {name: data for name, data in weight_bytes(whole).items() if not name.startswith("checkpoints")}
    assert ours == theirs
    assert report_of(half)["accuracy"] == report_of(whole)["accuracy"]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_dry_run_counts_the_bytes_and_steps_that_the_run_then_takes(method, outputs, text_model, text_data, tmp_path):
    more = MORE.get(method, {}) | ({"fcit_server_rule": "scaffold"} if method in ("disco", "ewc") else {})
    keys = {"fcit_method": method, "fcit_stages": STAGES, "fcit_dry_run": True, **more}
    keys["fcit_identity_encoder"] = "embedding"  # what `auto` becomes in the run, and a plan cannot know
    planned = run_recipe(tiny.recipe(text_model, text_data, tmp_path / "out", **keys))
    plan, output = json.loads((planned / "fcit_dry_run.json").read_text()), outputs(method, **more)
    report = report_of(output)
    assert plan["bytes_down"] == report["bytes_down"]
    told = report["bytes_up"] - plan["bytes_up"]
    if (
        METHODS[method].load().reports_kinds
    ):  # how many is not known without weights: the plan says so, and how many bytes at most
        most = next(
            int(found[1].replace(",", "")) for note in plan["notes"] if (found := re.search(r"up to ([\d,]+) more", note))
        )
        assert 0 < told <= most * len(report["assignments"])
    else:
        assert told == 0
    assert plan["steps"] == json.loads((output / "trainer_log.jsonl").read_text().splitlines()[-1])["total_steps"]


def test_scaffold_measures_the_mean_gradient_and_steps_against_it(text_recipe):
    """With plain gradient descent the mean gradient is (x - y) / (K eta), the paper's second option."""
    rate = 0.5
    keys = text_recipe(
        **(PLAIN | {"learning_rate": rate, "per_device_train_batch_size": 2}),
        fcit_eval_every="never",
        fcit_server_rule="scaffold",
    )
    session = open_session(*get_train_args(keys))
    session.training_args.max_steps = steps = 3
    local, start = session.local(), session.program.fresh(0)
    generator = torch.Generator().manual_seed(0)
    zero = {key: torch.zeros_like(value) for key, value in start.items()}
    shift = {key: 0.01 * torch.randn(value.shape, generator=generator) for key, value in start.items()}
    config = ClientConfig("run", 0, 0, 0, 0, wants=(GRADIENT,))
    plain, corrected = (local.train(config, start, {}, {"correction": given}) for given in (zero, shift))
    for trained, given in ((plain, zero), (corrected, shift)):
        for key, y in trained.subspace.items():
            mean = (start[key] - y) / (steps * rate) - given[key]
            torch.testing.assert_close(trained.extras[GRADIENT][key], mean, rtol=1e-3, atol=1e-6)
    assert distance(plain.subspace, corrected.subspace) > 1e-3


def test_sample_gradients_are_those_of_single_records(text_recipe):
    keys = text_recipe(fcit_eval_every="never", fcit_method="ewc", lora_dropout=0.3)
    session = open_session(*get_train_args(keys))
    local, start = session.local(), session.program.fresh(0)
    seen = []

    class Looks(SampleGradients):
        def sample_gradients(self, count, of=None):
            for _ in super().sample_gradients(count, of):
                seen.append({key: weight.grad.clone() for key, weight in self.weights.items()})
                yield

    import fcit_plugin.engine.client_training as module

    module.SampleGradients, original = Looks, module.SampleGradients
    try:
        config = ClientConfig("run", 0, 0, 1, 0, wants=("fisher",))
        trained = local.train(config, start, {}, {})
    finally:
        module.SampleGradients = original
    features = local.features(config)
    model = session.model.eval()
    parameters = lora_parameters(model)
    expected = []
    for feature in features:
        ids, labels = torch.tensor([feature["input_ids"]]), torch.tensor([feature["labels"]])
        loss = cross_entropy(model(ids).logits[0, :-1], labels[0, 1:])
        expected.append(dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True)))
    assert len(seen) == min(len(features), 64)
    for gradient in seen:
        assert any(all(torch.allclose(gradient[k], other[k], rtol=1e-3, atol=1e-6) for k in gradient) for other in expected)
    fisher = {key: sum(g[key] ** 2 for g in expected) / len(expected) for key in parameters}
    for key, value in trained.extras["fisher"].items():
        torch.testing.assert_close(value, fisher[key], rtol=1e-3, atol=1e-9)


def test_sample_gradients_of_a_number_made_of_the_outputs_see_the_answers_tokens_alone(text_recipe, monkeypatch):
    def energy(logits):
        return logits.square().sum(dim=-1).mean()

    def measure(method, model):
        seen.extend({k: w.grad.clone() for k, w in model.weights.items()} for _ in model.sample_gradients(5, of=energy))
        return {"fisher": {key: torch.zeros_like(weight) for key, weight in model.weights.items()}}

    monkeypatch.setattr("fcit_plugin.continual.ewc.method.Ewc.measure", measure)
    session = open_session(*get_train_args(text_recipe(fcit_eval_every="never", fcit_method="ewc", lora_dropout=0.3)))
    local, seen = session.local(), []
    config = ClientConfig("run", 0, 0, 1, 0, wants=("fisher",))
    local.train(config, session.program.fresh(0), {}, {})
    model, expected = session.model.eval(), []
    parameters = lora_parameters(model)
    for feature in local.features(config):
        length = sum(label != -100 for label in feature["labels"])
        answer = model(torch.tensor([feature["input_ids"]])).logits[0, -length - 1 : -1]
        expected.append(dict(zip(parameters, torch.autograd.grad(energy(answer), list(parameters.values())), strict=True)))
    assert len(seen) == 5 < len(expected)
    for gradient in seen:
        assert any(all(torch.allclose(gradient[k], other[k], rtol=1e-3, atol=1e-6) for k in gradient) for other in expected)


def test_replay_trains_on_more_records_as_the_stages_go_on(text_recipe):
    keys = text_recipe(fcit_eval_every="never", fcit_method="replay", fcit_replay_samples=2, fcit_stages=STAGES)
    session = open_session(*get_train_args(keys))
    local = session.local()
    for client in range(3):
        for stage in range(3):
            config = ClientConfig("run", stage, 0, client, stage)
            own, sampled = (
                len(local.records(client, stage)),
                [{client for r in range(2) for client in session.program.work(t, r)} for t in range(stage)],
            )
            remembered = 2 * sum(client in clients for clients in sampled)
            assert len(local.features(config)) == own + remembered


def test_a_step_of_a_gem_is_the_projected_one_and_the_records_that_were_kept_are_not_trained_on(text_recipe):
    """One step of plain gradient descent against gradients by autograd, record by record; at the sum's sign either way."""
    rate, projected = 0.5, []
    keys = text_recipe(
        **(PLAIN | {"learning_rate": rate, "per_device_train_batch_size": 100, "num_train_epochs": 1.0}),
        fcit_eval_every="never",
        fcit_method="a_gem",
        fcit_a_gem_samples=3,
        fcit_a_gem_batch_size=100,
        fcit_stages=STAGES,
    )
    session = open_session(*get_train_args(keys))
    local, generator = session.local(), torch.Generator().manual_seed(1)
    start = {
        key: value + 0.1 * torch.randn(value.shape, generator=generator) for key, value in session.program.fresh(0).items()
    }
    parameters = lora_parameters(session.model)

    def gradient(parts):
        losses = []
        for task, index in parts:
            feature = local.task(task).features[int(index)]
            ids, labels = torch.tensor([feature["input_ids"]]), torch.tensor(feature["labels"])[1:]
            told = labels != -100
            losses.append(cross_entropy(session.model(ids).logits[0, :-1][told], labels[told], reduction="none"))
        return dict(zip(parameters, torch.autograd.grad(torch.cat(losses).mean(), [*parameters.values()]), strict=True))

    for client, stage in [(client, stage) for client in range(3) for stage in (1, 2)]:
        config = ClientConfig("run", stage, 0, client, stage)
        trained = local.train(config, start, {}, {})
        session.model.eval()
        with torch.no_grad():
            for key, parameter in parameters.items():
                parameter.copy_(start[key])
        own = gradient([(stage, index) for index in local.records(client, stage)])
        kept = [(task, index) for task, rows in local.reads(config).items() if task != stage for index in rows]
        if kept:
            reference = gradient(kept)
            along, square = (sum((reference[k] * other[k]).sum() for k in own) for other in (own, reference))
            projected.append(bool(along < 0))
            own = {k: g - min(along, torch.tensor(0.0)) / square * reference[k] for k, g in own.items()}
        for key, value in trained.subspace.items():
            torch.testing.assert_close((start[key] - value) / rate, own[key], rtol=1e-3, atol=1e-6)
    assert set(projected) == {True, False}, "both sides of the condition were tried"


def test_experts_answer_from_the_output_folder_as_in_the_run_and_cannot_be_merged(outputs, text_model, tmp_path):
    from llamafactory.hparams import get_infer_args
    from llamafactory.model import load_model, load_tokenizer
    from runs import infer_args

    output = outputs("moe_lora", **MORE["moe_lora"])
    keys = infer_args({"model_name_or_path": str(text_model), "template": "vicuna", "default_system": ""}, output)
    model_args, _, finetuning_args, _ = get_infer_args(keys)
    served = load_model(load_tokenizer(model_args)["tokenizer"], model_args, finetuning_args).eval()
    ids = torch.tensor([[4, 5, 6, 7]])
    state = subspace(output)
    names = {name: p for name, p in served.named_parameters() if "fcit_stacked" in name}
    assert {name.replace(".fcit_stacked.", ".") for name in names} == set(state)
    assert sum(".router." in name for name in names) == len(names) // 3
    for name, p in names.items():
        assert torch.equal(p, state[name.replace(".fcit_stacked.", ".")])
    with torch.no_grad():
        routed = served(ids).logits
        served.disable_adapter_layers()
        assert not torch.allclose(routed, served(ids).logits)
    merging = get_infer_args(keys | {"export_dir": str(tmp_path)})
    with pytest.raises(ValueError, match=r"`fcit_method: moe_lora`, whose experts .* cannot be merged"):
        load_model(load_tokenizer(merging[0])["tokenizer"], merging[0], merging[2])
