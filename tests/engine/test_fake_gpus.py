"""All that touches tensors between two replies, on GPUs that are not there: devices and precisions fit, and nothing waits."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import tiny
import torch
from fake_gpus import PLACES, Place, fake_gradients, fake_numpy
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlavaForConditionalGeneration

from fcit_plugin.adapters.aggregation import Member
from fcit_plugin.adapters.base_change import add_pairs
from fcit_plugin.adapters.base_weights import BaseWeights, add_to
from fcit_plugin.adapters.lora import (
    Tensors,
    fresh_subspace,
    lora_parameters,
    read_shared,
    read_subspace,
    shared_parameters,
    write_shared,
    write_subspace,
)
from fcit_plugin.adapters.stacked import activated, attach, fold_weights, frozen_beside
from fcit_plugin.arguments import FcitArguments
from fcit_plugin.continual.methods import make_method
from fcit_plugin.engine.evaluator import Evaluator
from fcit_plugin.engine.open_session import place as put_in_place
from fcit_plugin.engine.row import Row
from fcit_plugin.engine.trainable import unfreeze_projector
from fcit_plugin.engine.trainer_mixins import BatchTermsMixin
from fcit_plugin.federation.rules import PROXIMAL_MU, client_terms
from fcit_plugin.federation.scaffold import CORRECTION
from fcit_plugin.knowledge.embedding import EmbeddingEncoder
from fcit_plugin.knowledge.encoders import TextEncoder
from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.knowledge.images import Images
from fcit_plugin.knowledge.vision_tower import VisionTower
from fcit_plugin.plugins import registry
from fcit_plugin.state.server_state import ServerState

TARGETS = ["q_proj", "gate_proj", "up_proj", "down_proj"]
MORE = {"moe_lora": {"fcit_num_experts": 2}}
everywhere = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)


def with_lora(place: Place, model) -> PeftModel:
    """A model on a place with a LoRA in training, and its projector, where it has one, too."""
    found = get_peft_model(place.put(model), LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, task_type="CAUSAL_LM"))
    unfreeze_projector(found, SimpleNamespace(freeze_multi_modal_projector=False, pure_bf16=False))
    return found


@pytest.fixture
def text(place, text_model) -> PeftModel:
    base = AutoModelForCausalLM.from_pretrained(text_model)
    with place.mode:
        return with_lora(place, base)


@pytest.fixture
def llava(place, llava_model) -> PeftModel:
    base = LlavaForConditionalGeneration.from_pretrained(llava_model)
    with place.mode:
        return with_lora(place, base)


def real(state: Tensors, seed: int = 0) -> Tensors:
    """Numbers, float32 on the CPU as the server sends them, in the shapes of a state."""
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(value.shape, generator=generator) for key, value in state.items()}


def batch() -> dict[str, torch.Tensor]:
    """Three rows of tokens on the first GPU."""
    ids = torch.ones(3, 12, dtype=torch.long, device="cuda:0")
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}


def on_the_cpu(state: Tensors) -> bool:
    """Whether all of it can be sent."""
    return all(value.device.type == "cpu" and value.dtype == torch.float32 for value in state.values())


def where(weights) -> dict[str, tuple[torch.device, torch.dtype]]:
    return {key: (weight.device, weight.dtype) for key, weight in weights.items()}


@everywhere
def test_a_subspace_and_a_projector_are_read_to_the_cpu_and_written_where_the_layers_are(place, llava):
    factors, shared = lora_parameters(llava), shared_parameters(llava)
    before = where(factors | shared)
    assert shared and {dtype for _, dtype in before.values()} == {torch.float32}, "they are trained in full precision"
    for key, (device, _) in before.items():
        assert device == place.device_of(key), key
    with place.mode:
        states = read_subspace(llava), read_shared(llava)
        assert all(map(on_the_cpu, states))
        write_subspace(llava, real(states[0]))
        write_shared(llava, real(states[1]))
    assert where(lora_parameters(llava) | shared_parameters(llava)) == before


class Trained:
    """What a method sees of a trained model, with gradients of ones."""

    def __init__(self, weights) -> None:
        self.weights = weights

    def sample_gradients(self, count, of=None) -> Iterator[None]:
        for _ in range(min(count, 2)):
            fake_gradients(self.weights)
            if of is not None:
                of(torch.rand(5, 7, device="cuda:0"))
            yield


class Plain:
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None, **kwargs):
        outputs = model(**inputs)
        return (outputs.loss, outputs) if return_outputs else outputs.loss


class Step(BatchTermsMixin, Plain):
    """What the Trainer does of a step that terms take part in."""

    def __init__(self, model, batch_terms) -> None:
        self.model, self._batch_terms = model, batch_terms
        self.args = SimpleNamespace(average_tokens_across_devices=False)


def sent_after_a_stage(method, states: tuple[Tensors, Tensors]):
    """What a method sends in the second stage, where its clients have measured what it wanted in the first."""
    last = method.args.fcit_num_rounds - 1
    tokens = SubspaceTokens.empty(8)
    before = ServerState(tokens, states[1], [states[0]], stage=0, round=last)
    measured = [dict.fromkeys(method.wants(0, last), states[0] | states[1]) for _ in range(2)]
    memory = method.remember(before, before, measured, [3, 4])
    return method.sends(ServerState(tokens, states[1], [states[0]], stage=1, method_state=memory))


@everywhere
@pytest.mark.parametrize("name", registry("methods"))
def test_a_client_of_every_method_trains_and_measures_where_the_model_is(place, name, llava):
    args = FcitArguments(
        fcit_setting="custom", fcit_stages=[["a"], ["b"]], fcit_method=name, fcit_num_rounds=1, **MORE.get(name, {})
    )
    method = make_method(args)
    with place.mode:
        method.prepare(llava)
        states = read_subspace(llava), read_shared(llava)
    states = real(states[0]), real(states[1])
    sent = sent_after_a_stage(method, states)
    mu, start = {PROXIMAL_MU: 0.1}, {**states[0], **states[1]}
    config = SimpleNamespace(of_rule=mu)
    with place.mode, frozen_beside(llava, method.frozen_subspaces(sent)):
        llava.train()
        weights = {**lora_parameters(llava), **shared_parameters(llava)}
        inputs = batch()
        loss = Step(llava, method.batch_terms(sent)).compute_loss(llava, inputs)
        assert loss.device == inputs["labels"].device and loss.isfinite().device == loss.device
        fake_gradients(weights)
        kept = SimpleNamespace(gradient=lambda count: {key: weight.grad.clone() for key, weight in weights.items()})
        terms = [*method.terms(sent), *method.memory_terms(kept), *client_terms(config, start, {CORRECTION: real(start, 1)})]
        with torch.no_grad():
            for _ in range(2):
                for term in terms:
                    term.add(weights)
        assert where({key: weight.grad for key, weight in weights.items()}) == where(weights)
        torch.optim.AdamW(weights.values()).step()
        measured = method.measure(Trained(weights)) | {k: v for term in terms for k, v in term.measured().items()}
        assert all(map(on_the_cpu, measured.values()))
        for name in method.wants(0, args.fcit_num_rounds - 1):
            assert measured[name].keys() == weights.keys()


@everywhere
@pytest.mark.parametrize("name", registry("lora_aggregations"))
def test_what_every_lora_aggregation_makes_is_written_where_the_model_is(place, name, text, text_model):
    aggregation = registry("lora_aggregations")[name].load()()
    with place.mode:
        like = read_subspace(text)
    start = real(like)
    members = [Member(share, real(like, seed)) for seed, share in ((1, 0.25), (2, 0.75))]
    found = aggregation.combine(start, real(like, 3), members, fresh_subspace(start, seed=0))
    assert on_the_cpu(found.subspace) and found.subspace.keys() == like.keys()
    base, plain = add_pairs({}, found.base), AutoModelForCausalLM.from_pretrained(text_model)
    assert bool(base) == aggregation.changes_base
    with place.mode:
        write_subspace(text, found.subspace)
        before = where(dict(text.named_parameters()))
        if base:
            weights = BaseWeights(text)
            weights.write(base)
            weights.write({})
            plain = place.put(plain)
            add_to(plain, base, 2.0, "a test")
        assert where(dict(text.named_parameters())) == before
        text(**batch())


@everywhere
@pytest.mark.parametrize("experts", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_batch_is_answered_through_subspaces_beside_their_layers(place, text, experts, mixed):
    if experts:
        with place.mode:
            make_method(FcitArguments(fcit_method="moe_lora", fcit_num_experts=2)).prepare(text)
    with place.mode:
        like = read_subspace(text)
    count = 1 if experts else 3
    subspaces = [real(like, seed) for seed in range(count)]
    weights = torch.eye(3)[:, :count] if mixed else torch.ones(3, count) / 3
    with place.mode:
        active = activated(text, subspaces)
        activation = active.__enter__()
    activation.set(weights)
    with place.mode, torch.no_grad():
        text.eval()
        logits = text(**batch()).logits
        assert (logits.device, logits.dtype) == (torch.device("cuda:0"), place.dtype)
        active.__exit__(None, None, None)
        text(**batch())


@everywhere
def test_fixed_weights_are_folded_and_merged_where_the_layers_are(place, text):
    with place.mode:
        like = read_subspace(text)
    subspaces = [real(like, seed) for seed in range(2)]
    with place.mode:
        activation = attach(text, subspaces)
        activation.remove()
        fold_weights(text, torch.tensor([0.25, 0.75]), activation.rank)
        merged = text.merge_and_unload()
        for name, weight in merged.named_parameters():
            assert (weight.device, weight.dtype) == (place.device_of(name), place.dtype), name


def test_a_model_that_was_left_on_the_cpu_is_moved_before_it_is_evaluated_and_no_other(text_model):
    one, two = PLACES.values()
    left = get_peft_model(AutoModelForCausalLM.from_pretrained(text_model), LoraConfig(r=4, target_modules=TARGETS))
    with one.mode:
        put_in_place(one.put(left, torch.device("cpu")), torch.device("cuda:0"))
        assert {weight.device for weight in left.parameters()} == {torch.device("cuda:0")}
    base = AutoModelForCausalLM.from_pretrained(text_model)
    with two.mode:
        split = with_lora(two, base)
        before = where(dict(split.named_parameters()))
        put_in_place(split, torch.device("cuda:0"))
    assert where(dict(split.named_parameters())) == before


@everywhere
def test_prompts_are_put_where_the_model_begins_and_pixels_in_its_precision(place, llava):
    made = {
        "input_ids": torch.ones(2, 5, dtype=torch.long),
        "attention_mask": torch.ones(2, 5, dtype=torch.long),
        "labels": torch.zeros(2, 1, dtype=torch.long),
        "pixel_values": torch.rand(2, 3, 16, 16),
        "second_per_grid_ts": torch.rand(2),
    }
    evaluator = SimpleNamespace(model=llava, _collator=lambda rows: dict(made))
    with place.mode:
        inputs = Evaluator._inputs(evaluator, [Row("a", number, {"input_ids": [1]}, ("x",)) for number in range(2)])
    assert {value.device for value in inputs.values()} == {torch.device("cuda:0")} and "labels" not in inputs
    dtypes = {key: value.dtype for key, value in inputs.items()}
    assert dtypes.pop("pixel_values") == place.dtype and dtypes.pop("second_per_grid_ts") == torch.float32
    assert {*dtypes.values()} == {torch.int64}


@everywhere
def test_the_vision_tower_gives_features_that_can_be_sent(place, llava):
    with place.mode:
        found = VisionTower(llava)(Images(torch.rand(2, 3, 16, 16)))
    assert on_the_cpu({"features": found}) and found.shape[0] == 2


@everywhere
def test_the_models_own_embeddings_make_tokens_also_after_it_was_moved(place, text, text_model):
    fast = tiny.tokenizer()
    base = AutoModelForCausalLM.from_pretrained(text_model)
    encoder = EmbeddingEncoder(base.get_input_embeddings(), fast, center=True)
    encoder.embedding = text.get_input_embeddings()  # as where the Trainer moves the model
    with place.mode, fake_numpy():
        assert encoder.encode(["name the color", "", "a b c"]).shape == (3, base.config.hidden_size)
        made_there = EmbeddingEncoder(text.get_input_embeddings(), fast, center=True)
        assert made_there.encode(["name the color"]).shape == (1, base.config.hidden_size)
        assert all(map(on_the_cpu, ({"table": encoder.table()[0]}, {"table": made_there.table()[0]})))


@pytest.mark.parametrize("pooling", ["mean", "eos"])
def test_a_text_encoder_makes_tokens_beside_the_model(clip_model, pooling):
    place = PLACES["one GPU, float32"]
    encoder = TextEncoder(str(clip_model), pooling)
    encoder.model, encoder.device = place.put(encoder.model), torch.device("cuda:0")
    with place.mode, fake_numpy():
        assert encoder.encode(["name the color", "a"]).shape == (2, 16)
