"""The base model as its own encoder: its states are those that transformers gives, whitening is what linear algebra says."""

import threading
from functools import partial

import numpy as np
import pytest
import tiny
import torch
from architectures import ARCHITECTURES
from peft import LoraConfig, get_peft_model
from scipy.linalg import sqrtm
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from fcit_plugin.adapters.lora import read_subspace, write_subspace
from fcit_plugin.adapters.stacked import activated
from fcit_plugin.errors import FcitError
from fcit_plugin.knowledge import prompt_encoder
from fcit_plugin.knowledge.framed import FRAME, MOST_TOKENS, FramedStates, batches
from fcit_plugin.knowledge.prompt_encoder import PromptEncoder
from fcit_plugin.knowledge.public_lists import public_kinds, public_pairs, wrapped_kinds
from fcit_plugin.knowledge.whitening import Whitening

#: Of several lengths, one of no token that is known, one without any token.
TEXTS = [
    "name the color of this square please",
    "which letter belongs to it",
    "count how many points are given red green blue one two three four a b c d",
    "zzz",
    "",
]
#: Kind of model -> writes one, and the layer whose output is read: that of the mean, and that of the last token.
MODELS = {
    "llama of 2 layers": (tiny.llama, 1, 1),
    "llama of 1 layer": (partial(tiny.llama, num_hidden_layers=1), 1, 1),
    "llama of 10 layers": (partial(tiny.llama, num_hidden_layers=10), 8, 9),
    "llava": (tiny.llava, 1, 1),
    "qwen3": (tiny.qwen3, 1, 1),
    "qwen2.5-vl": (tiny.qwen25_vl, 1, 1),
    "qwen3-vl": (ARCHITECTURES["qwen3_vl"].make, 1, 1),
}


