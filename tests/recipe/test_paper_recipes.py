"""The recipes for GPUs, each from its own file: in full shape as a dry run, and one round on a tiny model of its class."""

import json
import math

import pytest
import torch
import yaml
from forked import ranks, without_shared_memory
from runs import ROOT, report_of, run_recipe
from safetensors.torch import load_file

from fcit_plugin.adapters.lora import fresh_subspace
from fcit_plugin.fcit_benchmark.layout import LAYOUT
from fcit_plugin.samples.mini.build import mini_root

#: recipe -> (fixture of its tiny model, of its data; records in one optimizer step on 8 GPUs, or on one)
RECIPES = {
    "fcit_llava15_7b_task": ("llava_model", "image_data", 128),
    "fcit_llava15_7b_cap": ("llava_model", "image_data", 64),
    "fcit_qwen25vl_7b": ("qwen25_vl_model", "image_data", 128),
    "fcit_qwen3_text": ("qwen3_model", "text_data", 32),
}
#: what a machine without a GPU, and tiny data, cannot do
SMALL = {
    "deepspeed": None,
    "use_cpu": True,
    "preprocessing_num_workers": None,
    "dataloader_num_workers": 0,
    "fcit_setting": "custom",
    "fcit_stages": [["color"], ["letter"]],
    "fcit_num_clients": 3,
    "fcit_clients_per_round": 2,
    "fcit_num_rounds": 1,
    "fcit_min_client_samples": 4,
    "fcit_identity_min_records": 1,
    "num_train_epochs": 3.0,  # more than one step, whose learning rate would be 0 in warm-up
    "max_new_tokens": 4,
}


def recipe(name):
    """A recipe as its file has it."""
    return yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text())


@pytest.fixture(params=RECIPES)
def paper(request, clip_model, tmp_path):
    """A recipe's name, its keys with a tiny model in place of the real one, its data folder and the records of a step."""
    model, data, batch = RECIPES[request.param]
    keys = recipe(request.param) | {"output_dir": str(tmp_path / "out")}
    keys["model_name_or_path"] = str(request.getfixturevalue(model))
    if "clip" in keys["fcit_identity_encoder"]:
        keys["fcit_identity_encoder"] = str(clip_model)
    return request.param, keys, request.getfixturevalue(data), batch


def whole(keys):
    """Without the keys that are None."""
    return {key: value for key, value in keys.items() if value is not None}


