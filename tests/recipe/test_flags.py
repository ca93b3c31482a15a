"""Flags in place of a recipe: LLaMA-Factory's own mean what they mean without any of ours."""

import dataclasses

import pytest
from llamafactory.hparams import get_infer_args, get_train_args
from llamafactory.hparams.parser import _TRAIN_ARGS

from fcit_plugin.errors import FcitError
from fcit_plugin.recipe.flags import glance
from fcit_plugin.recipe.read import split_keys

#: Flags whose values YAML would take for something else than LLaMA-Factory's parser does, or not at all.
VALUES = {
    "an empty text": ["--default_system", ""],
    "a text in octal numbers": ["--run_name", "0123"],
    "a text with underscores in a number": ["--run_name", "2024_01"],
    "a list": ["--label_names", "labels", "positions"],
    "a list of one": ["--label_names", "labels"],
    "a text that YAML takes for a mapping": ["--default_system", "Answer: yes, {x}"],
    "a text that is no YAML": ["--default_system", "You are, [a] bot"],
    "a text that YAML takes for nothing": ["--run_name", "null"],
    "a text that YAML takes for a truth value": ["--run_name", "yes"],
    "a blank at the end": ["--run_name", "x "],
    "what OmegaConf takes for a reference": ["--media_dir", "${oc.env:HOME}"],
    "a rate without a point": ["--learning_rate", "5e-5"],
    "a mapping": ["--lr_scheduler_kwargs", '{"num_cycles": 2}'],
    "a truth value": ["--bf16", "false"],
    "a flag alone": ["--disable_gradient_checkpointing"],
    "an equals sign": ["--run_name=a=b"],
    "a negative number": ["--max_steps", "-1"],
}


def plain(parsed):
    return [{k: v for k, v in vars(part).items() if k not in _OF_A_RUN} for part in parsed if dataclasses.is_dataclass(part)]


#: What differs between any two readings, or between a run with us and one without.
_OF_A_RUN = {
    "fcit_request",
    "distributed_state",
    "accelerator_config",
    "deepspeed_plugin",
    "_n_gpu",
    "logging_dir",
    "output_dir",
}


@pytest.mark.parametrize("value", VALUES)
def test_beside_a_flag_of_ours_all_others_are_what_they_are_without_it(text_model, tmp_path, value):
    flags = ["--model_name_or_path", str(text_model), "--template", "vicuna", "--stage", "sft", "--dataset", "a", "--do_train"]
    flags += ["--use_cpu", "--output_dir", str(tmp_path), *VALUES[value]]
    expected = plain(get_train_args(list(flags)))
    assert plain(get_train_args([*flags, "--fcit_data_dir", str(tmp_path)])) == expected
    keys, stage, ours = split_keys(["--fcit_num_rounds", "7", *VALUES[value], "--stage", "fcit"], _TRAIN_ARGS)
    key = VALUES[value][0][2:].partition("=")[0]
    assert (stage, ours) == ("fcit", {"fcit_num_rounds": 7})
    assert set(keys) == {key, "stage"}
    (of_plain,) = {repr(part[key]) for part in expected if key in part}
    part = next(cls for cls in _TRAIN_ARGS if key in cls.__dataclass_fields__)
    needed = {"output_dir": str(tmp_path), "use_cpu": True} if "use_cpu" in part.__dataclass_fields__ else {}
    needed |= {"model_name_or_path": str(text_model)} if "model_name_or_path" in part.__dataclass_fields__ else {}
    assert repr(getattr(part(**needed, **{key: keys[key]}), key)) == of_plain


def test_of_chat_too(text_run, text_model):
    flags = ["--model_name_or_path", str(text_model), "--template", "vicuna", "--adapter_name_or_path", str(text_run)]
    flags += ["--default_system", ""]
    for more in ([], ["--fcit_trace_activation"], ["--fcit_trace_activation", "true"], ["--fcit_trace_activation=true"]):
        model_args, data_args, finetuning_args, _ = get_infer_args([*flags, *more])
        assert data_args.default_system == ""
        assert model_args.adapter_name_or_path == [str(text_run)]
        assert bool(finetuning_args.fcit_request.args.fcit_trace_activation) == bool(more)


@pytest.mark.parametrize("given", [["--stage=fcit"], ["--stage", "fcit"]])
@pytest.mark.parametrize("dry", [["--dry-run"], ["--fcit_dry_run"], ["--fcit_dry_run=true"]])
def test_the_stage_and_a_dry_run_may_be_written_either_way(given, dry):
    keys, stage, ours = split_keys([*dry, "--seed", "3", *given], _TRAIN_ARGS)
    assert (keys, stage, ours) == ({"seed": 3, "stage": "fcit"}, "fcit", {"fcit_dry_run": True})


@pytest.mark.parametrize("path", ["--model_name_or_path", "--model_name_or_path="])
def test_a_model_in_the_package_may_be_named_either_way(path):
    named = [path + "fcit-mini-text"] if path.endswith("=") else [path, "fcit-mini-text"]
    flags = [*named, "--template", "vicuna", "--fcit_data_dir", "x"]
    assert get_infer_args(flags)[0].model_name_or_path != "fcit-mini-text"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--seed", "three"], "argument --seed: invalid int value: 'three'; fix them"),
        (["--lora_ranks", "3"], "Unknown key `lora_ranks`"),
        (["extra"], "`extra` is not a value of a flag"),
        (["--fcit_num_rounds", "7", "8"], "is not a value of a flag"),
    ],
)
def test_flags_that_cannot_be_are_refused_in_a_sentence(flags, words):
    with pytest.raises(FcitError) as caught:
        get_train_args(["--stage", "fcit", "--fcit_stages", "[[a]]", *flags])
    assert words in str(caught.value)


def test_before_anything_is_imported_a_glance_is_enough():
    flags = ["--deepspeed", "z3.json", "--do_train", "--seed=3", "--report_to", "a", "b", "--default_system", "a: [b"]
    found = {"deepspeed": "z3.json", "do_train": True, "seed": 3, "report_to": ["a", "b"], "default_system": "a: [b"}
    assert glance(flags) == found


@pytest.mark.parametrize("flag", ["--dry-run", "--fcit_dry_run"])
@pytest.mark.parametrize("recipe", ["fcit.yaml", "my recipes/a.yml"])
@pytest.mark.parametrize("before", [[], ["--seed", "3"]])
def test_a_recipe_behind_a_flag_is_told_to_come_first(before, recipe, flag):
    with pytest.raises(FcitError, match=f"The recipe {recipe} stands behind a flag.* name it first: {recipe} --dry-run"):
        split_keys([*before, flag, recipe], _TRAIN_ARGS)
