"""A whole run on a tiny Qwen2.5-VL: its merger is the shared projector, and images keep their grid positions."""

import pytest
import tiny
import torch
from llamafactory.hparams import get_train_args
from PIL import Image
from runs import run_recipe
from safetensors.torch import load_file
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from fcit_plugin.engine.evaluator import Row
from fcit_plugin.engine.model_inputs import padding
from fcit_plugin.engine.open_session import open_session

PROMPT = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|> which letter<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def keys(qwen25_vl_model, image_data, tmp_path_factory):
    """A recipe of one round in each of two stages, with the merger trained."""
    return tiny.recipe(
        qwen25_vl_model,
        image_data,
        tmp_path_factory.mktemp("qwen_vl") / "out",
        template="qwen2_vl",
        freeze_multi_modal_projector=False,
        fcit_num_rounds=1,
        fcit_eval_restricted=False,
        fcit_zero_shot=False,
    )


@pytest.fixture(scope="module")
def run(keys):
    return run_recipe(keys)


def test_only_the_language_model_gets_lora_although_the_vision_blocks_have_layers_of_the_same_names(run, qwen25_vl_model):
    base = Qwen2_5_VLForConditionalGeneration.from_pretrained(qwen25_vl_model)
    layers = [name for name, _ in base.named_modules() if name.endswith(("gate_proj", "up_proj", "down_proj"))]
    assert any("visual.blocks" in name for name in layers), "else the test would not tell"
    subspace = load_file(run / "subspaces" / "0" / "adapter_model.safetensors")
    expected = {f"base_model.model.{name}.lora_{factor}.weight" for name in layers if "visual" not in name for factor in "AB"}
    assert subspace.keys() == expected


def test_the_merger_is_trained_and_saved_under_the_base_models_names(run, qwen25_vl_model):
    base = Qwen2_5_VLForConditionalGeneration.from_pretrained(qwen25_vl_model)
    before = {name: value.detach() for name, value in base.named_parameters() if ".merger." in name}
    after = load_file(run / "shared.safetensors")
    assert after.keys() == before.keys()
    assert all(not torch.equal(after[key], before[key]) for key in before)


def test_evaluation_places_image_tokens_in_the_grid_that_the_models_own_processor_gives(
    keys, qwen25_vl_model, tmp_path, monkeypatch
):
    image = Image.new("RGB", (84, 56), (220, 30, 30))
    processor = AutoProcessor.from_pretrained(qwen25_vl_model)
    inputs = processor(text=[PROMPT], images=[image], return_tensors="pt")
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(qwen25_vl_model)
    expected, _ = model.model.get_rope_index(
        inputs["input_ids"],
        image_grid_thw=inputs["image_grid_thw"],
        attention_mask=inputs["attention_mask"],
        mm_token_type_ids=inputs["mm_token_type_ids"],
    )
    assert not torch.equal(expected[1], expected[2]), "height and width differ inside an image of 2 x 3 tokens"

    session = open_session(*get_train_args({**keys, "output_dir": str(tmp_path / "out")}))
    evaluator = session.evaluator(session.pipeline.label_sets(session.scenario.all_datasets(), {}))
    seen = []
    session.model.get_base_model().model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["position_ids"]), with_kwargs=True
    )
    feature = {"input_ids": inputs["input_ids"][0].tolist(), "attention_mask": [1] * inputs["input_ids"].shape[1]}
    with padding(session.pipeline.tokenizer, "left"):
        row = Row("", 0, feature | {"images": [image]}, PROMPT)
        evaluator._generate_batch([row], evaluator._inputs([row]))
    torch.testing.assert_close(seen[0][-3:], expected)