def test_one_round_trains_the_language_model_and_the_projector(paper):
    _, keys, data, _ = paper
    keys |= SMALL | {"dataset_dir": str(data), "media_dir": str(data / "datasets"), "fcit_data_dir": None}
    output_dir = run_recipe(whole(keys))
    report = report_of(output_dir)
    assert all(math.isfinite(score) for row in report["accuracy"] for score in row if score is not None)
    assert {row["task"] for row in report["assignments"]} == {"color", "letter"}
    config = json.loads((output_dir / "subspaces" / "0" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (8, 16, 0.05)
    subspace = load_file(output_dir / "subspaces" / "0" / "adapter_model.safetensors")
    layers = {key.split(".lora_")[0] for key in subspace}
    assert len(layers) == 2 * 3 and not any("visual" in layer or "vision" in layer for layer in layers)
    assert all(torch.isfinite(value).all() and value.any() for value in subspace.values())
    assert (output_dir / "shared.safetensors").exists() == ("freeze_multi_modal_projector" in keys)


def test_the_full_shape_is_planned_for_8_gpus(paper, monkeypatch):
    name, keys, data, batch = paper
    changes = {"fcit_data_dir": None, "fcit_dry_run": True}
    if name == "fcit_qwen3_text":
        changes |= {"dataset_dir": str(data), "fcit_stages": [["color"], ["letter", "number"]]}
        changes |= {"fcit_min_client_samples": 2}
    else:
        monkeypatch.setenv("NPROC_PER_NODE", "8")
        changes |= {"fcit_min_client_samples": 5}  # FCIT-mini is small
    plan = json.loads((run_recipe(whole(keys | changes)) / "fcit_dry_run.json").read_text())
    assert plan["settings"]["batch"].startswith(f"{batch} records a step")
    clients = {(w["stage"], w["round"]): 0 for w in plan["work"][""]}
    for work in plan["work"][""]:
        clients[work["stage"], work["round"]] += 1
    stages = {"fcit_llava15_7b_cap": 4, "fcit_qwen3_text": 2}.get(name, 8)
    assert len(clients) == stages * keys["fcit_num_rounds"]
    assert set(clients.values()) == {5}
    if name != "fcit_qwen3_text":
        assert all(share["smallest"] * 50 <= share["records"] for share in plan["shares"]), "over 50 clients"


def test_the_llava_recipes_hold_the_papers_settings():
    """Section 5 of the method's description."""
    expected = {
        "model_name_or_path": "llava-hf/llava-1.5-7b-hf",
        "lora_rank": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.05,
        "lora_target": "gate_proj,up_proj,down_proj",
        "freeze_vision_tower": True,
        "freeze_multi_modal_projector": False,
        "fcit_similarity_threshold": 0.9,
        "fcit_activation": "softmax",
        "fcit_temperature": 0.05,
        "fcit_identity_encoder": "openai/clip-vit-large-patch14-336",
        "fcit_identity_pooling": "eos",
        "fcit_identity_center": False,
        "fcit_num_clients": 50,
        "fcit_clients_per_round": 5,
        "fcit_num_rounds": 10,
        "fcit_min_client_samples": 50,
        "learning_rate": 2.0e-4,
        "fcit_projector_learning_rate": 2.0e-5,
        "num_train_epochs": 1.0,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.03,
        "weight_decay": 0.0,
        "bf16": True,
        "disable_gradient_checkpointing": False,
        "cutoff_len": 2048,
        "max_new_tokens": 128,
    }
    task, cap = (recipe(f"fcit_llava15_7b_{kind}") for kind in ("task", "cap"))
    for keys in (task, cap):
        assert {key: keys[key] for key in expected} == expected
    assert {key for key in task if task[key] != cap[key]} == {
        "fcit_setting",
        "output_dir",
        "fcit_batch_size",
    }


def test_the_llava_recipe_trains_in_bf16_under_zero_2_and_its_updates_keep_float32(
    llava_model, image_data, clip_model, tmp_path
):
    """From the command line, with its own DeepSpeed file, one process on the CPU, as torchrun starts it.

    Steps of 1e-7 are far below what bfloat16 can hold (0.02 and 0.0201 are neighbors): a client that started from or
    returned 16 bit weights would move them by rounding or not at all.
    """
    pytest.importorskip("deepspeed")
    changes = {key: value for key, value in SMALL.items() if value is not None} | {
        "model_name_or_path": llava_model,
        "fcit_identity_encoder": clip_model,
        "fcit_stages": "[[color],[letter]]",
        "fcit_data_dir": "null",
        "dataset_dir": image_data,
        "media_dir": image_data / "datasets",
        "output_dir": tmp_path / "out",
        "deepspeed": ROOT / "recipes" / "deepspeed" / "ds_z2_config.json",
        "ddp_backend": "gloo",
        "learning_rate": 1e-7,
        "fcit_projector_learning_rate": 1e-7,
        "fcit_eval_every": "never",
        "preprocessing_num_workers": 1,
    }
    arguments = ["train", str(ROOT / "recipes" / "fcit_llava15_7b_task.yaml")]
    arguments += [f"{key}={value}" for key, value in changes.items()]
    ranks(arguments, 1, tmp_path, without_shared_memory)
    start = load_file(llava_model / "model.safetensors")
    shared = load_file(tmp_path / "out" / "shared.safetensors")
    moved = [(value - _of(start, key)).abs().max().item() for key, value in shared.items()]
    assert 0 < max(moved) < 1e-5
    for k in range(2):
        subspace = load_file(tmp_path / "out" / "subspaces" / str(k) / "adapter_model.safetensors")
        fresh = fresh_subspace(subspace, seed=42 * 1_000_003 + k)
        assert all(0 < (subspace[key] - fresh[key]).abs().max() < 1e-5 for key in subspace)


@pytest.fixture
def released(tmp_path):
    """The root of FCIT-mini with partitions of its task-related records as released: client k has every 50th one."""
    root, mini = tmp_path / "FCIT", mini_root()
    root.mkdir()
    for part in ("instructions", "datasets"):
        (root / part).symlink_to(mini / part)
    for number, layout in enumerate(list(LAYOUT.values())[:8]):
        folder = root / "partitioned_data" / "Task-related" / "seq" / "1.0" / f"Task{number + 1}"
        folder.mkdir(parents=True)
        records = json.loads((root / layout.train_path).read_text())
        for client in range(50):
            (folder / f"client_{client}.json").write_text(json.dumps(records[client::50]))
    return root


def test_the_recipe_as_released_differs_from_the_papers_where_the_code_does_and_is_planned(
    llava_model, clip_model, released, tmp_path, monkeypatch
):
    monkeypatch.setenv("NPROC_PER_NODE", "8")
    paper, keys = recipe("fcit_llava15_7b_task"), recipe("fcit_llava15_7b_as_released")
    differ = {key: keys.get(key) for key in paper.keys() | keys.keys() if paper.get(key) != keys.get(key)}
    del differ["output_dir"]
    assert differ == {
        "fcit_later_rounds": "nearest",
        "fcit_max_subspaces": 8,
        "fcit_projector_learning_rate": 2.0e-4,
        "fcit_partition": "released",
        "fcit_min_client_samples": None,
        "fcit_caption_metric": "coco",
    }
    keys |= {"model_name_or_path": str(llava_model), "fcit_identity_encoder": str(clip_model), "fcit_data_dir": str(released)}
    keys |= {"output_dir": str(tmp_path / "out"), "fcit_caption_metric": "rouge_l", "fcit_dry_run": True}  # COCO's needs Java
    plan = json.loads((run_recipe(keys) / "fcit_dry_run.json").read_text())
    assert plan["settings"]["batch"].startswith("128 records a step")
    assert {work["records"] for work in plan["work"][""]} == {12}
    assert len(plan["work"][""]) == 8 * 10 * 5


def _of(weights, key):
    """A weight of a checkpoint, whose names lack the leading ``model.`` of the module's."""
    return next(value for name, value in weights.items() if key.endswith(name) or name.endswith(key))
