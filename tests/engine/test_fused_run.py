"""A run whose subspaces are on fused experts: trained, evaluated, exported, given away and asked."""

import pytest
import torch
from architectures import ARCHITECTURES
from peft import PeftModel
from runs import report_of, run_recipe
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from walk import Walk

from fcit_plugin.errors import FcitError
from fcit_plugin.knowledge.images import features_by_row
from fcit_plugin.serving.export_adapters import export_adapters
from fcit_plugin.serving.trained import TrainedRun

BOTH = "experts.gate_up_proj,experts.down_proj"
pytestmark = pytest.mark.filterwarnings("ignore:Unsupported layer type")


@pytest.fixture(scope="module")
def walk(text_data, tmp_path_factory):
    changes = {"fcit_target_parameters": BOTH, "learning_rate": 0.05}
    made = Walk(ARCHITECTURES["qwen3_moe"], text_data, tmp_path_factory.mktemp("fused"), changes)
    made.train()
    return made


def alone(walk, k):
    """The base model with subspace k, by PEFT alone."""
    base = AutoModelForCausalLM.from_pretrained(walk.base, dtype=torch.float32)
    return PeftModel.from_pretrained(base, str(walk.run / "subspaces" / str(k))).eval()


def test_the_experts_are_trained_and_the_scores_are_there(walk):
    walk.evaluate()
    for k in range(2):
        factors = load_file(walk.run / "subspaces" / str(k) / "adapter_model.safetensors")
        learned = [key for key, value in factors.items() if ".experts." in key and ".lora_B." in key and value.any()]
        assert len(learned) == 4
    assert not report_of(walk.run)["product_errors"]


def test_each_sample_of_a_batch_is_answered_as_by_peft_and_so_is_what_is_given_away(walk, tmp_path):
    trained, (batch, *single) = TrainedRun.read(walk.run), walk._prompts(3)
    model, activation = trained.stacked(walk._whole(trained))
    activation.set(torch.eye(2)[[0, 1, 0]], image_tokens=features_by_row(batch["input_ids"], batch, model.config))
    export_adapters(walk.run, tmp_path / "adapters")
    given = PeftModel.from_pretrained(walk._whole(trained), str(tmp_path / "adapters" / "subspace_1")).eval()
    with torch.no_grad():
        found = model.eval()(**batch).logits
        expected = [alone(walk, k)(**inputs).logits[0] for k, inputs in zip((0, 1, 0), single, strict=True)]
        torch.testing.assert_close(given(**single[1]).logits[0], expected[1], atol=1e-4, rtol=1e-4)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("step", ["export", "chat", pytest.param("predict", marks=pytest.mark.slow)])
def test_it_is_exported_and_asked(walk, step):
    getattr(walk, step)()


@pytest.mark.parametrize("method", ["sequential", "disco_plus", "ewc", "lwf", "replay", "a_gem"])
@pytest.mark.slow
def test_every_other_method_that_is_not_refused_trains_them(text_data, tmp_path, method):
    changes = {"fcit_target_parameters": BOTH, "fcit_method": method, "learning_rate": 0.05}
    walk = Walk(ARCHITECTURES["mixtral"], text_data, tmp_path, changes)
    run_recipe(walk.keys)
    walk.evaluate()
    factors = load_file(walk.run / "subspaces" / "0" / "adapter_model.safetensors")
    assert all(value.any() for key, value in factors.items() if ".experts." in key)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"lora_dropout": 0.1}, "`lora_dropout` cannot be used with `fcit_target_parameters"),
        ({"quantization_bit": 4}, "`quantization_bit` cannot be used with `fcit_target_parameters"),
        ({"fcit_method": "c_lora"}, "`fcit_target_parameters` cannot be used with `fcit_method: c_lora`"),
        ({"fcit_method": "o_lora"}, "`fcit_target_parameters` cannot be used with `fcit_method: o_lora`"),
        ({"fcit_method": "moe_lora"}, "`fcit_target_parameters` cannot be used with `fcit_method: moe_lora`"),
        *(
            (
                {"fcit_lora_aggregation": name, "fcit_method": "sequential"},
                f"`fcit_target_parameters` cannot be used with `fcit_lora_aggregation: {name}`",
            )
            for name in ("refactor", "svd", "exact", "stack")
        ),
        ({"fcit_target_parameters": "gate_up_proj"}, "give it as `experts.gate_up_proj`"),
    ],
)
def test_what_cannot_go_with_them_is_refused_by_a_sentence(text_recipe, changes, match):
    with pytest.raises(FcitError, match=match):
        run_recipe(text_recipe(**{"fcit_target_parameters": BOTH, **changes}))


def test_a_model_without_any_is_refused_and_one_with_them_says_so(text_recipe, text_data, tmp_path, logged):
    with pytest.raises(FcitError, match="no fused experts of the base model are named 'experts"):
        run_recipe(text_recipe(fcit_target_parameters=BOTH))
    walk = Walk(ARCHITECTURES["mixtral"], text_data, tmp_path, {"fcit_dry_run": True})
    run_recipe(walk.keys)
    assert "To train them too, set `fcit_target_parameters: experts.down_proj,experts.gate_up_proj`." in logged.text
    with pytest.raises(FcitError, match="named 'gate_proj'; its experts are fused, see `fcit_target_parameters`"):
        run_recipe(walk.keys | {"lora_target": "gate_proj"})
