"""What tells one base model from another of its shape, in whatever precision it is loaded."""

import itertools

import pytest
import tiny
import torch
from accelerate import disk_offload
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from fcit_plugin.adapters.base_sample import NUM_NUMBERS, NUM_WEIGHTS, base_sample, is_another_base
from fcit_plugin.schema import checked
from fcit_plugin.state.forms import Manifest

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MODELS = {"llama": tiny.llama, "qwen3": tiny.qwen3, "llava": tiny.llava, "qwen25_vl": tiny.qwen25_vl}


@pytest.fixture(params=MODELS)
def load(request, tmp_path):
    folder = MODELS[request.param](tmp_path / "model")
    images = request.param in ("llava", "qwen25_vl")
    cls = AutoModelForImageTextToText if images else AutoModelForCausalLM
    return lambda dtype: cls.from_pretrained(folder, dtype=dtype)


def changed(model, share):
    """The model after a training that has moved its numbers by about this share."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_((1 + share * torch.randn(weight.shape, generator=generator)).to(weight.dtype))
    return model


def test_one_model_in_every_precision_is_one_and_another_is_another(load):
    for trained, served in itertools.product(DTYPES, DTYPES):
        model = get_peft_model(load(trained), LoraConfig(r=2, target_modules="all-linear"))
        sample = base_sample(model)
        assert sample == base_sample(load(trained)), "LoRA has changed names or numbers"
        assert 0 < len(sample) <= NUM_WEIGHTS
        assert all(len(digits) == 4 * NUM_NUMBERS for digits in sample.values())
        assert not is_another_base(load(served), sample)
        assert is_another_base(changed(load(served), 0.02), sample)


def test_more_tokens_are_no_other_model(load):
    sample, model = base_sample(load(torch.float32)), load(torch.float32)
    model.resize_token_embeddings(model.get_input_embeddings().num_embeddings + 64)
    assert not is_another_base(model, sample)


def test_what_is_quantized_or_elsewhere_tells_nothing(load):
    model, sample = changed(load(torch.float32), 0.02), base_sample(load(torch.float32))
    assert not is_another_base(model, {}), "a run of before has no sample"
    assert not is_another_base(model, {f"{name}.x": digits for name, digits in sample.items()})
    model.requires_grad_(False)
    for weight in model.parameters():
        weight.data = weight.to(torch.int8)
    assert not is_another_base(model, sample)
    assert base_sample(model) == {}


@pytest.mark.parametrize("whole", [False, True])
def test_what_is_offloaded_tells_nothing_and_the_rest_tells_all(whole, load, tmp_path):
    sample = base_sample(load(torch.float32))
    for trained_otherwise in (False, True):
        model = load(torch.float32)
        if trained_otherwise:
            changed(model, 0.02)
        away = model if whole else model.get_decoder().layers
        disk_offload(away, str(tmp_path / f"offload{trained_otherwise}"), torch.device("cpu"))
        assert any(weight.is_meta for weight in model.parameters())
        assert is_another_base(model, sample) == (trained_otherwise and not whole)


def test_a_sample_is_of_its_form_whatever_weights_a_model_has():
    model = torch.nn.Module()
    shapes = {"none": (0, 4), "none_either": (4, 0), "one": (1, 1), "few": (2, 3), "many": (20, 20), "experts": (2, 3, 4)}
    for name, shape in shapes.items():
        model.register_parameter(name, torch.nn.Parameter(torch.ones(shape)))
    sample = base_sample(model)
    assert {name: len(digits) // 4 for name, digits in sample.items()} == {"one": 1, "few": 6, "many": 16, "experts": 16}
    checked(dict[str, Manifest.__annotations__["base_sample"]], {"sample": sample}, "sample", "")
    assert not is_another_base(model, sample)
