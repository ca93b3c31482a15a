"""The request that a recipe becomes: what is in it, how it travels, what it leaves alone."""

import copy
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
from datasets.fingerprint import Hasher
from llamafactory.hparams import get_infer_args, get_train_args
from llamafactory.hparams.parser import _INFER_ARGS, _TRAIN_ARGS
from runs import infer_args

from fcit_plugin.data.instructions import Instructions
from fcit_plugin.recipe.request import DataRequest, read_infer_request, read_train_request


def test_llamafactory_is_given_the_rest_with_what_the_keys_imply(text_recipe):
    recipe = text_recipe(do_train=None, fcit_local_stage="sft")
    keys, request = read_train_request(dict(recipe), _TRAIN_ARGS)
    expected = {key: value for key, value in recipe.items() if not key.startswith("fcit_")}
    assert keys == expected | {"stage": "sft", "do_train": True, "dataset": "color,letter"}
    assert (request.stage, request.base_model) == ("fcit", keys["model_name_or_path"])
    assert (request.earlier, request.evaluated, request.own_data, dict(request.aside)) == (None, None, False, {})
    assert request.args is request.given


def test_a_model_inside_the_package_keeps_its_name_beside_its_folder():
    given = {"model_name_or_path": "fcit-mini", "template": "llava", "fcit_trace_activation": True}
    keys, request = read_infer_request(given, _INFER_ARGS)
    assert request.base_model == "fcit-mini"
    assert Path(keys["model_name_or_path"]).is_dir()


def test_a_bound_has_its_own_keys_beside_those_given(text_recipe):
    keys, request = read_train_request(text_recipe(fcit_bound="centralized"), _TRAIN_ARGS)
    assert (request.args.fcit_num_clients, request.given.fcit_num_clients) == (1, 3)
    assert keys["lora_rank"] == 2 * 4


def test_a_dry_run_sets_aside_what_needs_devices(text_recipe):
    keys, request = read_train_request(text_recipe(fcit_dry_run=True, fp16=True), _TRAIN_ARGS)
    assert request.aside == {"fp16": True}
    assert "fp16" not in keys and keys["use_cpu"] is True


@pytest.mark.parametrize("own", [True, False])
def test_a_site_may_name_data_of_its_own(text_recipe, tmp_path, own):
    more = {"dataset": "letter"} if own else {}
    given = text_recipe(stage="fcit_client", fcit_client=0, fcit_state_dir=str(tmp_path), **more)
    keys, request = read_train_request(given, _TRAIN_ARGS)
    assert request.own_data is own
    assert keys["dataset"] == ("letter" if own else "color,letter")


def test_one_attribute_travels_on_three_of_the_argument_objects(text_recipe):
    parsed = get_train_args(text_recipe())
    ours = [[name for name in vars(part) if name.startswith("fcit")] for part in parsed]
    assert ours == [["fcit_request"], ["fcit_request"], [], ["fcit_request"], []]
    request = parsed[3].fcit_request
    assert request.data_args is parsed[1] and request.generating_args is parsed[4]
    with pytest.raises(FrozenInstanceError):
        request.stage = "fcit_client"


def test_argument_objects_with_a_request_are_copied_and_reported_as_before(text_recipe):
    """Trainers copy them, reporters to swanlab and the like take ``to_dict``."""
    finetuning_args = get_train_args(text_recipe())[3]
    for copied in (copy.copy(finetuning_args), copy.deepcopy(finetuning_args)):
        assert copied.fcit_request.args == finetuning_args.fcit_request.args
        assert copied.fcit_request.data_args.dataset == ["color", "letter"]
    assert finetuning_args.to_dict().keys() == {item.name for item in fields(finetuning_args)}


def test_data_are_not_read_again_for_keys_that_do_not_change_them(text_recipe):
    """The library datasets caches by a fingerprint of the data arguments."""
    one, other = (get_train_args(text_recipe(fcit_temperature=value))[1] for value in (0.1, 0.2))
    assert Hasher.hash(one.fcit_request) == Hasher.hash(other.fcit_request)
    kept = DataRequest(instructions=Instructions())
    before = Hasher.hash(kept)
    kept.instructions.remember([1, 2], ("what is it",))
    assert kept.instructions.recall([1, 2]) == ("what is it",) and Hasher.hash(kept) == before


def test_inference_keeps_instructions_for_a_folder_alone(text_run, text_keys):
    *_, finetuning_args, _ = get_infer_args(infer_args(text_keys, text_run))
    request = finetuning_args.fcit_request
    assert isinstance(request.data_args.fcit_request.instructions, Instructions)
    assert request.stage is None and request.generating_args is not None
    plain = get_infer_args({key: text_keys[key] for key in ("model_name_or_path", "template")})
    assert not any(name.startswith("fcit") for part in plain for name in vars(part))
