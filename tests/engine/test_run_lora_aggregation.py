"""LoRA aggregation on a model: what clients train, whole runs, going on from a commit, bytes."""

import dataclasses
import json
import shutil

import pytest
import torch
from llamafactory.hparams import get_train_args
from llamafactory.train.tuner import export_model
from peft import PeftModel
from runs import ROOT, differences, infer_args, outcome, report_of, run_recipe
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, Trainer

from fcit_plugin.adapters.base_change import change_of, changed_layers
from fcit_plugin.adapters.lora import factor_of, layers_of, lora_parameters, select_factors
from fcit_plugin.adapters.lora_aggregations import LORA_AGGREGATIONS
from fcit_plugin.engine.evaluator import Evaluator
from fcit_plugin.engine.open_session import open_session
from fcit_plugin.errors import FcitError
from fcit_plugin.evaluation.report import Report, table
from fcit_plugin.federation.messages import BASE, ClientConfig
from fcit_plugin.recipe.combinations import check_combination
from fcit_plugin.serving.export_adapters import export_adapters
from fcit_plugin.serving.join import join_folders
from fcit_plugin.serving.trained import TrainedRun
from fcit_plugin.state.checkpoints import Checkpoints
from fcit_plugin.state.folder import StateFolder

ZERO3 = str(ROOT / "recipes" / "deepspeed" / "ds_z3_config.json")
CONFIG = ClientConfig("run", 0, 0, 0, 0)


@pytest.fixture
def session(text_recipe):
    keys = text_recipe(
        fcit_eval_every="never",
        optim="sgd",
        learning_rate=0.5,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        lora_dropout=0.0,
        max_steps=1,
    )
    return open_session(*get_train_args(keys))


@pytest.mark.parametrize("factors", ["A", "B"])
def test_a_client_trains_the_factors_it_is_told_and_returns_these(session, factors):
    """One step of gradient descent moves a factor the same way whether the other one moves or not."""
    local, fresh = session.local(), session.program.fresh(0)
    generator = torch.Generator().manual_seed(1)
    start = {k: v if factor_of(k) == "A" else 0.1 * torch.randn(v.shape, generator=generator) for k, v in fresh.items()}
    both, _, loss, _ = local.train(CONFIG, start, {}, {})
    alone, _, same_loss, _ = local.train(dataclasses.replace(CONFIG, trains=factors), start, {}, {})
    assert loss == same_loss
    assert alone.keys() == select_factors(start, factors).keys() and both.keys() == start.keys()
    assert all(torch.equal(alone[key], both[key]) and not torch.equal(alone[key], start[key]) for key in alone)
    parameters = lora_parameters(session.model)
    assert all(torch.equal(parameters[key], start[key]) for key in start.keys() - alone.keys())
    assert all(parameter.requires_grad for parameter in parameters.values())


