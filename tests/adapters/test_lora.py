"""Reading, writing and initializing one subspace of a PEFT model."""

import pytest
import torch

from fcit_plugin.adapters.lora import fresh_subspace, read_shared, read_subspace, weighted_mean, write_shared, write_subspace

SHARED_KEY = "model.norm.weight"


def random_like(state, seed):
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(value.shape, generator=generator) for key, value in state.items()}


def test_read_gives_what_was_written_and_the_model_answers_by_it(peft_model):
    model = peft_model()
    ids = torch.tensor([[1, 7, 8, 9]])
    untuned = model(ids).logits
    state = random_like(read_subspace(model), seed=1)
    write_subspace(model, state)
    found = read_subspace(model)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)
    assert not torch.allclose(model(ids).logits, untuned)


def test_read_returns_copies_that_later_training_leaves_alone(peft_model):
    model = peft_model()
    before = read_subspace(model)
    kept = {key: value.clone() for key, value in before.items()}
    write_subspace(model, random_like(before, seed=2))
    assert all(torch.equal(before[key], kept[key]) for key in kept)


def test_a_subspace_is_float32_on_the_cpu_for_a_bfloat16_model(peft_model):
    model = peft_model(dtype=torch.bfloat16).to(torch.bfloat16)
    state = read_subspace(model)
    assert {(value.dtype, value.device.type) for value in state.values()} == {(torch.float32, "cpu")}
    write_subspace(model, state)
    assert all(p.dtype == torch.bfloat16 for p in model.parameters())


def test_a_subspace_has_two_factors_per_target_layer_and_no_adapter_name(peft_model):
    state = read_subspace(peft_model())
    assert len(state) == 2 * 3 * 2  # factors, projections, layers
    assert all(key.endswith((".lora_A.weight", ".lora_B.weight")) and "default" not in key for key in state)


def test_shared_trainables_are_trainable_parameters_outside_lora_under_the_base_models_names(peft_model):
    model = peft_model()
    assert read_shared(model) == {}
    model.base_model.model.model.norm.weight.requires_grad_(True)
    shared = read_shared(model)
    assert shared.keys() == {SHARED_KEY}
    assert shared[SHARED_KEY].shape == dict(model.base_model.model.named_parameters())[SHARED_KEY].shape
    write_shared(model, {SHARED_KEY: torch.full_like(shared[SHARED_KEY], 3.0)})
    assert torch.equal(model.base_model.model.model.norm.weight, torch.full_like(shared[SHARED_KEY], 3.0))


@pytest.mark.parametrize(
    ("write", "change", "expected"),
    [
        (write_subspace, lambda state: {}, "missing"),
        (write_subspace, lambda state: {**state, "strange": torch.zeros(1)}, "unexpected ['strange']"),
        (write_shared, lambda state: {"projector.weight": torch.zeros(1)}, "unexpected ['projector.weight']"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_with_the_names_of_its_keys(peft_model, write, change, expected):
    model = peft_model()
    with pytest.raises(ValueError, match="does not fit the model") as caught:
        write(model, change(read_subspace(model)))
    assert expected in str(caught.value)


def test_fresh_subspace_depends_on_the_seed_alone(peft_model):
    like = read_subspace(peft_model())
    other = dict(reversed(random_like(like, seed=5).items()))
    one, same, different = fresh_subspace(like, 7), fresh_subspace(other, 7), fresh_subspace(like, 8)
    assert all(torch.equal(one[key], same[key]) for key in like)
    for key in like:
        if "lora_A" in key:
            assert not torch.equal(one[key], different[key])
            assert one[key].abs().max() > 0
        else:
            assert not one[key].any()


def test_fresh_subspace_leaves_the_global_generator_alone(peft_model):
    like = read_subspace(peft_model())
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    fresh_subspace(like, 1)
    assert torch.equal(torch.rand(3), expected)


def test_a_fresh_subspace_leaves_the_models_answers_as_they_were(peft_model):
    model = peft_model()
    ids = torch.tensor([[1, 7, 8, 9]])
    with model.disable_adapter():
        untuned = model(ids).logits
    write_subspace(model, fresh_subspace(read_subspace(model), seed=3))
    assert torch.equal(model(ids).logits, untuned)


def test_the_weighted_mean_is_summed_in_float64_and_one_state_or_no_weight_changes_nothing():
    states = [{"a": torch.tensor([1e8, 1.0])}, {"a": torch.tensor([-1e8, 2.0])}, {"a": torch.tensor([3.0, 1 / 3])}]
    mean = weighted_mean(states, [1, 1, 2])
    assert mean["a"].dtype == torch.float32
    torch.testing.assert_close(mean["a"], torch.tensor([1.5, (3 + 2 / 3) / 4]), rtol=1e-7, atol=0)
    assert weighted_mean([{"a": torch.tensor([-0.0])}], [7])["a"].signbit()
    assert torch.equal(weighted_mean(states, [0, 0, 0])["a"], states[0]["a"])