def loaded(folder, **how):
    """A model and its tokenizer."""
    kind = AutoModelForImageTextToText if (folder / "processor_config.json").exists() else AutoModelForCausalLM
    return kind.from_pretrained(folder, **{"dtype": torch.float32, **how}).eval(), AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A Llama of ten layers, and its tokenizer."""
    return loaded(tiny.llama(tmp_path_factory.mktemp("deep"), num_hidden_layers=10))


def with_lora(model, dropout=0.5):
    """The model with an adapter that changes what it says, in training."""
    config = LoraConfig(r=2, lora_alpha=8, lora_dropout=dropout, target_modules=["q_proj", "down_proj"])
    model = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(1)
    write_subspace(model, {k: torch.randn(v.shape, generator=generator) for k, v in read_subspace(model).items()})
    return model.train()


@pytest.mark.parametrize("kind", MODELS)
def test_the_states_are_those_that_transformers_gives(kind, tmp_path):
    save, own, last = MODELS[kind]
    save(tmp_path)
    check_states(*loaded(tmp_path), own, last)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_so_they_are_for_every_architecture_that_the_plugin_knows(name, tmp_path):
    ARCHITECTURES[name].make(tmp_path)
    model, tokenizer = loaded(tmp_path)
    if name == "paligemma":
        with pytest.raises(FcitError, match="lets a token see those behind it"):
            FramedStates(model, tokenizer)
        return
    states = FramedStates(model, tokenizer)
    if name == "mllama":  # without an image transformers leaves out the layers that look at one, and counts on
        np.testing.assert_allclose(states(TEXTS)[:1], states(TEXTS[:1]), atol=1e-5)
        return
    count = len(states.decoder.layers)
    check_states(model, tokenizer, max(min(round(0.75 * count), count - 1), 1), max(count - 1, 1))


@torch.no_grad()
def check_states(model, tokenizer, own: int, last: int) -> None:
    """Compare with what transformers gives of each text alone."""
    states = FramedStates(model, tokenizer)
    found = states(TEXTS)
    for text, row in zip(TEXTS, found, strict=True):
        before = tokenizer(FRAME[0])["input_ids"]
        middle = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([[*before, *middle, *tokenizer(FRAME[1], add_special_tokens=False)["input_ids"]]])
        if len(states.decoder.layers) > 1:
            hidden = model(ids, output_hidden_states=True).hidden_states
        else:  # transformers gives the last layer's states behind the norm alone
            model.get_decoder().norm = torch.nn.Identity()
            hidden = model(ids, output_hidden_states=True).hidden_states
        begin, end = len(before), len(before) + len(middle)
        mean = hidden[own][0, begin:end].mean(dim=0) if middle else hidden[own][0, begin - 1]
        np.testing.assert_allclose(row, torch.stack([hidden[last][0, -1], mean]).numpy(), atol=2e-5)


def test_padding_and_other_texts_of_a_batch_make_no_difference(deep):
    model, tokenizer = deep
    states = FramedStates(model, tokenizer)
    alone = np.concatenate([states([text]) for text in TEXTS])
    for side in ("left", "right"):
        tokenizer.padding_side = side
        np.testing.assert_allclose(states(TEXTS), alone, atol=1e-5)
        np.testing.assert_allclose(states(TEXTS[::-1] * 30)[:5], alone[::-1], atol=1e-5)
    encoder = PromptEncoder(model, tokenizer)
    tokens, each = encoder.encode(TEXTS), [PromptEncoder(model, tokenizer).encode([text])[0] for text in TEXTS]
    steps = np.abs(tokens - np.stack(each)) / 2.0**-13  # the grid's
    assert steps.max() <= 1 and tokens.dtype == np.float32


def test_batches_have_each_text_once_and_an_end():
    lengths = [3, 9000, 5, *[40] * 150, 8000, 1]
    made = list(batches(lengths))
    assert sorted(i for batch in made for i in batch) == list(range(len(lengths)))
    for batch in made:
        tokens, padded = sum(lengths[i] for i in batch), max(lengths[i] for i in batch) * len(batch)
        assert len(batch) == 1 or (len(batch) <= 64 and padded <= 8192 and padded - tokens <= max(64, tokens / 4))
    assert list(batches([33, 38, 43, 48, 90])) == [[0, 1, 2, 3], [4]] and list(batches([])) == []


def test_of_a_long_instruction_both_ends_are_read(deep):
    states = FramedStates(*deep)
    middle = [f"red {'blue ' * 500}green {word}" for word in ("one", "two")]
    same = states(["name " + " blue" * 500 + text + "blue " * 500 + "four" for text in middle])
    np.testing.assert_array_equal(same[0], same[1])
    assert len(states.ids(middle[0])) <= MOST_TOKENS + 40
    assert not np.array_equal(*states(middle))


def test_equal_texts_go_through_the_model_once(deep):
    encoder, seen = PromptEncoder(*deep), []
    encoder.states.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    first = encoder.encode(["red", "blue", "red"])
    np.testing.assert_array_equal(first[0], first[2])
    np.testing.assert_array_equal(encoder.encode(["blue", "green"])[0], first[1])
    assert seen == [2, 1]
    encoder.know([f"red {i * 'blue '}" for i in range(1100)])
    seen.clear()
    encoder.encode([f"red {i * 'blue '}" for i in range(1100)])
    assert not seen


def test_adapters_and_dropout_play_no_part_and_stay_as_they_were(tmp_path):
    model, tokenizer = loaded(tiny.llama(tmp_path, num_hidden_layers=4))
    expected = PromptEncoder(model, tokenizer).encode(TEXTS)
    model = with_lora(model)
    before = {name: (part.training, getattr(part, "_disable_adapters", None)) for name, part in model.named_modules()}
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    encoder = PromptEncoder(model, tokenizer)
    np.testing.assert_array_equal(encoder.encode(TEXTS), expected)
    after = {name: (part.training, getattr(part, "_disable_adapters", None)) for name, part in model.named_modules()}
    assert before == after and model.training
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == trains
    assert not any(parameter.grad is not None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.get_base_model().get_decoder().layers)
    with activated(model, [read_subspace(model)] * 2) as activation:
        encoder.forget()
        np.testing.assert_array_equal(encoder.encode(TEXTS), expected)  # before any weights are set
        activation.set(torch.tensor([[0.25, 0.75]]))
        encoder.forget()
        np.testing.assert_array_equal(encoder.encode(TEXTS), expected)


@torch.no_grad()
def test_requests_that_other_threads_answer_go_on_through_their_subspaces(tmp_path):
    model, tokenizer = loaded(tiny.llama(tmp_path, num_hidden_layers=4))
    plain = PromptEncoder(model, tokenizer).encode(TEXTS)
    model = with_lora(model, dropout=0.0).eval()
    encoder, ids, found, done = PromptEncoder(model, tokenizer), torch.tensor([[5, 6, 7, 8]]), [], threading.Event()
    with activated(model, [read_subspace(model)] * 2) as activation:
        activation.set(torch.tensor([[0.25, 0.75]]))
        expected = model(ids).logits

        def encode() -> None:
            for _ in range(20):
                encoder.forget()
                found.append(encoder.encode(TEXTS))
            done.set()

        other = threading.Thread(target=encode)
        other.start()
        while not done.is_set():
            torch.testing.assert_close(model(ids).logits, expected, rtol=0, atol=0)
        other.join()
    assert len(found) == 20
    for tokens in found:
        np.testing.assert_array_equal(tokens, plain)


def test_half_precision_says_almost_the_same(tmp_path):
    folder = tiny.llama(tmp_path, num_hidden_layers=10)
    full, half = (PromptEncoder(*loaded(folder, dtype=dtype)).encode(TEXTS) for dtype in (torch.float32, torch.bfloat16))
    cosines = (full * half).sum(axis=1)
    assert cosines[:3].min() > 0.99 and cosines.min() > 0.95  # nothing that a random model knows is in the last two
    assert half.dtype == np.float32 and np.allclose((half * half).sum(axis=1), 1, atol=1e-3)


def test_a_model_without_a_list_of_layers_is_refused():
    class Bare(torch.nn.Module):
        def get_decoder(self):
            return torch.nn.Linear(1, 1)

    with pytest.raises(FcitError, match="`fcit_identity_encoder: prompt` cannot be used, for Bare has no list of layers"):
        PromptEncoder(Bare(), None)


@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 6, 40)], ids=["all directions", "few of many"])
def test_whitening_is_the_inverse_root_of_the_covariance_within_kinds(shape):
    kinds = np.random.default_rng(0).normal(size=shape) * np.linspace(0.1, 3, shape[-1]) + 7
    within = (kinds - kinds.mean(axis=1, keepdims=True)).reshape(-1, shape[-1])
    covariance = within.T @ within / len(within)
    mean = np.trace(covariance) / shape[-1]
    root = np.linalg.inv(sqrtm(covariance + mean * np.eye(shape[-1])).real)
    rows = np.random.default_rng(1).normal(size=(7, shape[-1])) + 7
    expected = (rows - kinds.mean(axis=(0, 1))) @ root
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    whitening = Whitening.of(kinds)
    np.testing.assert_allclose(whitening(rows), expected, atol=1e-5)
    assert whitening.directions.shape[1] <= min(shape[-1], shape[0] * (shape[1] - 1))


def test_what_is_found_of_a_model_is_kept_and_found_again(deep, tmp_path, monkeypatch):
    monkeypatch.setenv("FCIT_CACHE", str(tmp_path))
    first = PromptEncoder(*deep)
    told, tokens = first.told_pairs(), first.encode(TEXTS)
    (file,) = (tmp_path / "prompt").iterdir()

    def refuse(*args):
        raise AssertionError("it was kept")

    monkeypatch.setattr(Whitening, "of", refuse)
    again = PromptEncoder(*deep)
    assert again.told_pairs() == told
    np.testing.assert_array_equal(again.encode(TEXTS), tokens)
    monkeypatch.undo()
    monkeypatch.setenv("FCIT_CACHE", str(tmp_path))
    file.write_bytes(file.read_bytes()[:100])  # damaged: found anew
    np.testing.assert_array_equal(PromptEncoder(*deep).encode(TEXTS), tokens)
    monkeypatch.setenv("FCIT_CACHE", "/proc/nowhere")  # cannot be written to
    np.testing.assert_array_equal(PromptEncoder(*deep).encode(TEXTS), tokens)


def test_another_models_weights_are_never_taken_for_these(deep, tmp_path):
    model, tokenizer = deep
    path = prompt_encoder._Kept.of(FramedStates(model, tokenizer)).path
    other, _ = loaded(tiny.llama(tmp_path, num_hidden_layers=10))
    with torch.no_grad():
        other.model.layers[3].mlp.up_proj.weight[0, 0] += 1
    assert prompt_encoder._Kept.of(FramedStates(other, tokenizer)).path != path
    assert prompt_encoder._Kept.of(FramedStates(with_lora(loaded(tmp_path)[0]), tokenizer)).path == path


def test_the_public_lists_have_what_they_promise():
    kinds, wrapped, pairs = public_kinds(), wrapped_kinds(), public_pairs()
    assert [len(kind) for kind in kinds] == [5] * 20 and [len(kind) for kind in wrapped] == [25] * 20
    assert [len(pair) for pair in pairs] == [2] * 20
    texts = [text for part in (*wrapped, *pairs) for text in part]
    assert len({*texts}) == len(texts) and all(text == text.strip() != "" for text in texts)
    assert all(text in "".join(rest) or text.upper() in rest for kind in wrapped for text in kind[:5] for rest in [kind[5:]])
