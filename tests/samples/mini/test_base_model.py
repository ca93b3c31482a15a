"""The shipped base model: small, loadable, in LLaMA-Factory's format, able to see."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

import fcit_plugin.samples.mini
from fcit_plugin.samples.mini.scenes import Thing, ThingScene
from tools.mini_pretraining.packing import PROMPT, Packer
from tools.mini_pretraining.pretrain import answer_accuracy
from tools.mini_pretraining.tokenizer import build_tokenizer

BASE = Path(fcit_plugin.samples.mini.__file__).parent / "base_model"


@pytest.fixture(scope="module")
def model():
    return LlavaForConditionalGeneration.from_pretrained(BASE, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(BASE)


def test_size_and_log():
    assert (BASE / "model.safetensors").stat().st_size <= 16_000_000
    log = json.loads((BASE / "pretrain_log.json").read_text())
    assert "seed" in log["recipe"] and log["records"]


def test_shipped_tokenizer_is_the_built_one(processor):
    assert processor.tokenizer.backend_tokenizer.to_str() == build_tokenizer().backend_tokenizer.to_str()


def test_answers_its_own_questions(model, processor):
    scores = answer_accuracy(model, Packer(processor.tokenizer), np.random.default_rng(11), batches=2)
    assert scores["mean"] > 0.5


def test_generates_and_stops(model, processor):
    scene = ThingScene(2, (Thing("circle", "red", "filled", (0, 0)),), (250, 250, 250))
    text = PROMPT.format(question="Spot for red")
    inputs = processor(text=[text], images=[Image.fromarray(scene.pixels)], return_tensors="pt")
    inputs.pop("token_type_ids", None)
    output = model.generate(**inputs)
    answer = processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer == "upper west"


def test_prompt_is_what_llamafactory_makes(processor):
    """The base must meet in tuning the very format it was pre-trained in."""
    template = replace(pytest.importorskip("llamafactory.data.template").TEMPLATES["llava"], default_system="")
    message = {"role": "user", "content": "<image>\nWhat is shown?"}
    reply = {"role": "assistant", "content": "CAT"}
    image = Image.new("RGB", (48, 48))
    messages = template.mm_plugin.process_messages([message, reply], [image], [], [], _with_limits(processor))
    ((prompt, answer),) = template.encode_multiturn(processor.tokenizer, messages)
    packed = Packer(processor.tokenizer).pack([[("What is shown?", "CAT")]])
    assert packed.input_ids[0].tolist() == prompt + answer


def _with_limits(processor):
    processor.image_max_pixels, processor.image_min_pixels = 768 * 768, 32 * 32
    return processor
