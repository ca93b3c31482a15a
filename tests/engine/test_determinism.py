"""The same recipe gives the same numbers, whatever ran before in the process."""

import torch
from runs import report_of, weight_bytes


def test_the_same_text_recipe_twice_gives_the_same_report_and_weights(text_keys, text_run, run, tmp_path):
    torch.manual_seed(12345)  # noise that a run must not depend on
    again = run(text_keys | {"output_dir": str(tmp_path / "again")})
    assert report_of(again) == report_of(text_run)
    assert weight_bytes(again) == weight_bytes(text_run)


def test_the_same_llava_recipe_twice_gives_the_same_report_and_weights(llava_keys, llava_run, run, tmp_path):
    torch.manual_seed(54321)
    again = run(llava_keys | {"output_dir": str(tmp_path / "again")})
    assert report_of(again) == report_of(llava_run)
    assert weight_bytes(again) == weight_bytes(llava_run)


def test_evaluating_in_between_does_not_change_the_training(text_run, text_keys, run, tmp_path):
    never = run(text_keys | {"output_dir": str(tmp_path / "never"), "fcit_eval_every": "never"})
    assert weight_bytes(never) == weight_bytes(text_run)


def test_another_seed_gives_other_weights_and_another_partition(text_run, text_keys, run, tmp_path):
    other = run(text_keys | {"output_dir": str(tmp_path / "other"), "seed": 7, "fcit_eval_every": "never"})
    name = "subspaces/0/adapter_model.safetensors"
    assert weight_bytes(other)[name] != weight_bytes(text_run)[name]
    assert report_of(other)["assignments"] != report_of(text_run)["assignments"]
