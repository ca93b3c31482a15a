"""QLoRA: a base model in four bits by bitsandbytes, which runs on CPUs too."""

import shutil

import pytest
from llamafactory.train.tuner import export_model
from runs import infer_args, losses_of, report_of, run_recipe, trained_alone, weight_bytes
from safetensors.torch import load_file

from fcit_plugin.state.checkpoints import Checkpoints

pytest.importorskip("bitsandbytes")
FOUR_BITS = {"quantization_bit": 4, "fcit_stages": [["color"]], "use_cpu": True}
WEIGHTS = "subspaces/0/adapter_model.safetensors"


def test_one_client_learns_what_llamafactory_learns_in_four_bits(text_recipe, tmp_path):
    one = {"fcit_num_clients": 1, "fcit_clients_per_round": 1, "fcit_num_rounds": 1, "fcit_eval_every": "never"}
    keys = text_recipe(**FOUR_BITS, **one)
    output_dir = run_recipe(keys)
    plain = trained_alone(keys, output_dir, tmp_path / "alone")
    assert losses_of(output_dir) == losses_of(plain)
    expected, found = load_file(plain / "adapter_model.safetensors"), load_file(output_dir / WEIGHTS)
    assert max((found[name] - value).abs().max().item() for name, value in expected.items()) < 1e-6
    in_full = run_recipe(text_recipe("full", **{**FOUR_BITS, "quantization_bit": None}, **one))
    assert losses_of(in_full) != losses_of(output_dir)


def test_a_run_in_four_bits_is_evaluated_goes_on_to_the_same_bits_and_is_not_merged(text_recipe, tmp_path):
    keys = text_recipe(**FOUR_BITS, save_total_limit=0, fcit_zero_shot=False)
    whole = run_recipe(keys)
    assert len(report_of(whole)["accuracy"]) == 1
    again = tmp_path / "again"
    for commit in Checkpoints(whole).commits()[:2]:
        shutil.copytree(commit, again / "checkpoints" / commit.name)
    shutil.copy(whole / "trainer_log.jsonl", again)
    gone_on = run_recipe(keys | {"output_dir": str(again)})
    assert weight_bytes(gone_on)[WEIGHTS] == weight_bytes(whole)[WEIGHTS]
    assert report_of(gone_on) == report_of(whole)
    with pytest.raises(ValueError, match="Cannot merge adapters to a quantized model."):
        export_model(infer_args(keys, whole, export_dir=str(tmp_path / "merged"), quantization_bit=4))
