"""The stacked activation against the plain sum over subspaces, sample by sample, and what it leaves behind."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from fcit_plugin.adapters.lora import read_subspace, write_subspace
from fcit_plugin.adapters.stacked import STACKED, Activation, activated, stack, stacked_config
from fcit_plugin.errors import FcitError

IDS = torch.tensor([[1, 7, 8, 9, 10], [1, 11, 12, 13, 14], [1, 9, 9, 8, 7]])


def subspaces_of(model, count, scale=0.5):
    generator = torch.Generator().manual_seed(11)
    like = read_subspace(model)
    return [{k: scale * torch.randn(v.shape, generator=generator) for k, v in like.items()} for _ in range(count)]


def random_weights(batch, count, seed=3):
    return torch.rand(batch, count, generator=torch.Generator().manual_seed(seed)).softmax(dim=1)


def one_layer(**changes):
    torch.manual_seed(0)
    config = LoraConfig(**{"r": 3, "lora_alpha": 6, "target_modules": ["0"], **changes})
    return get_peft_model(nn.Sequential(nn.Linear(5, 7)), config)


@pytest.mark.parametrize(
    ("changes", "s"),
    [({}, 2.0), ({"lora_alpha": 3}, 1.0), ({"use_rslora": True}, 6 / 3**0.5), ({"lora_dropout": 0.5}, 2.0)],
)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_one_layer_equals_the_explicit_sum_over_subspaces(changes, s, count):
    model = one_layer(**changes).double().eval()
    subspaces = subspaces_of(model, count)
    weights = random_weights(4, count).double()
    x = torch.randn(4, 6, 5, dtype=torch.float64)
    layer = model.base_model.model[0].base_layer
    (a_key,), (b_key,) = ([k for k in subspaces[0] if part in k] for part in ("lora_A", "lora_B"))
    expected = x @ layer.weight.T + layer.bias
    for i in range(4):
        for k, state in enumerate(subspaces):
            expected[i] += s * weights[i, k] * (x[i] @ state[a_key].double().T @ state[b_key].double().T)
    with activated(model, subspaces) as activation:
        activation.set(weights)
        torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rslora", [False, True])
def test_whole_model_equals_the_model_with_the_weighted_sum_added_to_its_weights(peft_model, rslora):
    model = peft_model(use_rslora=rslora).double().eval()
    subspaces = subspaces_of(model, 3)
    weights = random_weights(1, 3).double()
    s = 8 / 4**0.5 if rslora else 2.0
    with activated(model, subspaces) as activation:
        activation.set(weights)
        found = model(IDS).logits
    with torch.no_grad(), model.disable_adapter():
        for name, module in model.named_modules():
            if hasattr(module, "lora_A"):
                for k, state in enumerate(subspaces):
                    a, b = (state[f"{name}.lora_{factor}.weight"].double() for factor in "AB")
                    module.base_layer.weight += s * weights[0, k] * b @ a
        torch.testing.assert_close(found, model(IDS).logits, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_a_mixed_batch_equals_one_by_one_runs(peft_model, dtype, tolerance):
    model = peft_model().to(dtype).eval()
    subspaces, weights = subspaces_of(model, 4, scale=0.2), torch.eye(4)[[2, 0, 3]]
    with torch.no_grad(), activated(model, subspaces) as activation:
        activation.set(weights)
        mixed = model(IDS).logits
        for i in range(3):
            activation.set(weights[i : i + 1])
            alone = model(IDS[i : i + 1]).logits
            torch.testing.assert_close(mixed[i : i + 1], alone, rtol=tolerance, atol=tolerance)
        activation.set(weights[[1, 2, 0]])
        assert (model(IDS).logits - mixed).abs().max() > 10 * tolerance, "the weights have no effect"


def test_bfloat16_stays_close_to_float32(peft_model):
    model = peft_model().eval()
    subspaces, weights = subspaces_of(model, 3, scale=0.2), random_weights(3, 3)
    outputs = {}
    for dtype in (torch.float32, torch.bfloat16):
        with torch.no_grad(), activated(model.to(dtype), subspaces) as activation:
            activation.set(weights)
            outputs[dtype] = model(IDS).logits
    assert outputs[torch.bfloat16].dtype == torch.bfloat16
    torch.testing.assert_close(outputs[torch.bfloat16].float(), outputs[torch.float32], rtol=0.1, atol=0.05)


def test_a_stack_of_one_subspace_at_weight_one_equals_the_plain_peft_adapter(peft_model):
    model = peft_model().eval()
    (subspace,) = subspaces_of(model, 1)
    with activated(model, [subspace]) as activation:
        activation.set(torch.ones(3, 1))
        stacked = model(IDS).logits
    write_subspace(model, subspace)
    torch.testing.assert_close(stacked, model(IDS).logits, rtol=0, atol=1e-5)


def test_one_hot_weights_equal_that_subspaces_plain_adapter(peft_model):
    model = peft_model().double().eval()
    subspaces = subspaces_of(model, 3)
    with activated(model, subspaces) as activation:
        activation.set(torch.eye(3))
        mixed = model(IDS).logits
    for k, state in enumerate(subspaces):
        write_subspace(model, state)
        torch.testing.assert_close(mixed[k], model(IDS[k : k + 1]).logits[0], rtol=0, atol=1e-10)


def test_generation_with_cache_in_a_mixed_left_padded_batch_equals_one_by_one(peft_model):
    model = peft_model().double().eval()
    subspaces, weights = subspaces_of(model, 3, scale=1.0), torch.eye(3).double()
    prompts = [[1, 7, 8], [1, 11, 12, 13, 14], [1, 9]]
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    options = {"max_new_tokens": 8, "do_sample": False, "use_cache": True, "eos_token_id": None, "pad_token_id": 0}
    with torch.no_grad(), activated(model, subspaces) as activation:
        activation.set(weights)
        mixed = model.generate(input_ids=ids, attention_mask=(ids > 0).long(), **options)[:, width:].tolist()
        alone, wrong = [], []
        for i, prompt in enumerate(prompts):
            for row, found in ((i, alone), ((i + 1) % 3, wrong)):
                activation.set(weights[row : row + 1])
                one = torch.tensor([prompt])
                output = model.generate(input_ids=one, attention_mask=torch.ones_like(one), **options)
                found.append(output[0, len(prompt) :].tolist())
    assert mixed == alone
    assert mixed != wrong, "the subspaces answer alike, the test says nothing"


@pytest.mark.parametrize("fails", [False, True])
def test_after_the_block_the_model_trains_as_before(peft_model, fails):
    model = peft_model(lora_dropout=0.1)
    model.base_model.model.model.norm.weight.requires_grad_(True)
    write_subspace(model, subspaces_of(model, 1)[0])
    model.train()

    def look():
        torch.manual_seed(0)
        model.zero_grad()
        loss = model(IDS, labels=IDS).loss
        loss.backward()
        grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        flags = {n: p.requires_grad for n, p in model.named_parameters()}
        hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
        modes = {n: m.training for n, m in model.named_modules()}
        return loss.item(), grads, (flags, list(model.peft_config), model.active_adapter, hooks, modes)

    loss, grads, rest = look()
    try:
        with activated(model, subspaces_of(model, 3)) as activation:
            model.eval()
            activation.set(random_weights(3, 3))
            model(IDS)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    loss_after, grads_after, rest_after = look()
    assert (loss_after, rest_after) == (loss, rest)
    assert grads_after.keys() == grads.keys()
    assert all(torch.equal(grads_after[n], grads[n]) for n in grads)
    assert not any(STACKED in name for name, _ in model.named_modules())


def test_blocks_may_follow_each_other_with_more_subspaces_each_time(peft_model):
    model = peft_model().eval()
    subspaces = subspaces_of(model, 4)
    for count in (1, 2, 4):
        with torch.no_grad(), activated(model, subspaces[:count]) as activation:
            activation.set(torch.eye(count)[[0, 0, 0]])
            first = model(IDS).logits
        if count == 1:
            expected = first
        torch.testing.assert_close(first, expected, rtol=0, atol=1e-5)


def test_weights_move_to_the_models_device_and_dtype_once(peft_model):
    model = peft_model(dtype=torch.bfloat16).to(torch.bfloat16).eval()
    with activated(model, subspaces_of(model, 2)) as activation:
        model.to("meta")  # any device that is not the CPU: a slip of device or dtype raises
        activation.set(random_weights(3, 2))
        assert model(IDS.to("meta")).logits.shape == (*IDS.shape, model.config.vocab_size)
        gate = activation._own.gate
        assert (gate.device.type, gate.dtype) == ("meta", torch.bfloat16)
        model(IDS.to("meta"))
        assert activation._own.gate is gate
        model.to_empty(device="cpu")


def test_stacking_orders_ranks_alike_in_both_factors(peft_model):
    model = peft_model()
    subspaces = subspaces_of(model, 3)
    stacked = stack(subspaces, 4)
    for key, value in stacked.items():
        for k, state in enumerate(subspaces):
            part = value[4 * k : 4 * k + 4] if "lora_A" in key else value[:, 4 * k : 4 * k + 4]
            assert torch.equal(part, state[key])


@pytest.mark.parametrize(("changes", "scale"), [({}, 2.0), ({"use_rslora": True}, 4.0), ({"lora_alpha": 1, "r": 8}, 0.125)])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_stack_keeps_the_scale_of_one_subspace(changes, scale, count):
    config = stacked_config(LoraConfig(**{"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, **changes}), count)
    assert (config.r, config.lora_dropout) == ((changes.get("r", 4)) * count, 0.0)
    assert config.lora_alpha / config.r == pytest.approx(scale, abs=1e-12)


class TestErrors:
    def test_no_subspace(self):
        with pytest.raises(ValueError, match="no subspace to stack"):
            stack([], 4)

    @pytest.mark.parametrize("shape", [(3, 1), (3, 3), (2,), (3, 2, 1)])
    def test_wrong_number_of_weights_names_what_is_wanted(self, shape):
        with pytest.raises(ValueError, match=r"weights \[batch, 2\]"):
            Activation(2, rank=4).set(torch.ones(shape))

    def test_weights_not_set(self, peft_model):
        model = peft_model()
        with activated(model, subspaces_of(model, 2)), pytest.raises(RuntimeError, match="were not set"):
            model(IDS)

    def test_batch_of_another_size(self, peft_model):
        model = peft_model()
        with activated(model, subspaces_of(model, 2)) as activation:
            activation.set(torch.eye(2))
            with pytest.raises(FcitError, match=r"Weights for 2 samples do not fit a layer .*`per_device_eval_batch_size: 1`"):
                model(IDS)

    def test_a_batch_grows_by_whole_samples_alone(self):
        activation = Activation(2, rank=1)
        activation.set(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), expands=True)
        middle = torch.ones(6, 1, 2)
        assert activation.gate_text(None, (), middle)[:, 0].tolist() == [[1, 2]] * 3 + [[3, 4]] * 3
        activation.set(torch.eye(2), expands=True)
        with pytest.raises(FcitError, match="do not fit a layer"):
            activation.gate_text(None, (), torch.ones(5, 1, 2))


#: Of 3 samples with 4 tokens each: the middle of a layer as models give it, and the sample that each of its rows is of.
LAYOUTS = {
    "one row a sample": ((3, 4, 2), [0, 1, 2]),
    "one row a token": ((12, 2), [0] * 4 + [1] * 4 + [2] * 4),
    "one row a tile": ((6, 5, 2), [0, 0, 1, 1, 2, 2]),
    "one row a sample, with heads": ((3, 4, 7, 2), [0, 1, 2]),
}
#: The same, where it cannot be told.
UNKNOWN = {
    "tokens chosen by a router": (11, 2),
    "as many rows as samples, without tokens": (3, 2),
    "tiles of some samples alone": (4, 5, 2),
}


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_row_of_a_layer_is_weighed_by_its_own_sample_whatever_the_layout(layout, copies):
    shape, owners = LAYOUTS[layout]
    torch.manual_seed(0)
    weights, middle = torch.randn(3, 2), torch.randn(shape).repeat_interleave(copies, dim=0)
    if copies > 1:  # each sample stands there twice, as with beams
        middle = torch.randn(shape).unflatten(0, (3, -1)).repeat_interleave(2, dim=0).flatten(0, 1)
        owners = [owner for sample in range(3) for owner in [sample] * 2 * owners.count(sample)]
    activation = Activation(2, rank=1)
    activation.set(weights, expands=copies > 1)
    activation.sees_tokens(None, (), {"input_ids": torch.zeros(3 * copies, 4)})
    expected = torch.stack([row * weights[owner] for row, owner in zip(middle, owners, strict=True)])
    assert torch.equal(activation.gate_text(None, (), middle), expected)


@pytest.mark.parametrize("shape", UNKNOWN.values(), ids=UNKNOWN)
def test_where_no_one_can_tell_whose_row_is_whose_samples_are_answered_alone(shape):
    activation, middle = Activation(2, rank=1), torch.randn(shape)
    activation.set(torch.randn(3, 2))
    activation.sees_tokens(None, (), {"input_ids": torch.zeros(3, 4)})
    with pytest.raises(FcitError, match="cannot be told"):
        activation.gate_text(None, (), middle)
    activation.set(torch.tensor([[2.0, 3.0]]).expand(3, -1))  # weighed alike there is nothing to tell
    assert torch.equal(activation.gate_text(None, (), middle), middle * torch.tensor([2.0, 3.0]))


def test_features_of_images_are_weighed_by_the_sample_that_shows_them():
    activation, weights = Activation(2, rank=1), torch.randn(3, 2)
    activation.set(weights, image_tokens=[4, 0, 8])
    for shape in ((12, 2), (3, 4, 2)):
        middle = torch.randn(shape)
        flat = middle.view(12, 2)
        expected = torch.cat([flat[:4] * weights[0], flat[4:] * weights[2]]).view(shape)
        assert torch.equal(activation.gate_images(None, (), middle), expected)
    with pytest.raises(FcitError, match="13 image features for prompts with 12 image tokens"):
        activation.gate_images(None, (), torch.randn(13, 2))
    activation.set(weights)
    with pytest.raises(FcitError, match="cannot be told"):
        activation.gate_images(None, (), torch.randn(12, 2))


def test_each_thread_has_its_own_weights():
    activation, middle = Activation(1, rank=1), torch.ones(1, 1, 1)
    activation.set(torch.tensor([[2.0]]))
    turn = threading.Barrier(8, timeout=60)

    def use(weight):
        activation.set(torch.tensor([[float(weight)]]))
        turn.wait()
        return activation.gate_text(None, (), middle).item()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(use, range(8))) == list(range(8))
        unset = ThreadPoolExecutor(1).submit(activation.gate_text, None, (), middle)
        with pytest.raises(RuntimeError, match="were not set"):
            unset.result()
    assert activation.gate_text(None, (), middle).item() == 2
