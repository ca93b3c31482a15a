"""Recipes: what is accepted, what is refused with which sentence, and that refusing comes before any loading."""

import contextlib
import copy
import json
import pickle
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import get_args, get_type_hints

import pytest
from llamafactory.hparams import get_infer_args, get_train_args

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.errors import FcitError

#: defaults that the issue and the method's description name
DEFAULTS = {
    "fcit_setting": "task_hom",
    "fcit_task_order": "paper",
    "fcit_num_clients": 50,
    "fcit_clients_per_round": 5,
    "fcit_num_rounds": 10,
    "fcit_partition": "quantity",
    "fcit_beta": 1.0,
    "fcit_min_client_samples": 50,
    "fcit_method": "disco",
    "fcit_similarity_threshold": "auto",
    "fcit_activation": "softmax",
    "fcit_temperature": 0.05,
    "fcit_max_subspaces": 64,
    "fcit_identity_encoder": "auto",
    "fcit_eval_every": "stage",
    "fcit_eval_samples": None,
    "fcit_keep_client_updates": False,
    "fcit_stages": None,
    "fcit_schedule": None,
}

#: (changes of a good recipe, what the sentence must hold)
REFUSED = [
    # unknown and misspelled names
    ({"fcit_num_client": 3}, ["`fcit_num_client`", "`fcit_num_clients`"]),
    ({"fcit_temprature": 0.1}, ["`fcit_temprature`", "`fcit_temperature`"]),
    ({"fcit_similarity": 0.9}, ["`fcit_similarity`", "`fcit_similarity_threshold`"]),
    ({"fcit_stage": [["color"]]}, ["`fcit_stage`", "`fcit_stages`"]),
    ({"fcit_wholly_different": 1}, ["`fcit_wholly_different`", "nearest valid key"]),
    ({"stage": "fcit_clint"}, ["fcit_clint", "`fcit_client`"]),
    ({"stage": "fcit_agregate"}, ["fcit_agregate", "`fcit_aggregate`"]),
    # values
    ({"fcit_setting": "task_homo"}, ["`fcit_setting`", "'task_homo'", "`task_hom`"]),
    ({"fcit_method": "disko"}, ["`fcit_method`", "`disco`"]),
    ({"fcit_partition": "quantty"}, ["`fcit_partition`", "`quantity`"]),
    ({"fcit_partition": "natural"}, ["`fcit_partition: natural`", "`fcit_partition_column`"]),
    ({"fcit_partition_column": "client_id"}, ["`fcit_partition_column`", "`fcit_partition: quantity`"]),
    ({"fcit_partition": "released"}, ["fcit_partition: released", "task_hom", "fcit_setting: custom"]),
    (
        {"fcit_partition": "released", "fcit_setting": "cap_hom", "fcit_stages": None, "fcit_data_dir": "/no/where"},
        ["/no/where/partitioned_data/Capability-related/cap/1.0", "fcit_data_dir"],
    ),
    ({"fcit_server_rule": "fedavgg"}, ["`fcit_server_rule`", "`fedavg`"]),
    ({"fcit_activation": "soft_max"}, ["`fcit_activation`", "`softmax`"]),
    ({"fcit_eval_every": "stages"}, ["`fcit_eval_every`", "`stage`"]),
    ({"fcit_identity_pooling": "last"}, ["`fcit_identity_pooling`", "mean, eos"]),
    ({"fcit_task_order": "letter,color"}, ["fcit_task_order", "fcit_stages"]),
    ({"fcit_setting": "cap_het", "fcit_stages": None, "fcit_task_order": {"chart": 1}}, ["fcit_task_order", "other"]),
    ({"fcit_threads": 0}, ["`fcit_threads`", "at least 1, or left out, got 0"]),
    ({"fcit_threads": 10**6}, ["`fcit_threads` is 1000000", "1024"]),
    ({"fcit_batch_size": -1}, ["`fcit_batch_size`", "at least 1, or left out, got -1"]),
    ({"fcit_clients_per_device": 200}, ["`fcit_clients_per_device` is 200", "64"]),
    ({"fcit_setting": "cap_het", "fcit_stages": None, "fcit_task_order": "chart,math"}, ["fcit_task_order", "other"]),
    (
        {"fcit_setting": "task_het", "fcit_stages": None, "fcit_num_clients": 6, "fcit_clients_per_round": 4},
        ["`fcit_setting: task_het`", "5 clients", "`fcit_clients_per_round` is 4"],
    ),
    ({"fcit_num_clients": 0}, ["`fcit_num_clients`", "at least 1"]),
    ({"fcit_num_rounds": -1}, ["`fcit_num_rounds`", "at least 1"]),
    ({"fcit_clients_per_round": 0}, ["`fcit_clients_per_round`", "at least 1"]),
    ({"fcit_min_client_samples": 0}, ["`fcit_min_client_samples`", "at least 1"]),
    ({"fcit_beta": 0}, ["`fcit_beta`", "greater than 0"]),
    ({"fcit_beta": float("nan")}, ["`fcit_beta`", "greater than 0"]),
    ({"fcit_temperature": 0.0}, ["`fcit_temperature`", "greater than 0"]),
    ({"fcit_similarity_threshold": 1.5}, ["`fcit_similarity_threshold`", "between -1 and 1"]),
    ({"fcit_max_subspaces": 0}, ["`fcit_max_subspaces`", "at least 1"]),
    ({"fcit_eval_samples": 0}, ["`fcit_eval_samples`", "at least 1"]),
    ({"fcit_server_tau": 0.1}, ["`fcit_server_tau`", "fedadam, fedyogi, fedadagrad", "the rule is fedavg"]),
    ({"fcit_server_rule": "fedavgm", "fcit_server_beta1": 0.1}, ["`fcit_server_beta1`", "fedadam, fedyogi", "fedavgm"]),
    ({"fcit_server_rule": "fedavgm", "fcit_server_momentum": 1.0}, ["`fcit_server_momentum`", "less than 1"]),
    ({"fcit_server_rule": "fedadam", "fcit_server_beta2": -0.1}, ["`fcit_server_beta2`", "from 0"]),
    ({"fcit_server_rule": "fedadam", "fcit_server_learning_rate": 0}, ["`fcit_server_learning_rate`", "greater than 0"]),
    ({"fcit_server_rule": "fedprox", "fcit_proximal_mu": 0.0}, ["`fcit_proximal_mu`", "greater than 0"]),
    ({"fcit_server_rule": "fedprox", "fp16": True}, ["`fp16`", "`fcit_server_rule: fedprox`"]),
    ({"fcit_server_rule": "trimmed_mean"}, ["`fcit_server_rule: trimmed_mean`", "from 5 replies on", "is 2"]),
    ({"fcit_server_rule": "trimmed_mean", "fcit_trim_fraction": 0.5}, ["`fcit_trim_fraction`", "less than 0.5"]),
    ({"fcit_server_rule": "fedmedian"}, ["`fcit_server_rule: fedmedian`", "from 3 replies on"]),
    ({"fcit_server_rule": "krum", "fcit_num_malicious": -1}, ["`fcit_num_malicious`", "at least 0"]),
    ({"fcit_server_rule": "krum", "fcit_num_malicious": 1}, ["`fcit_server_rule: krum`", "from 5 replies on"]),
    ({"fcit_lwf_alpha": 1.0}, ["`fcit_lwf_alpha`", "`fcit_method` lwf", "the method is disco"]),
    ({"fcit_method": "ewc", "fcit_ewc_lambda": 0.0}, ["`fcit_ewc_lambda`", "greater than 0"]),
    ({"fcit_method": "replay", "fcit_replay_samples": 0}, ["`fcit_replay_samples`", "at least 1"]),
    ({"fcit_method": "a_gem", "fcit_a_gem_batch_size": 0}, ["`fcit_a_gem_batch_size`", "at least 1"]),
    ({"fcit_method": "a_gem", "fp16": True}, ["`fp16`", "`fcit_method: a_gem`"]),
    ({"fcit_method": "moe_lora", "fcit_num_experts": 1}, ["`fcit_num_experts`", "at least 2"]),
    ({"fcit_method": "moe_lora", "lora_rank": 12}, ["`lora_rank: 12`", "8 experts", "`fcit_num_experts`"]),
    ({"fcit_method": "o_lora", "fcit_activation": "softmax"}, ["`fcit_activation`", "`fcit_method: o_lora`", "concat"]),
    ({"fcit_method": "ewc", "fp16": True}, ["`fp16`", "`fcit_method: ewc`"]),
    ({"use_asft_loss": True}, ["`use_asft_loss`", "ASFT"]),
    ({"fcit_method": "ewc", "fcit_dp_clipping_norm": 1.0}, ["`fcit_dp_clipping_norm`", "`fcit_method: ewc`"]),
    ({"fcit_server_rule": "scaffold", "fcit_dp_clipping_norm": 1.0}, ["`fcit_dp_clipping_norm`", "scaffold"]),
    ({"fcit_dp_noise_multiplier": 1.0}, ["`fcit_dp_noise_multiplier`", "needs `fcit_dp_clipping_norm`"]),
    ({"fcit_dp_clipping_norm": 0.0}, ["`fcit_dp_clipping_norm`", "greater than 0"]),
    ({"fcit_dp_delta": 0.5}, ["`fcit_dp_delta`", "`fcit_num_clients`", "0.5"]),
    ({"fcit_dp_delta": 0}, ["`fcit_dp_delta`", "greater than 0"]),
    ({"fcit_dp_secret": 7}, ["`fcit_dp_secret`", "`fcit_identity_noise`"]),
    ({"fcit_identity_noise": 0.0}, ["`fcit_identity_noise`", "greater than 0"]),
    ({"fcit_dp_clipping_norm": 1.0, "fcit_max_norm_ratio": 10.0}, ["`fcit_max_norm_ratio`", "`fcit_dp_clipping_norm`"]),
    ({"fcit_identity_noise": 1e-7, "fcit_dp_secret": "auto"}, ["`fcit_identity_noise` must be at least 1e-06"]),
    ({"fcit_identity_noise": 1.0, "fcit_dp_secret": -7}, ["`fcit_dp_secret` must be auto, or a whole number, 0 or more"]),
    (
        {
            "fcit_dp_clipping_norm": 1.0,
            "fcit_server_rule": "fedmedian",
            "fcit_clients_per_round": 3,
        },
        ["`fcit_dp_clipping_norm`", "`fcit_server_rule` is fedmedian"],
    ),
    ({"fcit_min_replies": 0}, ["`fcit_min_replies`", "at least 1"]),
    ({"fcit_min_replies": 3}, ["`fcit_min_replies` (3)", "`fcit_clients_per_round` (2)"]),
    ({"fcit_max_round_retries": -1}, ["`fcit_max_round_retries`", "at least 0"]),
    ({"fcit_client_timeout": 0}, ["`fcit_client_timeout`", "greater than 0"]),
    ({"fcit_max_client_samples": 0}, ["`fcit_max_client_samples`", "at least 1", "no limit"]),
    ({"fcit_max_update_norm": 0.0}, ["`fcit_max_update_norm`", "greater than 0"]),
    ({"fcit_max_norm_ratio": 0.5}, ["`fcit_max_norm_ratio`", "at least 1"]),
    # types
    ({"fcit_num_clients": "ten"}, ["`fcit_num_clients`", "int", "'ten'"]),
    ({"fcit_num_clients": 2.5}, ["`fcit_num_clients`", "int", "2.5"]),
    ({"fcit_num_rounds": True}, ["`fcit_num_rounds`", "int"]),
    ({"fcit_keep_client_updates": "yes please"}, ["`fcit_keep_client_updates`", "bool"]),
    ({"fcit_temperature": "warm"}, ["`fcit_temperature`", "float"]),
    ({"fcit_stages": "color"}, ["`fcit_stages`", "list of lists"]),
    ({"fcit_stages": ["color", 3]}, ["`fcit_stages`", "list of lists"]),
    ({"fcit_schedule": [0, 1]}, ["`fcit_schedule`", "list of lists"]),
    # contradictions
    ({"fcit_clients_per_round": 4}, ["`fcit_clients_per_round` (4)", "`fcit_num_clients` (3)"]),
    ({"fcit_stages": None}, ["`fcit_setting: custom`", "`fcit_stages`"]),
    ({"fcit_setting": "task_hom"}, ["`fcit_stages`", "`fcit_setting: custom`"]),
    ({"fcit_setting": "task_het", "fcit_stages": None, "fcit_schedule": [[0]]}, ["`fcit_schedule`", "custom"]),
    ({"fcit_schedule": [[0, 1], [7]]}, ["fcit_schedule", "7"]),
    ({"fcit_schedule": [[0], [0]]}, ["fcit_schedule", "task 1"]),
    ({"fcit_stages": [["color"], []]}, ["fcit_stages", "stage 1"]),
    ({"fcit_stages": []}, ["fcit_stages"]),
    ({"dataset": "color"}, ["`dataset`", "`fcit_stages`"]),
    ({"stage": "fcit_client"}, ["`fcit_state_dir`", "`fcit_client`"]),
    ({"stage": "fcit_client", "fcit_state_dir": "x"}, ["`fcit_client`"]),
    ({"stage": "fcit_client", "fcit_state_dir": "x", "fcit_client": 3}, ["`fcit_client` is 3", "0 to 2"]),
    ({"stage": "fcit_client", "fcit_state_dir": "x", "fcit_client": -1}, ["`fcit_client` is -1", "0 to 2"]),
    ({"stage": "fcit_aggregate", "fcit_update_dirs": "a,b"}, ["`fcit_update_dirs`", "`fcit_state_dir`"]),
    # LLaMA-Factory's own keys that the loop cannot honor
    ({"finetuning_type": "full"}, ["`finetuning_type: full`", "`finetuning_type: lora`"]),
    ({"finetuning_type": "freeze"}, ["`finetuning_type: freeze`"]),
    ({"ref_model": "some/model"}, ["`ref_model`"]),
    ({"use_dora": True}, ["`use_dora`"]),
    ({"pissa_init": True}, ["`pissa_init`"]),
    ({"additional_target": "embed_tokens"}, ["`additional_target`"]),
    ({"adapter_name_or_path": "somewhere"}, ["`adapter_name_or_path`"]),
]


