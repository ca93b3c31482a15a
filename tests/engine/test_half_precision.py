"""Clients in half precision: a bfloat16 LLaVA with its projector trained, and mixed precision over many clients."""

import math
from types import SimpleNamespace

import pytest
import torch
from runs import report_of, run_recipe
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

import fcit_plugin.engine.client_training as local
from fcit_plugin.engine.trainable import projectors, unfreeze_projector


@pytest.fixture(scope="module")
def bf16_llava(llava_model, tmp_path_factory):
    """The tiny LLaVA as a bfloat16 checkpoint."""
    folder = tmp_path_factory.mktemp("bf16")
    LlavaForConditionalGeneration.from_pretrained(llava_model).to(torch.bfloat16).save_pretrained(folder)
    AutoProcessor.from_pretrained(llava_model).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("mixed", [True, False])
def test_a_bfloat16_model_trains_and_answers_with_its_projector_in_float32(llava_recipe, bf16_llava, mixed):
    keys = llava_recipe(
        model_name_or_path=str(bf16_llava), freeze_multi_modal_projector=False, bf16=mixed, use_cpu=True, fcit_num_rounds=1
    )
    output_dir = run_recipe(keys)
    report = report_of(output_dir)
    assert all(math.isfinite(score) for row in report["accuracy"] for score in row if score is not None)
    start = {k: v.float() for k, v in LlavaForConditionalGeneration.from_pretrained(bf16_llava).state_dict().items()}
    shared = load_file(output_dir / "shared.safetensors")
    assert shared and all(value.dtype == torch.float32 for value in shared.values())
    assert any((value - start[key]).abs().max() > 0 for key, value in shared.items())


def test_mixed_precision_leaves_no_wrapper_on_the_model(text_recipe, monkeypatch):
    """Each Accelerator wraps the model's forward once more; after some hundred clients Python would give up."""
    wrapped = []

    def spy(name):
        original = getattr(local, name)

        def see(trainer):
            original(trainer)
            wrapped.append("forward" in vars(trainer.model))

        monkeypatch.setattr(local, name, see)

    spy("hush")  # before a training, and before what is tried of one in front of them all
    spy("tear_down")  # right after it
    run_recipe(text_recipe(bf16=True, use_cpu=True, fcit_eval_every="never", fcit_zero_shot=False))
    assert wrapped == [False, *[False, True] * 8]


@pytest.mark.parametrize(("stored", "engine"), [(torch.float16, torch.bfloat16), (torch.bfloat16, None)])
def test_the_projector_fits_its_neighbors_also_when_an_engine_has_cast_the_whole_model(llava_model, stored, engine):
    """DeepSpeed's bf16 engine casts every parameter, whatever precision the checkpoint and the projector had."""
    model = LlavaForConditionalGeneration.from_pretrained(llava_model, dtype=stored)
    unfreeze_projector(model, SimpleNamespace(freeze_multi_modal_projector=False, pure_bf16=False))
    (projector,) = projectors(model)
    assert projector.linear_1.weight.dtype == torch.float32
    if engine is not None:
        model.to(engine)
    ids = torch.tensor([[1, *[model.config.image_token_index] * 4, 5]])
    pixels = torch.rand(1, 3, 16, 16, dtype=engine or stored)
    logits = model(input_ids=ids, pixel_values=pixels).logits
    assert logits.dtype == (engine or stored) and logits.isfinite().all()
    logits.sum().backward()
    assert projector.linear_1.weight.grad.dtype == (engine or torch.float32)
