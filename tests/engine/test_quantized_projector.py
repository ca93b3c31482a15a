"""A trained projector on a quantized base model: it stays as it is, is trained, and is put where it was to answer."""

import pytest
import tiny
import torch
from llamafactory.chat import ChatModel
from llamafactory.hparams import get_infer_args, get_train_args
from llamafactory.model import load_model, load_tokenizer
from peft import PeftModel
from runs import infer_args, run_recipe
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from fcit_plugin.adapters.base_weights import BaseWeights
from fcit_plugin.adapters.quantized import is_packed, is_quantized
from fcit_plugin.engine.trainable import check_projector, projectors
from fcit_plugin.errors import FcitError
from fcit_plugin.serving.trained import TrainedRun

bitsandbytes = pytest.importorskip("bitsandbytes")
BITS = {4: bitsandbytes.nn.Linear4bit, 8: bitsandbytes.nn.Linear8bitLt}
SHORT = {"fcit_stages": [["color"]], "fcit_num_rounds": 1, "fcit_zero_shot": False, "use_cpu": True}


def loaded(keys, **more):
    """The model that LLaMA-Factory loads for these keys of a recipe."""
    model_args, _, _, finetuning_args, _ = get_train_args({**keys, **more})
    return load_model(load_tokenizer(model_args)["tokenizer"], model_args, finetuning_args, is_trainable=True)


def packed_layers(model, bits) -> set[str]:
    names = {name for name, module in model.named_modules() if isinstance(module, BITS[bits])}
    return {name.removeprefix("base_model.model.").removesuffix(".base_layer") for name in names}


def plain(keys):
    """The same training as one of LLaMA-Factory's own."""
    ours = {key: value for key, value in keys.items() if not key.startswith("fcit_")}
    return {**ours, "stage": "sft", "dataset": "color"}


@pytest.fixture(params=BITS)
def bits(request):
    return request.param


@pytest.fixture(params=["llava", "qwen25_vl"])
def keys(request, bits, image_data, tmp_path):
    template = {"llava": "llava", "qwen25_vl": "qwen2_vl"}[request.param]
    model = request.getfixturevalue(f"{request.param}_model")
    quantized = {"quantization_bit": bits, "freeze_multi_modal_projector": False, "template": template}
    return tiny.recipe(model, image_data, tmp_path / "out", **SHORT, **quantized)


def test_all_is_quantized_as_by_llamafactory_alone_but_for_the_projector(keys, bits):
    theirs = packed_layers(loaded(plain(keys)), bits)
    frozen = loaded(keys, freeze_multi_modal_projector=True)
    model = loaded(keys)
    assert packed_layers(frozen, bits) == theirs
    found = packed_layers(model, bits)
    assert found < theirs
    assert all("projector" in name or "merger" in name for name in theirs - found)
    in_full = AutoModelForImageTextToText.from_pretrained(keys["model_name_or_path"])
    for one, other in zip(projectors(model), projectors(in_full), strict=True):
        assert all(torch.equal(a.float(), b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_it_is_trained_and_answers_with_what_it_learned(keys, bits):
    output_dir = run_recipe({**keys, "fcit_eval_samples": 1})
    shared = load_file(output_dir / "shared.safetensors")
    before = dict(AutoModelForImageTextToText.from_pretrained(keys["model_name_or_path"]).named_parameters())
    assert shared
    for key, value in shared.items():
        assert torch.isfinite(value).all()
        assert value.shape == before[key].shape
        assert not torch.equal(value, before[key])
    chat = ChatModel(infer_args(keys, output_dir, quantization_bit=bits, max_new_tokens=2))
    served = {name.removeprefix("base_model.model."): value for name, value in chat.engine.model.named_parameters()}
    assert all(torch.equal(served[key].cpu(), value.to(served[key].dtype)) for key, value in shared.items())
    assert packed_layers(chat.engine.model, bits)
    assert chat.chat([{"role": "user", "content": "which letter belongs to it"}])[0].response_length


class TestWhereThePackageCannotLeaveItOut:
    @pytest.mark.parametrize("method", ["hqq", "eetq"])
    def test_the_dry_run_names_both_keys(self, llava_model, image_data, tmp_path, method):
        keys = {"quantization_bit": 8, "quantization_method": method, "freeze_multi_modal_projector": False}
        recipe = tiny.recipe(llava_model, image_data, tmp_path / "out", **SHORT, **keys, fcit_dry_run=True)
        with pytest.raises(FcitError, match=r"(?s)quantization_method.*freeze_multi_modal_projector"):
            run_recipe(recipe)
        run_recipe({**recipe, "freeze_multi_modal_projector": True})

    def test_a_projector_that_is_quantized_already_is_refused_before_it_trains(self, keys):
        model = loaded(keys, freeze_multi_modal_projector=True)
        with pytest.raises(FcitError, match=r"is quantized and cannot be trained, as `freeze_multi_modal_projector: false`"):
            check_projector(model, frozen=False, bits=None, method="bnb")
        check_projector(model, frozen=True, bits=None, method="bnb")

    def test_what_was_trained_is_not_put_into_packed_bytes(self, llava_run, llava_model, bits):
        given = {"model_name_or_path": str(llava_model), "template": "llava", "quantization_bit": bits}
        model_args, _, finetuning_args, _ = get_infer_args(given)  # no folder is named: all is quantized
        model = load_model(load_tokenizer(model_args)["tokenizer"], model_args, finetuning_args)
        with pytest.raises(FcitError, match=r"multi_modal_projector\.linear_1\.weight is quantized; take one that is not"):
            TrainedRun.read(llava_run).put_shared(model)


def test_packed_bytes_are_told_from_weights_whatever_tensor_they_lie_in(bits, text_recipe):
    layers = {dtype: bitsandbytes.nn.Linear4bit(64, 64, quant_storage=dtype) for dtype in (torch.uint8, torch.float32)}
    assert all(is_packed(layer.weight) for layer in layers.values())
    assert not is_packed(torch.nn.Linear(2, 2).weight)
    buffered = torch.nn.Linear(2, 2)
    buffered.register_buffer("qweight", torch.zeros(2, 2, dtype=torch.int32))
    assert is_quantized(buffered)
    model = loaded(text_recipe(quantization_bit=bits, use_cpu=True))
    assert isinstance(model, PeftModel)
    with pytest.raises(FcitError, match="cannot be changed: it is quantized"):
        BaseWeights(model)