def test_the_optimizer_holds_what_is_trained_alone(session, monkeypatch):
    held = []
    step = torch.optim.SGD.step

    def spy(optimizer, *args, **kwargs):
        held.append(sum(len(group["params"]) for group in optimizer.param_groups))
        return step(optimizer, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    local, start = session.local(), session.program.fresh(0)
    for factors in ("AB", "B"):
        local.train(dataclasses.replace(CONFIG, trains=factors), start, {}, {})
    assert held == [len(start), len(start) // 2]


def errors_of(report):
    return [row["error"] for row in report["product_errors"]]


@pytest.fixture(scope="module")
def runs(text_keys, tmp_path_factory):
    """Finished runs of one subspace and three rounds, all commits kept, by aggregation."""
    folder, done = tmp_path_factory.mktemp("aggregations"), {}

    def run(name):
        if name not in done:
            keys = text_keys | {
                "fcit_lora_aggregation": name,
                "fcit_method": "sequential",
                "fcit_stages": [["color"]],
                "fcit_num_rounds": 3,
                "fcit_eval_samples": 2,
                "fcit_keep_client_updates": False,
                "save_total_limit": 0,
                "output_dir": str(folder / name),
            }
            done[name] = keys, run_recipe(keys)
        return done[name]

    return run


def subspaces_of(output_dir):
    """The one subspace after each round."""
    commits = Checkpoints(output_dir).commits()[1:]
    return [load_file(commit / "subspaces" / "0" / "adapter_model.safetensors") for commit in commits]


def test_factors_have_an_error_and_the_report_tells_it(runs):
    _, output_dir = runs("factors")
    report = report_of(output_dir)
    assert "Relative error of the averaged products: mean 0." in table(Report.read(output_dir))
    assert [(row["stage"], row["round"], row["subspace"]) for row in report["product_errors"]] == [(0, r, 0) for r in range(3)]
    assert all(0.001 < error < 2 for error in errors_of(report))


def test_ffa_is_exact_and_a_stays_as_it_was_drawn(runs):
    _, output_dir = runs("ffa")
    assert max(errors_of(report_of(output_dir))) < 1e-6
    first, *others = subspaces_of(output_dir)
    for other in others:
        for key, value in first.items():
            assert torch.equal(value, other[key]) == (factor_of(key) == "A")


def test_rotate_is_exact_and_each_round_moves_one_factor(runs):
    _, output_dir = runs("rotate")
    assert max(errors_of(report_of(output_dir))) < 1e-6
    first, second, third = subspaces_of(output_dir)
    for key in first:
        assert torch.equal(first[key], second[key]) == (factor_of(key) == "B")
        assert torch.equal(second[key], third[key]) == (factor_of(key) == "A")


def test_svd_keeps_a_as_long_as_the_clients_and_errs_little(runs):
    _, output_dir = runs("svd")
    errors = errors_of(report_of(output_dir))
    assert all(0 < error < 1 for error in errors)
    for state in subspaces_of(output_dir):
        for key, value in select_factors(state, "A").items():
            assert 0.1 < value.norm(dim=1).mean() < 3, key


@pytest.mark.parametrize("name", ["rotate", "refactor", "svd", "exact"])
def test_a_run_goes_on_from_every_commit_to_the_same_bits(runs, name, tmp_path):
    keys, whole = runs(name)
    for number in (1, 2):
        output_dir = tmp_path / str(number)
        for commit in Checkpoints(whole).commits()[: number + 1]:
            shutil.copytree(commit, output_dir / "checkpoints" / commit.name)
        shutil.copytree(whole / "predictions", output_dir / "predictions")
        run_recipe(keys | {"output_dir": str(output_dir), "report_to": "none"})
        found, expected = outcome(output_dir), outcome(whole)
        differing = [name for name in differences(found, expected) if " at step " not in name]
        assert differing == []


@pytest.mark.parametrize("name", ["ffa", "rotate", "refactor", "svd", "exact", "stack"])
def test_the_bytes_of_the_plan_are_those_of_the_run(runs, name, tmp_path):
    keys, output_dir = runs(name)
    plan = run_recipe(keys | {"fcit_dry_run": True, "output_dir": str(tmp_path / "plan"), "report_to": "none"})
    plan, report = json.loads((plan / "fcit_dry_run.json").read_text()), report_of(output_dir)
    assert plan["bytes_down"] == report["bytes_down"]
    if name == "rotate":
        assert plan["bytes_up"] > report["bytes_up"]
        assert any("in turn" in note for note in plan["notes"])
    else:
        assert plan["bytes_up"] == report["bytes_up"]


def test_ffa_halves_what_clients_send(runs):
    by_factors, by_ffa = (report_of(runs(name)[1]) for name in ("factors", "ffa"))
    assert by_ffa["bytes_down"] == by_factors["bytes_down"]
    fresh = subspaces_of(runs("ffa")[1])[0]
    a = sum(128 + 4 * value.numel() for value in select_factors(fresh, "A").values())
    assert by_factors["bytes_up"] - by_ffa["bytes_up"] == 2 * 3 * a


@pytest.mark.parametrize("name", ["exact", "stack"])
def test_what_the_factors_lack_is_in_the_base_weights(runs, name):
    _, output_dir = runs(name)
    assert max(errors_of(report_of(output_dir))) < 1e-6
    before, *commits = Checkpoints(output_dir).commits()
    states = [StateFolder(commit).load() for commit in commits]
    assert StateFolder(before).load().base == {}
    grown = [sum(change_of(state.base, layer).norm() for layer in changed_layers(state.base)) for state in states]
    assert grown[0] > 0 and len({len(list(changed_layers(state.base))) for state in states}) == 1
    assert all(value.any() == (name == "exact") for key, value in states[-1].subspaces[0].items() if factor_of(key) == "B")


def by_hand(text_model, output_dir, base_alone=False):
    """The tiny Llama with W + s (C + B A), written out; W + s C alone, if asked."""
    model = AutoModelForCausalLM.from_pretrained(text_model, dtype=torch.float32).eval()
    state, config = StateFolder(output_dir).load(), json.loads((output_dir / "subspaces/0/adapter_config.json").read_text())
    scale, subspace = config["lora_alpha"] / config["r"], state.subspaces[0]
    for layer in changed_layers(state.base):
        key = f"base_model.model.{layer}.lora_{{}}.weight"
        change = change_of(state.base, layer)
        if not base_alone:
            change = change + subspace[key.format("B")] @ subspace[key.format("A")]
        with torch.no_grad():
            model.get_submodule(layer).weight += scale * change
    return model


@pytest.mark.parametrize("name", ["exact", "stack"])
def test_chat_and_export_have_the_changed_base_weights(runs, name, text_model, tmp_path):
    keys, output_dir = runs(name)
    ids = torch.tensor([[1, 7, 9, 11, 13]])
    with torch.no_grad():
        expected = by_hand(text_model, output_dir)(ids).logits
        untuned = AutoModelForCausalLM.from_pretrained(text_model, dtype=torch.float32)(ids).logits
        trained = TrainedRun.read(output_dir)
        served = AutoModelForCausalLM.from_pretrained(text_model, dtype=torch.float32)
        trained.put_shared(served)
        served, activation = trained.stacked(served)
        activation.set(torch.ones(1, 1))
        torch.testing.assert_close(served.eval()(ids).logits, expected, rtol=1e-4, atol=1e-5)
        export_model(infer_args(keys, output_dir, export_dir=str(tmp_path / "merged"), infer_dtype="float32"))
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
        torch.testing.assert_close(merged(ids).logits, expected, rtol=1e-4, atol=1e-5)
    assert (expected - untuned).abs().max() > 0.01


@pytest.mark.parametrize("aggregation", LORA_AGGREGATIONS)
def test_whoever_goes_on_from_changed_base_weights_trains_and_answers_with_them(
    runs, aggregation, text_model, tmp_path, monkeypatch
):
    keys, earlier = runs("stack")
    layer = next(name for name in layers_of(TrainedRun.read(earlier).state.subspaces[0]))
    changed = by_hand(text_model, earlier, base_alone=True).get_submodule(layer).weight
    seen = {}

    def spy(kind, name):
        original = getattr(kind, name)

        def see(self, *args, **kwargs):
            seen.setdefault(name, []).append(self.model.base_model.model.get_submodule(layer).base_layer.weight.clone())
            return original(self, *args, **kwargs)

        monkeypatch.setattr(kind, name, see)

    spy(Trainer, "training_step")
    spy(Evaluator, "_generate_batch")
    more = {"fcit_stages": [["number"]], "adapter_name_or_path": str(earlier), "fcit_lora_aggregation": aggregation}
    more |= {"fcit_num_rounds": 1, "fcit_zero_shot": False, "output_dir": str(tmp_path / "on")}
    dry = run_recipe({**keys, **more, "fcit_dry_run": True, "output_dir": str(tmp_path / "dry")})
    on = run_recipe({**keys, **more})
    assert torch.allclose(seen["training_step"][0], changed, atol=1e-6)
    found = by_hand(text_model, on, base_alone=True).get_submodule(layer).weight
    assert torch.allclose(seen["_generate_batch"][-1], found, atol=1e-6)
    assert torch.equal(found, changed) == (aggregation not in ("exact", "stack"))
    if aggregation not in ("exact", "stack"):
        planned = json.loads((dry / "fcit_dry_run.json").read_text())["bytes_down"]
        assert planned == report_of(on)["bytes_down"] - report_of(earlier)["bytes_down"]


def test_a_site_that_is_sent_a_change_of_the_base_weights_trains_with_it(session):
    fresh = session.program.fresh(0)
    layer = layers_of(fresh)[0]
    weight = session.model.base_model.model.get_submodule(layer).base_layer.weight
    before = weight.clone()
    change = torch.full_like(before, 0.25)
    scale = session.finetuning_args.lora_alpha / session.finetuning_args.lora_rank
    session.local().train(CONFIG, fresh, {}, {BASE: {f"{layer}.weight": change}})
    assert torch.equal(weight, before + scale * change)
    session.local().train(CONFIG, fresh, {}, {})
    assert torch.equal(weight, before)


@pytest.mark.parametrize("changes", [{"quantization_bit": 4}, {"deepspeed": ZERO3}])
def test_changed_base_weights_that_cannot_be_put_in_are_refused_by_the_dry_run(runs, changes, tmp_path):
    keys, earlier = runs("stack")
    more = {"fcit_stages": [["number"]], "adapter_name_or_path": str(earlier), "fcit_lora_aggregation": "factors", **changes}
    with pytest.raises(FcitError) as caught:
        run_recipe({**keys, **more, "fcit_dry_run": True, "output_dir": str(tmp_path / "on")})
    assert all(f"`{name}" in str(caught.value) for name in (*changes, "adapter_name_or_path"))


def test_plain_adapters_of_changed_base_weights_need_a_copy_of_the_base(runs, text_model, tmp_path):
    _, output_dir = runs("exact")
    with pytest.raises(ValueError, match=r"has changed the base weights .* give --base-copy DIR"):
        export_adapters(output_dir, tmp_path / "adapters", with_router=False, adapters_only=True)
    export_adapters(output_dir, tmp_path / "adapters", base_copy=tmp_path / "base", with_router=False)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(tmp_path / "adapters" / "subspace_0")).eval()
    ids = torch.tensor([[1, 7, 9, 11, 13]])
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, by_hand(text_model, output_dir)(ids).logits, rtol=1e-4, atol=1e-5)


