"""What a client tells of its records depends on these alone: not on what was asked before, and not on what was learned."""

import random

import numpy as np
import pytest
import torch
from llamafactory.hparams import get_train_args
from transformers import AutoModelForCausalLM, AutoTokenizer

from fcit_plugin.adapters.base_change import add_pairs
from fcit_plugin.engine.open_session import open_session
from fcit_plugin.federation.messages import ClientConfig
from fcit_plugin.knowledge.activation import Router
from fcit_plugin.knowledge.encoders import make_encoder
from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.knowledge.turns import learned_tokens


def without_images():
    return []


@pytest.fixture(scope="module")
def told(text_model):
    """Texts of many lengths, and makes an encoder on half precision, whose digits depend on a batch the most."""
    model = AutoModelForCausalLM.from_pretrained(text_model, dtype=torch.bfloat16).eval()
    tokenizer = AutoTokenizer.from_pretrained(text_model)
    words = [word for word in sorted(tokenizer.get_vocab()) if not word.startswith("<")]
    draw = random.Random(0)
    texts = [(" ".join(draw.choices(words, k=draw.randint(3, 25))),) for _ in range(300)]
    return texts, lambda name: make_encoder(name, "mean", True, model, tokenizer)


@pytest.mark.parametrize("name", ["embedding", "prompt", "a text encoder"])
def test_the_tokens_of_records_are_the_same_whatever_was_asked_before(name, told, clip_model):
    texts, make = told
    name = str(clip_model) if " " in name else name
    own, others = texts[:200], texts[100:]
    fresh = learned_tokens(make(name), own, "first", without_images)
    used = make(name)
    learned_tokens(used, others, "first", without_images)
    router = Router(used, SubspaceTokens(fresh[:2].copy(), np.ones(2, np.int64)), "softmax", 0.05, "first")
    router.listen(others)
    np.testing.assert_array_equal(learned_tokens(used, own, "first", without_images), fresh)
    router.listen(others)
    router.forget()
    other = Router(make(name), router.tokens, "softmax", 0.05, "first")
    np.testing.assert_array_equal(router.listen(own)[0], other.listen(own)[0])


@pytest.mark.parametrize("encoder", ["embedding", "prompt"])
def test_the_tokens_of_records_are_those_of_the_base_model_as_it_was_loaded(encoder, text_recipe):
    keys = {"fcit_method": "sequential", "fcit_lora_aggregation": "exact", "fcit_identity_encoder": encoder}
    session = open_session(*get_train_args(text_recipe(**keys)))
    config = ClientConfig("run", 0, 0, 0, 0)
    expected = session.local().token(config).mean
    layer = next(key for key in session.program.blank if ".lora_A." in key).partition(".lora_")[0]
    layer = layer.removeprefix("base_model.model.")
    weight = session.model.get_base_model().get_submodule(layer).get_base_layer().weight
    before = weight.detach().clone()
    change = add_pairs({}, {f"base_model.model.{layer}": (torch.ones(weight.shape[0], 1), torch.ones(1, weight.shape[1]))})
    session.base_weights.write(change)
    assert not torch.equal(weight, before)
    local = session.local()
    np.testing.assert_array_equal(local.token(config).mean, expected)
    local.train(config, session.program.fresh(0), {}, {"base": change})
    assert not torch.equal(weight, before), "a training has what the server has added"
