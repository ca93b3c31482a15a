"""What we rely on in PEFT. A failure here names the behavior that an upgrade changed."""

import inspect
import json

import pytest
import tiny
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer, LoraModel
from peft.tuners.lora.layer import ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.merge_utils import ties
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

from fcit_plugin.adapters.lora import ADAPTER, fresh_subspace, read_subspace
from fcit_plugin.engine.session import adapter_config
from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.state.server_state import ServerState, save_state

IDS = torch.tensor([[1, 7, 8, 9]])


def filled(model, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    return model


def test_an_adapter_is_called_default_unless_named(peft_model):
    assert list(peft_model().peft_config) == [ADAPTER]
    assert peft_model().active_adapter == ADAPTER


def test_lora_parameters_are_named_factor_then_adapter_under_base_model_model(peft_model):
    names = [name for name, _ in peft_model().named_parameters() if "lora_" in name]
    assert "base_model.model.model.layers.0.mlp.gate_proj.lora_A.default.weight" in names
    assert all(".lora_A.default.weight" in name or ".lora_B.default.weight" in name for name in names)


def test_ties_trims_elects_signs_and_takes_means_of_those_that_have_them():
    changes = [torch.tensor([4.0, 3.0, -5.0, 0.1]), torch.tensor([2.0, -6.0, 0.1, 3.0])]
    merged = ties(changes, torch.ones(2), 0.75)
    assert torch.equal(merged, torch.tensor([3.0, -6.0, -5.0, 3.0]))


def test_other_parameters_keep_their_name_under_base_model_model(peft_model, text_model):
    own = dict(AutoModelForCausalLM.from_pretrained(text_model).named_parameters())
    wrapped = {
        name.removeprefix("base_model.model.").replace(".base_layer.", ".")
        for name, _ in peft_model().named_parameters()
        if "lora_" not in name
    }
    assert wrapped == own.keys()


def test_lora_layers_keep_their_factors_in_module_dicts_by_adapter(peft_model):
    layers = [module for module in peft_model().modules() if isinstance(module, LoraLayer)]
    assert len(layers) == 6
    for layer in layers:
        assert set(layer.lora_A) == set(layer.lora_B) == {ADAPTER}
        assert isinstance(layer.lora_A[ADAPTER], nn.Linear) and layer.lora_A[ADAPTER].bias is None
        assert layer.lora_A[ADAPTER].weight.shape[0] == layer.lora_B[ADAPTER].weight.shape[1] == 4


def test_adapters_can_be_added_activated_and_deleted(peft_model):
    model = peft_model()
    model.add_adapter("second", LoraConfig(r=2, target_modules=["up_proj"], task_type="CAUSAL_LM"))
    assert model.active_adapter == ADAPTER
    model.set_adapter("second")
    assert model.active_adapter == "second"
    model.set_adapter(ADAPTER)
    model.delete_adapter("second")
    assert list(model.peft_config) == [ADAPTER]
    assert not any("second" in name for name, _ in model.named_modules())


def test_set_adapter_changes_requires_grad_so_that_we_must_put_it_back(peft_model):
    model = peft_model()
    model.add_adapter("second", LoraConfig(r=2, target_modules=["up_proj"], task_type="CAUSAL_LM"))
    model.set_adapter("second")
    flags = {name: p.requires_grad for name, p in model.named_parameters() if "lora_" in name}
    assert flags and all(flag == (".second." in name) for name, flag in flags.items())


def test_add_adapter_leaves_the_other_adapters_weights_alone(peft_model):
    model = filled(peft_model())
    before = read_subspace(model)
    model.add_adapter("second", LoraConfig(r=2, target_modules=["up_proj"], task_type="CAUSAL_LM"))
    after = read_subspace(model)
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(("rslora", "s"), [(False, 6 / 3), (True, 6 / 3**0.5)])
def test_forward_is_w_x_plus_scaling_times_b_a_x(rslora, s):
    config = LoraConfig(r=3, lora_alpha=6, target_modules=["0"], use_rslora=rslora)
    model = filled(get_peft_model(nn.Sequential(nn.Linear(5, 7)), config)).double().eval()
    layer = model.base_model.model[0]
    a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    x = torch.randn(2, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(model(x), layer.base_layer(x) + s * x @ a.T @ b.T, rtol=0, atol=1e-12)
    assert layer.scaling[ADAPTER] == pytest.approx(s)


def test_forward_calls_the_module_of_lora_a_so_that_its_hooks_fire(peft_model):
    model = filled(peft_model()).eval()
    calls = []
    layer = next(module for module in model.modules() if isinstance(module, LoraLayer))
    layer.lora_A[ADAPTER].register_forward_hook(lambda module, inputs, output: calls.append(output.shape) or output * 0)
    model(IDS)
    assert calls == [(1, 4, 4)]


def test_a_new_factor_a_is_kaiming_uniform_a_sqrt_5_as_in_our_fresh_subspace():
    model = get_peft_model(nn.Sequential(nn.Linear(5, 7)), LoraConfig(r=3, target_modules=["0"]))
    (key,) = (key for key in read_subspace(model) if "lora_A" in key)
    torch.manual_seed(17)
    model.base_model.model[0].reset_lora_parameters(ADAPTER, True)
    assert torch.equal(read_subspace(model)[key], fresh_subspace(read_subspace(model), seed=17)[key])
    assert not any(value.any() for name, value in read_subspace(model).items() if "lora_B" in name)


def test_adapters_are_float32_over_a_bfloat16_base_unless_told_otherwise(peft_model):
    dtypes = {p.dtype for n, p in peft_model(dtype=torch.bfloat16).named_parameters() if "lora_" in n}
    assert dtypes == {torch.float32}


def test_disable_adapter_gives_the_untuned_model(peft_model, text_model):
    model = filled(peft_model()).eval()
    untuned = AutoModelForCausalLM.from_pretrained(text_model)(IDS).logits
    assert not torch.equal(model(IDS).logits, untuned)
    with model.disable_adapter():
        assert torch.equal(model(IDS).logits, untuned)


def test_a_layer_looks_at_its_flag_in_each_pass_and_nothing_else_hangs_on_it(peft_model):
    model = peft_model()
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    trains = [parameter.requires_grad for parameter in model.parameters()]
    assert layers and not any(layer.disable_adapters for layer in layers)
    assert all({*layer.active_adapters} == {"default"} for layer in layers)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
        ids = torch.tensor([[5, 6, 7]])
        changed = model(ids).logits
        with model.disable_adapter():
            plain = model(ids).logits
        for layer in layers:
            layer._disable_adapters = True
        assert torch.equal(model(ids).logits, plain) and not torch.equal(changed, plain)
        for layer in layers:
            layer._disable_adapters = False
        assert torch.equal(model(ids).logits, changed)
    assert [parameter.requires_grad for parameter in model.parameters()] == trains


def test_the_keys_of_a_saved_adapter_are_those_of_our_subspace(peft_model, tmp_path):
    model = filled(peft_model())
    model.save_pretrained(tmp_path)
    saved, ours = load_file(tmp_path / "adapter_model.safetensors"), read_subspace(model)
    assert saved.keys() == ours.keys()
    assert all(torch.equal(saved[key], ours[key]) for key in ours)


def test_a_subspace_that_we_saved_loads_with_from_pretrained(peft_model, text_model, tmp_path):
    model = filled(peft_model(lora_dropout=0.1)).eval()
    tokens = SubspaceTokens.empty(2)
    tokens = type(tokens)(torch.ones(1, 2).numpy(), torch.ones(1, dtype=torch.int64).numpy())
    save_state(ServerState(tokens, {}, [read_subspace(model)], tasks=[{}]), tmp_path, adapter_config(model), {})
    base = AutoModelForCausalLM.from_pretrained(text_model)
    loaded = PeftModel.from_pretrained(base, tmp_path / "subspaces" / "0").eval()
    assert torch.equal(loaded(IDS).logits, model(IDS).logits)


def test_to_dict_of_a_configuration_is_json_but_for_sets(peft_model):
    config = adapter_config(peft_model())
    assert json.loads(json.dumps(config))["target_modules"] == sorted(["gate_proj", "up_proj", "down_proj"])
    assert (config["peft_type"], config["r"], config["lora_alpha"], config["inference_mode"]) == ("LORA", 4, 8, True)


@pytest.mark.parametrize(
    "field", ["r", "lora_alpha", "use_rslora", "lora_dropout", "inference_mode", "target_modules", "target_parameters"]
)
def test_lora_config_has_the_fields_that_the_stacked_adapter_replaces(field):
    assert field in inspect.signature(LoraConfig).parameters


def test_generate_of_the_wrapped_model_takes_what_the_base_takes(peft_model):
    output = (
        filled(peft_model())
        .eval()
        .generate(
            input_ids=IDS,
            attention_mask=torch.ones_like(IDS),
            max_new_tokens=2,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    )
    assert output.shape == (1, 6)
    assert tiny.tokenizer().decode(output[0])


class TestParamWrapper:
    """LoRA on a parameter [E, d1, d2]; what its factors mean is held against the merged weights in adapters/test_fused.py."""

    def make(self):
        module = nn.Module()
        module.experts = nn.Module()
        module.experts.one, module.experts.two = nn.Parameter(torch.randn(3, 4, 5)), nn.Parameter(torch.randn(3, 6, 7))
        parts = {"target_modules": [], "target_parameters": ["experts.two", "experts.one"]}
        return LoraModel(module, LoraConfig(r=2, lora_alpha=2, **parts), "default").model.experts

    def test_the_second_parameter_of_a_module_is_outside_of_the_first(self):
        outer = self.make()
        assert isinstance(outer, ParamWrapper) and isinstance(outer.base_layer, ParamWrapper)
        assert (outer.parameter_name, outer.base_layer.parameter_name) == ("two", "one")
        assert outer.get_base_layer() is outer.base_layer.base_layer

    def test_the_rank_runs_over_experts_first_in_a_and_last_in_b(self):
        layer = self.make().base_layer
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        assert (layer.num_experts, a.shape, b.shape) == (3, (6, 4), (5, 6))
        nn.init.normal_(b)
        expected = torch.stack([a.unflatten(0, (3, 2))[e].T @ b.unflatten(1, (2, 3))[..., e].T for e in range(3)])
        torch.testing.assert_close(layer.get_delta_weight("default"), expected)

    def test_it_takes_a_second_adapter_by_itself_and_gives_it_up(self):
        layer = self.make()
        layer.update_layer("more", 4, 8, lora_dropout=0.0, init_lora_weights=False, use_rslora=False)
        assert layer.lora_A["more"].weight.shape == (12, 6) and layer.scaling["more"] == 2
        assert layer.active_adapters == ["default"] and not layer.disable_adapters
        layer.delete_adapter("more")
        assert "more" not in layer.lora_A

    def test_dropout_and_batches_of_several_adapters_are_not_for_it(self):
        layer = self.make()
        with pytest.raises(ValueError, match="lora_dropout"):
            layer.update_layer("more", 4, 8, lora_dropout=0.1, init_lora_weights=False, use_rslora=False)
        with pytest.raises(ValueError, match="mixed adapter batches"):
            layer(torch.zeros(1), adapter_names=["default"])