@pytest.mark.parametrize(("changes", "parts"), REFUSED, ids=lambda value: str(value)[:60])
def test_a_recipe_that_cannot_work_gives_one_sentence_that_names_the_key(text_recipe, changes, parts):
    keys = text_recipe(**changes) | {"model_name_or_path": "/no/such/model"}
    with pytest.raises(FcitError) as caught:
        get_train_args(keys)
    text = str(caught.value)
    assert [part for part in parts if part not in text] == [], text
    assert "\n" not in text


#: found once LLaMA-Factory has parsed the recipe, and still before a model is loaded
REFUSED_BEFORE_LOADING = [
    ({"fcit_stages": [["colour"]]}, ["`colour`", "`color`"]),
    ({"fcit_stages": [["color"], ["letters"]]}, ["`letters`", "`letter`"]),
    ({"fcit_stages": [["color_test"]]}, ["`color_test`", "test records", "`fcit_eval_every: never`"]),
]


@pytest.mark.parametrize(("changes", "parts"), REFUSED_BEFORE_LOADING, ids=lambda value: str(value)[:60])
def test_unknown_data_sets_are_named_before_the_model_is_loaded(text_recipe, run, changes, parts):
    keys = text_recipe(**changes) | {"model_name_or_path": "/no/such/model"}
    with pytest.raises(FcitError) as caught:
        run(keys)
    assert [part for part in parts if part not in str(caught.value)] == []


