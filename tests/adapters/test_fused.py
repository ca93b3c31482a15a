"""LoRA on fused experts: each token of a batch is answered by its own weighted subspaces, as by weights with these merged."""

import pytest
import torch
from architectures import ARCHITECTURES, FUSED
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import ParamWrapper
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from fcit_plugin.adapters.fused import check_fused, fused_parameters, short_names
from fcit_plugin.adapters.lora import lora_parameters, read_subspace, shared_parameters
from fcit_plugin.adapters.peft_folder import fixed_adapter, write_adapter
from fcit_plugin.adapters.stacked import activated, attach, fold_weights
from fcit_plugin.engine.session import adapter_config
from fcit_plugin.errors import FcitError

BOTH = ["experts.gate_up_proj", "experts.down_proj"]
#: One of the common form, one whose tokens are flattened beside shared experts, one with biases and transposed weights.
QUICK = ("mixtral", "qwen3_next", "gpt_oss")
OF_ITS_OWN = ("granitemoehybrid", "llama4")
WEIGHTS = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, -0.3]])

pytestmark = pytest.mark.filterwarnings("ignore:Unsupported layer type")  # PEFT looks at modules' classes


class Bench:
    """A tiny model with two random subspaces on all experts and on the attention's outputs."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        ARCHITECTURES[name].make(folder)
        generator = torch.Generator().manual_seed(1)
        blank = read_subspace(self.peft())
        self.subspaces = [
            {key: torch.randn(value.shape, generator=generator) / 4 for key, value in blank.items()} for _ in range(2)
        ]
        self.ids = torch.randint(20, 200, (3, 6), generator=generator)

    def base(self):
        kind = AutoModelForImageTextToText if ARCHITECTURES[self.name].images else AutoModelForCausalLM
        return kind.from_pretrained(self.folder, dtype=torch.float32).eval()

    def peft(self):
        shape = {"r": 2, "lora_alpha": 4, "target_modules": ["o_proj"], "task_type": "CAUSAL_LM"}
        return get_peft_model(self.base(), LoraConfig(**shape, target_parameters=BOTH)).eval()

    def merged(self, weights):
        """The base weights with sum_k w_k times what PEFT adds of subspace k alone."""
        base, total = self.base(), {}
        for weight, subspace in zip(weights, self.subspaces, strict=True):
            model = self.peft()
            for key, parameter in lora_parameters(model).items():
                parameter.data.copy_(subspace[key])
            for key, value in model.merge_and_unload().state_dict().items():
                total[key] = total.get(key, 0) + float(weight) * (value - base.state_dict()[key])
        base.load_state_dict({key: value + total[key] for key, value in base.state_dict().items()})
        return base

    def answer(self, model, ids):
        with torch.no_grad():
            return model(input_ids=ids).logits


@pytest.fixture(scope="module", params=[pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in FUSED])
def bench(request, tmp_path_factory):
    return Bench(request.param, tmp_path_factory.mktemp(request.param))


def test_each_sample_of_a_batch_is_answered_by_its_own_subspaces(bench):
    model = bench.peft()
    before = bench.answer(model, bench.ids)
    expected = [bench.answer(bench.merged(own), ids[None])[0] for own, ids in zip(WEIGHTS, bench.ids, strict=True)]
    with activated(model, bench.subspaces) as activation:
        activation.set(WEIGHTS)
        found = bench.answer(model, bench.ids)
        activation.set(WEIGHTS[:1].expand(3, -1))
        alike = bench.answer(model, bench.ids)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(alike[0], expected[0], atol=1e-4, rtol=1e-4)
    assert (expected[0] - bench.answer(bench.merged(WEIGHTS[1]), bench.ids[:1])[0]).abs().max() > 1e-2
    assert torch.equal(bench.answer(model, bench.ids), before), "afterwards PEFT computes the layers as before"


def test_fixed_weights_are_one_adapter_and_one_merged_model(bench, tmp_path):
    weights = WEIGHTS[2].tolist()
    expected = bench.answer(bench.merged(weights), bench.ids)
    model = bench.peft()
    state, config = fixed_adapter(bench.subspaces, weights, adapter_config(model))
    write_adapter(tmp_path, state, config, str(bench.folder))
    adapter = PeftModel.from_pretrained(bench.base(), str(tmp_path)).eval()
    torch.testing.assert_close(bench.answer(adapter, bench.ids), expected, atol=1e-4, rtol=1e-4)
    activation = attach(model, bench.subspaces)
    activation.remove()
    fold_weights(model, WEIGHTS[2], activation.rank)
    whole = model.merge_and_unload(adapter_names=["fcit_stacked"])
    torch.testing.assert_close(bench.answer(whole, bench.ids), expected, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(module, ParamWrapper) for module in whole.modules())


def test_their_factors_are_a_subspace_and_nothing_else_of_them_is_trained(bench):
    model = bench.peft()
    keys = [key for key in lora_parameters(model) if ".experts." in key]
    layers = {name.rpartition(".")[0] for name in fused_parameters(bench.base())}
    assert len(keys) == 4 * len(layers) > 0
    assert not shared_parameters(model)


@pytest.mark.parametrize("name", [*OF_ITS_OWN, "llama"])
def test_other_models_are_refused_by_a_sentence(name, tmp_path):
    ARCHITECTURES[name].make(tmp_path)
    model = (AutoModelForImageTextToText if ARCHITECTURES[name].images else AutoModelForCausalLM).from_pretrained(tmp_path)
    with pytest.raises(FcitError, match="`fcit_target_parameters`: no fused experts of the base model are named 'experts"):
        check_fused(model, ["experts.up"])
    known = fused_parameters(model)
    assert not any(known.values()) and bool(known) == (name in OF_ITS_OWN)
    for target in short_names(known):
        with pytest.raises(FcitError, match="is computed in a way of its own"):
            check_fused(model, [target])
