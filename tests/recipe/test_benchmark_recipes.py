"""The recipes of other benchmarks, on the stand-ins for their data: in full shape as a dry run, and trained on a tiny model."""

import json
import math

import pytest
import torch
import yaml
from llamafactory.hparams import FinetuningArguments
from llamafactory.model.model_utils.visual import patch_target_modules
from runs import ROOT, report_of, run_recipe
from transformers import AutoConfig, LlavaForConditionalGeneration

from fcit_plugin.fcit_benchmark.benchmarks import BENCHMARKS, OTHERS
from fcit_plugin.fcit_benchmark.fedllm import FEDLLM
from fcit_plugin.samples.standin import write_clients_standin, write_standin

#: benchmark -> its recipe, the fixture of a tiny model of its kind, records a step and test sets' metrics, by hand
RECIPES = {
    "ucit": ("fcit_ucit_llava15_7b", "llava_model", 96),
    "trace": ("fcit_trace_qwen3", "qwen3_model", 32),
    "coin": ("fcit_coin_llava15_7b", "llava_model", 128),
    "coin6": ("fcit_coin6_llava15_7b", "llava_model", 16),
    "coin_long10": ("fcit_coin_long10_llava15_7b", "llava_model", 16),
    "mllm_dcl": ("fcit_mllm_dcl_llava15_7b", "llava_model", 64),
    "text15": ("fcit_text15_qwen3", "qwen3_model", 64),
}


@pytest.fixture(params=OTHERS)
def keys(request, clip_model, tmp_path):
    """A benchmark's name, and the keys of its recipe with a tiny model and the stand-in in place of the real ones."""
    recipe, model, _ = RECIPES[request.param]
    keys = yaml.safe_load((ROOT / "recipes" / f"{recipe}.yaml").read_text())
    write_standin(tmp_path / "data", request.param, train=20, test=3)
    keys |= {"fcit_data_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "out")}
    keys |= {"model_name_or_path": str(request.getfixturevalue(model)), "fcit_min_client_samples": 1}
    if "clip" in keys["fcit_identity_encoder"]:
        keys["fcit_identity_encoder"] = str(clip_model)
    if keys["lora_target"].startswith("layers.24."):
        keys["lora_target"] = "layers.1.self_attn.q_proj, layers.1.self_attn.o_proj"  # it has no such layer
    if keys["fcit_num_clients"] > 20:
        keys["fcit_num_clients"] = 20  # the stand-in is small
    return request.param, keys


def test_the_full_shape_is_planned_on_the_stand_in(keys, monkeypatch):
    name, keys = keys
    if "fcit_engine" in keys:
        monkeypatch.setenv("NPROC_PER_NODE", "8")
    plan = json.loads((run_recipe(keys | {"fcit_dry_run": True}) / "fcit_dry_run.json").read_text())
    assert plan["settings"]["batch"].startswith(f"{RECIPES[name][2]} records a step")
    datasets = BENCHMARKS[name].datasets
    assert [item["name"] for item in plan["data"]] == [layout.key for layout in datasets]
    tasks = {}
    for work in plan["work"][""]:
        tasks.setdefault(work["stage"], set()).add(work["task"])
    assert tasks == {t: {BENCHMARKS[name].task_of(layout)} for t, layout in enumerate(datasets)}
    assert len(plan["work"][""]) == len(datasets) * keys["fcit_num_rounds"] * keys["fcit_clients_per_round"]


@pytest.mark.parametrize("name", ["coin6", "coin_long10"])
def test_polaris_adapts_queries_and_outputs_of_the_last_eight_layers(name, llava15_7b_shape):
    keys = yaml.safe_load((ROOT / "recipes" / f"{RECIPES[name][0]}.yaml").read_text())
    frozen = ("freeze_vision_tower", "freeze_multi_modal_projector")
    finetuning_args = FinetuningArguments(lora_target=keys["lora_target"], **{key: keys[key] for key in frozen})
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(AutoConfig.from_pretrained(llava15_7b_shape))
    adapted = patch_target_modules(model, finetuning_args, finetuning_args.lora_target)
    wanted = [f"layers.{layer}.self_attn.{part}" for layer in range(24, 32) for part in ("q_proj", "o_proj")]
    assert sorted(adapted) == sorted(f"model.language_model.{module}" for module in wanted)


def test_the_recipe_trains_on_the_stand_in(keys):
    name, keys = keys
    report = trained(keys)
    names = [layout.key for layout in BENCHMARKS[name].datasets]
    assert [row["task"] for row in report["assignments"]] == [BENCHMARKS[name].task_of(d) for d in BENCHMARKS[name].datasets]
    assert report["datasets"] == names
    assert all(score is not None and math.isfinite(score) for score in report["accuracy"][-1])


def trained(keys, clients=1):
    """The report of a recipe with one round, one client in it, and few answers."""
    small = {"deepspeed", "preprocessing_num_workers", "ddp_timeout"}
    keys = {key: value for key, value in keys.items() if key not in small}
    keys |= {
        "use_cpu": True,
        "dataloader_num_workers": 0,
        "fcit_num_rounds": 1,
        "fcit_clients_per_round": 1,
        "max_new_tokens": 2,
    }
    keys |= {"fcit_num_clients": clients, "fcit_eval_every": "last", "fcit_eval_samples": 2, "fcit_identity_min_records": 1}
    return report_of(run_recipe(keys))


@pytest.fixture
def of_clients(qwen3_model, tmp_path):
    """The keys of the recipe of FedLLM-Bench, in the same way."""
    keys = yaml.safe_load((ROOT / "recipes" / "fcit_fedllm_qwen3.yaml").read_text())
    write_clients_standin(tmp_path / "data", test=3)
    return keys | {
        "dataset_dir": str(tmp_path / "data"),
        "output_dir": str(tmp_path / "out"),
        "model_name_or_path": str(qwen3_model),
    }


def test_the_clients_of_fedllm_bench_are_planned_and_trained(of_clients):
    plan = json.loads((run_recipe(of_clients | {"fcit_dry_run": True}) / "fcit_dry_run.json").read_text())
    assert plan["data"][0]["name"] == "fedllm_aya" and plan["settings"]["batch"].startswith("16 records a step")
    assert len(plan["work"][""]) == 200 * 4
    report = trained(of_clients | {"max_steps": 1, "output_dir": f"{of_clients['output_dir']}/trained"}, clients=38)
    assert report["datasets"] == ["fedllm_aya"]
    assert math.isfinite(report["accuracy"][-1][0])


@pytest.mark.parametrize("name", [name for name in FEDLLM if name != "fedllm_aya"])
def test_every_other_dataset_of_fedllm_bench_is_planned_with_a_part_for_the_test(name, of_clients):
    keys = {"fcit_stages": [[name]], "fcit_num_clients": FEDLLM[name].clients, "val_size": 0.1, "fcit_dry_run": True}
    keys |= {"fcit_local_stage": "dpo"} if name == "fedllm_chatbot_pa" else {}
    plan = json.loads((run_recipe(of_clients | keys) / "fcit_dry_run.json").read_text())
    assert plan["answers"] > 0 and plan["left_out"] == {}
