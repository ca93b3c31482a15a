"""``fcit-cli init --from``: a recipe of LLaMA-Factory's becomes one that a dry run takes, or is refused in a sentence."""

import re
from pathlib import Path

import pytest
import yaml
from drafted import init, planned, theirs
from llamafactory_examples import EVALUATED, EXAMPLES

from fcit_plugin.errors import FcitError

#: Examples whose keys are refused where they are typed, and can be left out where a recipe is converted.
LEFT_OUT = {"use_kt", "ray_num_workers", "tokenized_path", "pissa_init", "use_v1_kernels"}


@pytest.mark.parametrize("more", [{}, pytest.param(EVALUATED, marks=pytest.mark.thorough)], ids=["", "evaluated"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.names[0])
def test_every_example_of_llamafactory_is_converted_or_refused(example, more, text_model, their_data, here, capsys):
    absent = dict.fromkeys(example.without, "absent")
    recipe = theirs(text_model, their_data, example.stage, **{**absent, **example.keys, **more})
    if example.refused and not LEFT_OUT & example.keys.keys():
        with pytest.raises(FcitError) as caught:
            init("--from", recipe, "--clients", 2)
        assert recipe in str(caught.value) and "\n" not in str(caught.value)
        return
    keys = init("--from", recipe, "--clients", 2)
    said = capsys.readouterr().out
    assert keys["stage"] == "fcit" and keys["fcit_local_stage"] == example.stage
    for key in ("model_name_or_path", "lora_rank", "lora_target", "cutoff_len", "dataset_dir", "learning_rate", "bf16"):
        assert keys.get(key) == yaml.safe_load(Path(recipe).read_text()).get(key)
    for key in yaml.safe_load(Path(recipe).read_text()).keys() - keys.keys():
        assert f"`{key}`" in said or key == "resume_from_checkpoint", f"{key} is gone without a word"
    assert planned(keys)["steps"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"finetuning_type": "full"}, "`finetuning_type: full`; clients train LoRA adapters"),
        ({"finetuning_type": "freeze"}, "`finetuning_type: freeze`"),
        ({"stage": "ppo"}, "`stage: ppo`, which clients cannot be trained with"),
        ({"stage": "pt"}, "`stage: pt`, which has no answers to score"),
        ({"stage": "fcit"}, "is a recipe of this plugin already"),
        ({"do_train": False}, "trains nothing"),
        ({"do_train": "absent"}, "trains nothing"),
        ({"adapter_name_or_path": "saves/a"}, "goes on from an adapter"),
        ({"dataset": "absent"}, "names no `dataset`"),
        ({"dataset": "nowhere"}, "Unknown dataset `nowhere`"),
        ({"deepspeed": "examples/deepspeed/ds_z9_config.json"}, "ds_z9_config.json`, which is not there"),
        ({"template": "vicunna"}, "the nearest one is `vicuna`"),
        ({"lora_rnk": 3}, "the nearest valid key is `lora_rank`"),
        ({"learning_rate": "fast"}, "`learning_rate`"),
        ({"packing": True, "cutoff_len": 100}, "multiple of 8"),
        ({"peft_config": {"name": "lora"}, "flash_attn": "flash_attention_2"}, "new trainer (USE_V1=1; `peft_config`)"),
        ({"model_class": "llm", "train_dataset": "data/v1.yaml", "do_train": "absent"}, "`model_class`, `train_dataset`"),
    ],
)
def test_what_is_no_lora_tuning_is_refused_in_a_sentence(changes, message, text_model, their_data, here):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        init("--from", theirs(text_model, their_data, **changes), "--clients", 2)
    assert "\n" not in str(caught.value)
    assert not Path("fcit.yaml").exists(), "nothing is written that a dry run would not take"


def test_a_usual_recipe_with_a_key_of_that_name_is_none_for_the_new_trainer(text_model, their_data, here):
    path = Path(theirs(text_model, their_data))
    path.write_text(path.read_text().replace("model_name_or_path", "model"))
    with pytest.raises(ValueError, match="names no `model_name_or_path`"):
        init("--from", path, "--clients", 2)


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "just words", "\0"])
def test_what_is_no_recipe_is_refused_in_a_sentence(text, here):
    Path("theirs.yaml").write_text(text)
    with pytest.raises(FcitError, match=r"theirs\.yaml"):
        init("--from", "theirs.yaml")
    with pytest.raises(FcitError, match=r"missing\.yaml"):
        init("--from", "missing.yaml")


def test_their_deepspeed_file_is_found_among_the_shipped_ones(text_model, their_data, here):
    keys = init("--from", theirs(text_model, their_data, deepspeed="examples/deepspeed/ds_z3_config.json"), "--clients", 2)
    assert Path(keys["deepspeed"]).is_file() and Path(keys["deepspeed"]).name == "ds_z3_config.json"


def test_passes_over_the_records_become_rounds_and_their_folder_stays(text_model, their_data, here, capsys):
    keys = init("--from", theirs(text_model, their_data), "--clients", 2, "--rounds", 4)
    assert (keys["num_train_epochs"], keys["fcit_num_rounds"], keys["output_dir"]) == (0.75, 4, "saves/theirs_fcit")
    assert "`num_train_epochs` was 3 and is 0.75" in capsys.readouterr().out
