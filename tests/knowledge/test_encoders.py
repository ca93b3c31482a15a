"""Identity encoders against means and poolings computed by hand."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from tokenizers import processors
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    set_seed,
)
from transformers.integrations import deepspeed

from fcit_plugin.errors import FcitError
from fcit_plugin.knowledge.embedding import common_directions
from fcit_plugin.knowledge.encoders import (
    CenteredEncoder,
    EmbeddingEncoder,
    TextEncoder,
    make_encoder,
    reference_instructions,
    token_dimension,
)

TEXTS = ["name the color", "which letter belongs to it", "count", "name the color of this square please"]
LONG = " ".join(["which letter belongs to it"] * 20)
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def save_with_tokenizer(model, folder, fast):
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return str(folder), model.eval(), fast


@pytest.fixture
def bert(tmp_path):
    set_seed(0)
    fast = tiny.tokenizer()
    config = BertConfig(vocab_size=len(fast), max_position_embeddings=16, pad_token_id=0, **SMALL)
    return save_with_tokenizer(BertModel(config), tmp_path / "bert", fast)


@pytest.fixture(params=["text tower", "whole model"])
def clip(request, tmp_path):
    """A CLIP whose end-of-text token has the highest id, as in the released ones."""
    set_seed(0)
    fast = tiny.tokenizer()
    fast.add_special_tokens({"eos_token": "<|endoftext|>"})
    end = ("<|endoftext|>", fast.eos_token_id)
    fast._tokenizer.post_processor = processors.TemplateProcessing(single=f"<s> $A {end[0]}", special_tokens=[("<s>", 1), end])
    text = {"vocab_size": len(fast), "max_position_embeddings": 16, "bos_token_id": 1, "pad_token_id": 0, **SMALL}
    if request.param == "text tower":
        config = CLIPTextConfig(**text, eos_token_id=2)  # the released configurations say 2, whatever the tokenizer has
        return save_with_tokenizer(CLIPTextModel(config), tmp_path / "clip", fast)
    config = CLIPConfig(
        text_config={**text, "eos_token_id": fast.eos_token_id},
        vision_config={**SMALL, "image_size": 16, "patch_size": 8},
    )
    path, _, _ = save_with_tokenizer(CLIPModel(config), tmp_path / "clip", fast)
    return path, CLIPTextModel.from_pretrained(path).eval(), fast


class TestEmbedding:
    def test_is_the_mean_of_the_base_models_own_input_embeddings(self, text_model):
        model, tokenizer = AutoModelForCausalLM.from_pretrained(text_model), tiny.tokenizer()
        found = EmbeddingEncoder(model.get_input_embeddings(), tokenizer).encode(TEXTS)
        weight = model.get_input_embeddings().weight.detach().numpy()
        for row, text in zip(found, TEXTS, strict=True):
            ids = [tokenizer.convert_tokens_to_ids(word) for word in text.split()]
            np.testing.assert_allclose(row, sum(weight[i] for i in ids) / len(ids), rtol=1e-5, atol=1e-8)
        assert found.dtype == np.float32

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_the_mean_is_taken_in_float32(self, text_model, dtype):
        model = AutoModelForCausalLM.from_pretrained(text_model).to(dtype)
        encoder = EmbeddingEncoder(model.get_input_embeddings(), tiny.tokenizer())
        ids = tiny.tokenizer()(TEXTS[3], add_special_tokens=False)["input_ids"]
        expected = model.get_input_embeddings().weight[ids].float().mean(dim=0)
        np.testing.assert_array_equal(encoder.encode([TEXTS[3]])[0], expected.detach().numpy())

    def test_an_empty_instruction_has_a_finite_token(self, text_model):
        model = AutoModelForCausalLM.from_pretrained(text_model)
        assert np.isfinite(EmbeddingEncoder(model.get_input_embeddings(), tiny.tokenizer()).encode([""])).all()


class Counting:
    """Encodes a text by its length, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def encode(self, texts):
        self.asked.append(list(texts))
        return np.array([[len(text), text.count("e")] for text in texts], np.float32)