@pytest.mark.parametrize("held", ["fcit_manifest.json", "fcit_update.json", "checkpoints/round-0003/progress.json"])
def test_an_output_folder_with_results_is_not_written_over_unless_told(text_recipe, run, held):
    keys = text_recipe(resume_from_checkpoint=False)
    path = Path(keys["output_dir"]) / held
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(ValueError, match=r"already holds the results of a run.*`overwrite_output_dir: true`"):
        run(keys)
    with pytest.raises(ValueError, match="/no/such/model"):  # refused before anything is cleared
        run(keys | {"overwrite_output_dir": True, "model_name_or_path": "/no/such/model"})
    assert path.read_text() == "mine"


def test_a_good_recipe_parses_to_sft_with_our_arguments_beside(text_recipe):
    keys = text_recipe()
    _, data_args, training_args, finetuning_args, _ = get_train_args(dict(keys))
    assert (finetuning_args.stage, finetuning_args.fcit_request.stage) == ("sft", "fcit")
    assert data_args.dataset == ["color", "letter"]
    assert training_args.do_train
    assert (finetuning_args.lora_rank, training_args.learning_rate) == (4, 0.01)
    for key, value in keys.items():
        if key.startswith("fcit_"):
            assert getattr(finetuning_args.fcit_request.args, key) == value


