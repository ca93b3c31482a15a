"""Products as thin pairs, against the same matrices written out."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fcit_plugin.adapters.products import layer_keys, pair_of, relative_error, sum_of_pairs, truncated

SIZES = st.tuples(*[st.integers(1, 9)] * 3)


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(pair):
    return pair[0] @ pair[1]


def pair(seed, out, k, columns):
    return draw(seed, out, k), draw(seed + 1, k, columns)


@settings(max_examples=50, deadline=None)
@given(SIZES, st.integers(1, 4), st.integers(0, 100))
def test_the_total_is_the_weighted_sum(sizes, count, seed):
    parts = [(0.5 + i, pair(seed + 10 * i, *sizes)) for i in range(count)]
    torch.testing.assert_close(dense(sum_of_pairs(parts)), sum(weight * dense(one) for weight, one in parts))


@settings(max_examples=80, deadline=None)
@given(SIZES, st.integers(1, 9), st.integers(0, 100))
def test_what_is_truncated_is_the_svd_of_the_whole_matrix(sizes, rank, seed):
    one = pair(seed, *sizes)
    u, s, vt = truncated(one, rank)
    whole = torch.linalg.svd(dense(one), full_matrices=False)
    kept = min(rank, *sizes)
    torch.testing.assert_close(s[:kept], whole.S[:kept])
    best = whole.U[:, :kept] * whole.S[:kept] @ whole.Vh[:kept]
    torch.testing.assert_close(u * s @ vt, best, rtol=1e-7, atol=1e-9)
    for rows in (vt, u.T):
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows), dtype=torch.float64), rtol=1e-7, atol=1e-9)
    assert (vt.gather(1, vt.abs().argmax(dim=1, keepdim=True)) > 0).all()


@settings(max_examples=50, deadline=None)
@given(SIZES, SIZES, st.integers(0, 100))
def test_the_relative_error_is_that_of_the_matrices_of_all_layers(sizes, others, seed):
    found = {"a": pair(seed, *sizes), "b": pair(seed + 2, *others)}
    wanted = {"a": pair(seed + 4, *sizes), "b": pair(seed + 6, *others)}
    difference = sum((dense(found[layer]) - dense(wanted[layer])).square().sum() for layer in found)
    expected = (difference / sum(dense(one).square().sum() for one in wanted.values())).sqrt()
    layers = [(found[layer], wanted[layer]) for layer in found]
    torch.testing.assert_close(relative_error(layers), expected.item(), rtol=1e-6, atol=1e-7)
    assert relative_error([(one, one) for one in wanted.values()]) < 1e-7


def test_the_error_of_nothing_is_0_and_that_of_something_in_place_of_nothing_is_not_defined():
    nothing, something = (draw(0, 3, 2), torch.zeros(2, 4, dtype=torch.float64)), pair(1, 3, 2, 4)
    assert relative_error([(nothing, nothing)]) == 0.0
    assert relative_error([(something, nothing)]) is None
    assert relative_error([(nothing, something)]) == 1.0


def test_layers_are_found_by_pefts_keys_and_convolutions_are_flattened():
    state = {
        "m.conv.lora_A.weight": draw(1, 2, 3, 5, 5),
        "m.conv.lora_B.weight": draw(2, 4, 2, 1, 1),
        "m.embed.lora_embedding_A": draw(3, 2, 7),
        "m.embed.lora_embedding_B": draw(4, 6, 2),
    }
    assert layer_keys(state) == {
        "m.conv": ("m.conv.lora_B.weight", "m.conv.lora_A.weight"),
        "m.embed": ("m.embed.lora_embedding_B", "m.embed.lora_embedding_A"),
    }
    found = {layer: pair_of(state, keys) for layer, keys in layer_keys(state).items()}
    assert [tuple(part.shape) for part in found["m.conv"]] == [(4, 2), (2, 75)]
    torch.testing.assert_close(dense(found["m.embed"]), state["m.embed.lora_embedding_B"] @ state["m.embed.lora_embedding_A"])