def test_a_run_that_changed_the_base_weights_cannot_be_joined(runs, tmp_path):
    with pytest.raises(ValueError, match="exact has changed the base weights"):
        join_folders(runs("factors")[1], runs("exact")[1], tmp_path / "joined")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"quantization_bit": 4}, ["`quantization_bit`", "`fcit_lora_aggregation: exact`", "full precision"]),
        ({"deepspeed": str(ROOT / "recipes/deepspeed/ds_z3_config.json")}, ["`deepspeed`", "ZeRO-3"]),
    ],
)
def test_base_weights_that_cannot_be_changed_are_refused_before_anything_is_loaded(text_keys, changes, words):
    clashing = text_keys | {"fcit_lora_aggregation": "exact", "fcit_method": "sequential"}
    model_args, data_args, training_args, finetuning_args, _ = get_train_args(clashing)
    given = {"is_zero3": lambda: "deepspeed" in changes}
    training_args.hf_deepspeed_config = type("Config", (), {"is_zero3": lambda self: given["is_zero3"]()})()
    model_args.quantization_bit = changes.get("quantization_bit")
    with pytest.raises(FcitError) as caught:
        check_combination(model_args, data_args, training_args, finetuning_args, finetuning_args.fcit_request.args)
    assert all(word in str(caught.value) for word in words), caught.value