def test_the_recipe_given_is_not_changed(text_recipe):
    keys = text_recipe()
    before = json.dumps(keys)
    get_train_args(keys)
    assert json.dumps(keys) == before


def test_defaults_are_those_of_the_issue():
    args = FcitArguments()
    assert {key: getattr(args, key) for key in DEFAULTS} == DEFAULTS


def test_every_key_has_a_help_text_that_is_a_sentence():
    for item in fields(FcitArguments):
        assert item.name.startswith("fcit_")
        assert item.metadata["help"][0].isupper() and item.metadata["help"].endswith("."), item.name


@pytest.mark.parametrize("stages", ["[[color],[letter]]", '[["color"],["letter"]]'])
def test_command_line_flags_say_the_same_as_a_recipe(text_recipe, stages):
    keys = text_recipe(fcit_stages=None, fcit_temperature=0.25, fcit_keep_client_updates=True)
    flags = [part for key, value in keys.items() for part in (f"--{key}", str(value))]
    parsed = get_train_args([*flags, "--fcit_stages", stages])
    expected = get_train_args({**keys, "fcit_stages": [["color"], ["letter"]]})
    assert parsed[3].fcit_request.args == expected[3].fcit_request.args
    assert parsed[3].fcit_request.stage == "fcit"
    for ours, theirs in zip(parsed, expected, strict=True):
        for name in ("dataset", "lora_rank", "learning_rate", "template", "max_new_tokens", "model_name_or_path"):
            assert getattr(ours, name, None) == getattr(theirs, name, None)