class TestCentering:
    def test_the_mean_of_the_public_list_is_taken_away(self):
        encoder = CenteredEncoder(Counting())
        center = Counting().encode(reference_instructions()).mean(axis=0)
        np.testing.assert_allclose(encoder.encode(TEXTS), Counting().encode(TEXTS) - center, rtol=1e-6)
        assert np.abs(encoder.encode(reference_instructions()).mean(axis=0)).max() < 1e-4

    def test_it_can_be_switched_off(self):
        np.testing.assert_array_equal(CenteredEncoder(Counting(), center=False).encode(TEXTS), Counting().encode(TEXTS))

    def test_equal_texts_are_encoded_once_and_rows_keep_their_order(self):
        inner = Counting()
        encoder = CenteredEncoder(inner, center=False)
        found = encoder.encode(["bb", "a", "bb", "a", "ccc", "bb"])
        assert sorted(inner.asked[-1]) == ["a", "bb", "ccc"]
        assert found[:, 0].tolist() == [2, 1, 2, 1, 3, 2]

    def test_a_token_does_not_depend_on_the_texts_beside_it(self, bert):
        encoder = CenteredEncoder(TextEncoder(bert[0], "mean"))
        together = encoder.encode(TEXTS)
        for i, text in enumerate(TEXTS):
            np.testing.assert_allclose(encoder.encode([text])[0], together[i], atol=1e-5)

    def test_the_public_list_is_long_and_without_gaps_or_repeats(self):
        texts = reference_instructions()
        assert len(texts) >= 50
        assert len(set(texts)) == len(texts)
        assert all(text.strip() == text and text for text in texts)


class TestTextEncoder:
    def test_mean_pooling_counts_real_tokens_only(self, bert):
        path, model, fast = bert
        found = TextEncoder(path, "mean", batch_size=3).encode(TEXTS)
        with torch.no_grad():
            for row, text in zip(found, TEXTS, strict=True):
                hidden = model(torch.tensor([fast(text)["input_ids"]])).last_hidden_state[0]
                np.testing.assert_allclose(row, hidden.numpy().sum(axis=0) / len(hidden), rtol=1e-4, atol=1e-5)

    def test_eos_pooling_takes_the_last_real_token(self, bert):
        path, model, fast = bert
        found = TextEncoder(path, "eos").encode(TEXTS)
        with torch.no_grad():
            for row, text in zip(found, TEXTS, strict=True):
                hidden = model(torch.tensor([fast(text)["input_ids"]])).last_hidden_state[0]
                np.testing.assert_allclose(row, hidden[-1].numpy(), rtol=1e-4, atol=1e-5)

    def test_clip_eos_pooling_is_the_end_of_text_state_after_the_final_norm_before_projection(self, clip):
        path, model, fast = clip
        found = TextEncoder(path, "eos").encode(TEXTS)
        with torch.no_grad():
            for row, text in zip(found, TEXTS, strict=True):
                ids = [1, *(fast.convert_tokens_to_ids(word) for word in text.split()), fast.eos_token_id]
                output = model(torch.tensor([ids]), output_hidden_states=True)
                norm = next(module for name, module in model.named_modules() if name.endswith("final_layer_norm"))
                np.testing.assert_allclose(row, norm(output.hidden_states[-1])[0, -1].numpy(), rtol=1e-4, atol=1e-5)
        assert found.shape == (4, 16)

    @pytest.mark.parametrize("pooling", ["mean", "eos"])
    def test_texts_beyond_the_encoders_length_are_cut(self, clip, pooling):
        found = TextEncoder(clip[0], pooling).encode([LONG, TEXTS[0]])
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found[1], TextEncoder(clip[0], pooling).encode(TEXTS[:1])[0], rtol=1e-4, atol=1e-5)

    def test_no_gradient_is_kept_and_dropout_is_off(self, bert):
        encoder = TextEncoder(bert[0], "mean")
        np.testing.assert_array_equal(encoder.encode(TEXTS), encoder.encode(TEXTS))


def unloadable(tmp_path, bert_path, case):
    folder = tmp_path / case
    if case == "missing":
        return folder
    folder.mkdir()
    if case == "empty":
        return folder
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tmp_path / "bert" / name).read_bytes())
    if case == "no tokenizer":
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer_config.json").unlink()
    elif case == "broken config":
        (folder / "config.json").write_text("{")
    else:
        (folder / "model.safetensors").write_bytes(b"no safetensors")
    return folder


