"""Pre-training runs, is deterministic, and leaves a folder that loads."""

import json

import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

from tools.mini_pretraining import pretrain as module
from tools.mini_pretraining.pretrain import Recipe, pretrain


def test_two_runs_give_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "tower_accuracy", lambda *_: {})
    monkeypatch.setattr(module, "answer_accuracy", lambda *_: {})
    threads = torch.get_num_threads()
    recipe = Recipe(seed=5, threads=1, tower_steps=2, tower_batch=4, align_steps=2, align_batch=2)
    for name in ("a", "b"):
        pretrain(tmp_path / name, recipe)
    torch.set_num_threads(threads)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("a", "b"))
    assert all(torch.equal(first[name], second[name]) for name in first | second)

    log = json.loads((tmp_path / "a" / "pretrain_log.json").read_text())
    assert log["recipe"]["seed"] == 5
    assert [record["stage"] for record in log["records"]] == ["tower", "align"]
    LlavaForConditionalGeneration.from_pretrained(tmp_path / "a")
    AutoProcessor.from_pretrained(tmp_path / "a")