def test_flags_may_go_without_a_value_or_with_an_equals_sign(text_recipe):
    keys = text_recipe(do_train=None, disable_gradient_checkpointing=None, fcit_stages=None, fcit_num_rounds=None)
    flags = [f"--{key}={value}" for key, value in keys.items()]
    parsed = get_train_args([*flags, "--do_train", "--fcit_num_rounds", "7", "--fcit_stages=[[color]]"])
    assert parsed[2].do_train is True
    assert (parsed[3].fcit_request.args.fcit_num_rounds, parsed[3].fcit_request.args.fcit_stages) == (7, [["color"]])


def test_a_value_without_a_flag_is_refused_in_words(text_recipe):
    with pytest.raises(ValueError, match="`extra` is not a value of a flag"):
        get_train_args(["--stage", "fcit", "extra"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"stage": "sft", "dataset": "color", "fcit_num_rounds": 2}, "`fcit_.*` belongs to `stage: fcit` or"),
        ({"fcit_client": 1}, "`fcit_client` belongs to `stage: fcit_client`"),
        ({"fcit_state_dir": "state"}, "`fcit_state_dir` belongs to `stage: fcit_client` or `stage: fcit_aggregate`"),
        ({"fcit_update_dirs": "update"}, "`fcit_update_dirs` belongs to `stage: fcit_aggregate`"),
    ],
)
def test_keys_that_the_stage_would_ignore_are_refused(text_recipe, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        get_train_args(text_recipe(**changes))


def test_an_fcit_stage_is_for_training_alone(text_recipe):
    with pytest.raises(ValueError, match="`stage: fcit` is for `llamafactory-cli train`"):
        get_infer_args({"model_name_or_path": "unused", "template": "vicuna", "stage": "fcit"})


def test_misspelled_flags_are_named(text_recipe):
    with pytest.raises(ValueError, match=r"`fcit_num_client`.*`fcit_num_clients`"):
        get_train_args(["--stage", "fcit", "--fcit_num_client", "3"])


@pytest.mark.parametrize("get_args", [get_train_args, get_infer_args])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_fcit_key_beside_llamafactorys_own(get_args, flag, capsys):
    with pytest.raises(SystemExit) as caught:
        get_args([flag])
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert [item.name for item in fields(FcitArguments) if f"--{item.name}" not in shown] == []
    assert "--model_name_or_path" in shown and "--lora_rank" in shown


def test_the_command_line_help_of_train_lists_fcit_keys(process):
    shown = process(["llamafactory-cli", "train", "-h"]).stdout
    assert "--fcit_similarity_threshold" in shown and "--fcit_stages" in shown


@pytest.mark.parametrize("changes", [{"stage": "sft"}, {"stage": "pt"}])
def test_recipes_of_llamafactorys_own_stages_carry_nothing_of_ours(text_recipe, changes):
    keys = {k: v for k, v in text_recipe(**changes).items() if not k.startswith("fcit_")} | {"dataset": "color"}
    finetuning_args = get_train_args(keys)[3]
    assert finetuning_args.stage == changes["stage"]
    assert not any(name.startswith("fcit") for name in vars(finetuning_args))


def test_keys_go_through_copies_and_pickles_as_they_are():
    args = FcitArguments(fcit_method="ewc", fcit_ewc_lambda=3.0, fcit_stages=[["a"]], fcit_setting="custom")
    for again in (copy.copy(args), copy.deepcopy(args), pickle.loads(pickle.dumps(args))):
        assert again is not args and again == args and again.fcit_ewc_lambda == 3.0


KINDS = {name: {*(get_args(hint) or (hint,))} for name, hint in get_type_hints(FcitArguments.joined()).items()}
TEXTS = [name for name, kinds in KINDS.items() if kinds - {NoneType} == {str}]


@pytest.mark.parametrize("given", [5, 2.5, True])
@pytest.mark.parametrize("name", TEXTS)
def test_a_key_of_texts_takes_no_number(name, given):
    if name == "fcit_export_weights" or (name, given) == ("fcit_eval_restricted", True):
        assert getattr(FcitArguments(**{name: given}), name).lower() == str(given).lower(), "it is taken for its text"
        return
    with pytest.raises(FcitError, match=f"`{name}`") as caught:
        FcitArguments(**{name: given})
    assert name != "fcit_dp_secret" or str(given) not in str(caught.value)


def test_keys_that_must_have_a_value_are_no_text_of_nothing():
    for name in [name for name, kinds in KINDS.items() if NoneType not in kinds]:
        with pytest.raises(FcitError, match=f"`{name}` has no value"):
            FcitArguments(**{name: None})


@pytest.mark.parametrize("given", [[], [5], ["a", 5], [[1]], {}, {"a": 1}])
@pytest.mark.parametrize("name", KINDS)
def test_a_list_or_a_mapping_is_taken_or_refused_in_a_sentence(name, given):
    with contextlib.suppress(FcitError):  # and nothing else
        FcitArguments(**{name: given})


OTHERS = [
    "model_name_or_path",
    "output_dir",
    "template",
    "add_tokens",
    "adapter_name_or_path",
    "accelerator_config",
    "run_name",
]


@pytest.mark.parametrize("given", [True, 5, 2.5])
@pytest.mark.parametrize("name", OTHERS)
def test_a_key_of_llamafactorys_texts_takes_no_number(text_recipe, name, given):
    with pytest.raises(FcitError, match=f"`{name}` takes a text"):
        get_train_args({**text_recipe(), name: given})


def test_what_llamafactory_takes_beside_texts_stays(text_recipe):
    keys = text_recipe(resume_from_checkpoint=False, lora_target=["q_proj", "v_proj"], report_to=["none"], run_name="5")
    assert get_train_args(keys)[3].lora_target == ["q_proj", "v_proj"]


@pytest.mark.parametrize("given", [-98765, 98765.25])
def test_of_a_secret_that_is_none_nothing_is_shown(given):
    with pytest.raises(FcitError, match="not shown") as caught:
        FcitArguments(fcit_dp_secret=given, fcit_num_clients="ten")
    assert "98765" not in str(caught.value)


@pytest.mark.parametrize("given", [7, 0, 2**200, "12345", "007", "auto", " auto "])
def test_a_secret_is_auto_or_a_number_and_in_no_text_of_the_keys(given):
    args = FcitArguments(fcit_setting="custom", fcit_stages=[["a"]], fcit_identity_noise=1.0, fcit_dp_secret=given)
    assert args.fcit_dp_secret == ("auto" if "auto" in str(given) else str(int(given)))
    assert "fcit_dp_secret" not in repr(args)


@pytest.mark.parametrize("given", [-98765, 98765.25, True, "hunter98765", "0x98765", "98 765", "٩٨٧٦٥", [98765], "Auto98765"])
def test_a_secret_of_another_form_is_refused_and_not_told(given):
    with pytest.raises(FcitError, match="`fcit_dp_secret` must be auto, or a whole number, 0 or more") as raised:
        FcitArguments(fcit_setting="custom", fcit_stages=[["a"]], fcit_identity_noise=1.0, fcit_dp_secret=given)
    assert "765" not in str(raised.value) and "True" not in str(raised.value)