@pytest.mark.parametrize("case", ["missing", "empty", "no tokenizer", "broken config", "broken weights"])
def test_an_encoder_that_cannot_be_loaded_is_one_sentence_with_the_key_and_the_path(tmp_path, bert, case):
    folder = unloadable(tmp_path, bert[0], case)
    with pytest.raises(ValueError, match="`fcit_identity_encoder: ") as caught:
        make_encoder(str(folder), "mean", True, model=None, tokenizer=None)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_make_encoder_centers_the_embedding_of_the_model_by_default(text_model):
    """The formula by numpy alone: common directions out, length 1, weighted by rarity in the public list."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(text_model), tiny.tokenizer()
    found = make_encoder("embedding", "mean", True, model, tokenizer).encode(TEXTS)
    weight = model.get_input_embeddings().weight.detach().numpy().astype(np.float64)
    rows = weight - weight.mean(axis=0)
    _, _, right = np.linalg.svd(rows, full_matrices=False)
    rows -= rows @ right[:3].T @ right[:3]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    lists = [set(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in reference_instructions()]
    for token, text in zip(found, TEXTS, strict=True):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        rare = np.array([np.log((2 + len(lists)) / (1 + sum(i in one for one in lists))) for i in ids])
        np.testing.assert_allclose(token, rare @ rows[ids] / rare.sum(), atol=1e-4)


def test_what_a_large_vocabulary_shares_is_found_in_a_part_of_it():
    generator = torch.Generator().manual_seed(0)
    shared = torch.nn.functional.normalize(torch.randn(8, generator=generator), dim=0)
    weight = torch.randn(40_000, 8, generator=generator) * 0.1 + torch.randn(40_000, 1, generator=generator) * shared + 5
    mean, directions = (found.float() for found in common_directions(weight))
    torch.testing.assert_close(mean, torch.full((8,), 5.0), atol=0.05, rtol=0)
    assert directions.shape == (8, 3)
    assert (directions[:, -1] @ shared).abs() > 0.99


@pytest.mark.parametrize("kind", ["bert", "unheard-of"])
def test_python_beside_an_encoder_is_not_run_and_nobody_is_asked(tmp_path, bert, kind):
    folder, canary = Path(bert[0]), tmp_path / "canary"
    code = f"from pathlib import Path\nPath({str(canary)!r}).write_text('ran')\n"
    (folder / "evil.py").write_text(code)
    names = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model", "AutoTokenizer": ["evil.Tokenizer", None]}
    for name in ("config.json", "tokenizer_config.json"):
        told = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**told, "model_type": kind, "auto_map": names}))
    begun = time.monotonic()
    if kind == "bert":
        assert TextEncoder(str(folder), "mean").encode(["count"]).shape == (1, 16)
    else:
        for load in (TextEncoder, token_dimension):
            with pytest.raises(FcitError, match="cannot be loaded as a Hugging Face text encoder"):
                load(str(folder), "mean", *([] if load is TextEncoder else [False, None, None]))
    assert time.monotonic() - begun < 10, "transformers waits 15 s for a word from the terminal"
    assert not canary.exists()


def test_the_embedding_can_be_had_raw(text_model):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(text_model), tiny.tokenizer()
    raw = EmbeddingEncoder(model.get_input_embeddings(), tokenizer).encode(TEXTS)
    np.testing.assert_array_equal(make_encoder("embedding", "mean", False, model, tokenizer).encode(TEXTS), raw)


def test_an_encoder_is_loaded_whole_where_zero_3_shards_the_models_that_are_trained(bert):
    """In large: test_deepspeed.py."""
    pytest.importorskip("deepspeed")
    expected = TextEncoder(bert[0], "mean").encode(TEXTS)
    config = deepspeed.HfDeepSpeedConfig({"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}})
    try:
        encoder = TextEncoder(bert[0], "mean")
        assert deepspeed.deepspeed_config() is config.config, "only while it was loaded it was hidden"
        np.testing.assert_array_equal(encoder.encode(TEXTS), expected)
    finally:
        deepspeed.unset_hf_deepspeed_config()


def test_a_token_of_the_embedding_has_the_same_bits_alone_and_among_many(text_model):
    model = AutoModelForCausalLM.from_pretrained(text_model)
    words = " ".join(TEXTS).split()
    texts = [" ".join(words[i % 7 : i % 7 + 1 + i % 5]) for i in range(600)]  # more than are fetched at a time
    for center in (False, True):
        encoder = EmbeddingEncoder(model.get_input_embeddings(), tiny.tokenizer(), center)
        together = encoder.encode(texts)
        alone = {text: encoder.encode([text])[0] for text in set(texts)}
        np.testing.assert_array_equal(together, [alone[text] for text in texts])
