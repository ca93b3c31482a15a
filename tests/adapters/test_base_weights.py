"""Changes of the base weights: as factors and whole, on a model with a LoRA and without."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from fcit_plugin.adapters.base_change import add_pairs, change_of, changed_layers
from fcit_plugin.adapters.base_weights import BaseWeights, add_to

LAYER = "model.layers.0.mlp.gate_proj"
OUT, IN = 64, 32


def pair(seed, rank, out=OUT, columns=IN):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        0.1 * torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((out, rank), (rank, columns))
    )


def test_a_change_grows_as_factors_while_these_are_smaller_and_is_whole_from_then_on():
    base, expected, forms = {}, torch.zeros(OUT, IN, dtype=torch.float64), []
    for seed in range(5):
        left, right = pair(seed, 6)
        base = add_pairs(base, {f"base_model.model.{LAYER}": (left, right)})
        expected += left @ right
        torch.testing.assert_close(change_of(base, LAYER).double(), expected, rtol=1e-5, atol=1e-6)
        assert list(changed_layers(base)) == [LAYER]
        assert sum(value.numel() for value in base.values()) <= OUT * IN
        forms.append(sorted(key.rpartition(".")[2] for key in base))
    assert forms == [["A", "B"]] * 3 + [["weight"]] * 2, "6, 12, 18 of a rank are fewer numbers, 24 are more"


def test_growing_leaves_what_was_there_alone():
    base = add_pairs({}, {LAYER: pair(0, 2)})
    before = {key: value.clone() for key, value in base.items()}
    add_pairs(base, {LAYER: pair(1, 2)})
    assert base.keys() == before.keys() and all(torch.equal(base[key], before[key]) for key in base)


def weight(model, layer=LAYER):
    return dict(model.named_modules())[layer].weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_model_gets_w_plus_s_c_however_often_it_is_written_and_w_back(peft_model, text_model, dtype):
    model = peft_model(dtype)
    loaded = AutoModelForCausalLM.from_pretrained(text_model, dtype=dtype)
    layer = model.get_submodule(f"base_model.model.{LAYER}")
    weights = BaseWeights(model)
    for seed in range(3):
        left, right = pair(seed, 3)
        weights.write(add_pairs({}, {LAYER: (left, right)}))
        expected = (weight(loaded).double() + 2.0 * left @ right).to(dtype)
        torch.testing.assert_close(layer.base_layer.weight, expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-6)
    weights.write({})
    assert torch.equal(layer.base_layer.weight, weight(loaded))


def test_a_model_without_a_lora_gets_the_same_weights(peft_model, text_model):
    base = add_pairs({}, {LAYER: pair(0, 3), "model.layers.1.mlp.down_proj": pair(1, 3, IN, OUT)})
    trained, plain = peft_model(), AutoModelForCausalLM.from_pretrained(text_model, dtype=torch.float32)
    BaseWeights(trained).write(base)
    add_to(plain, base, 2.0, "a folder")
    for layer in changed_layers(base):
        assert torch.equal(trained.get_submodule(f"base_model.model.{layer}").base_layer.weight, weight(plain, layer))


def test_what_does_not_fit_is_refused(peft_model, text_model):
    model, plain = peft_model(), AutoModelForCausalLM.from_pretrained(text_model, dtype=torch.float32)
    other = add_pairs({}, {"model.layers.9.mlp.gate_proj": pair(0, 3)})
    with pytest.raises(ValueError, match=r"it has no LoRA layer model\.layers\.9"):
        BaseWeights(model).write(other)
    with pytest.raises(ValueError, match=r"in a folder does not fit this base model: it has no model\.layers\.9"):
        add_to(plain, other, 2.0, "a folder")
    with pytest.raises(ValueError, match=r"gate_proj is \[64, 16\], the model has \[64, 32\]"):
        BaseWeights(model).write(add_pairs({}, {LAYER: pair(0, 3, OUT, 16)}))


def test_weights_that_cannot_be_changed_are_refused(peft_model):
    model = peft_model()
    first, second = (model.get_submodule(f"base_model.model.model.layers.{i}.mlp.gate_proj").base_layer for i in range(2))
    second.weight = first.weight
    with pytest.raises(ValueError, match="another layer of the model uses it too"):
        BaseWeights(model)
    first.weight = torch.nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ValueError, match="quantized"):
        BaseWeights(model)
