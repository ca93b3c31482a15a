"""Activation weights against formulas written out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcit_plugin.errors import FcitError
from fcit_plugin.knowledge.activation import Router, activation_weights, cosine_matrix
from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.knowledge.nearness import PLAIN, SENTENCES, WHITENED, Nearness
from fcit_plugin.knowledge.own_cosines import BINS

MODES = ["softmax", "argmax", "cosine", "concat"]
U = np.array([[1.0, 0.0], [3.0, 4.0], [-2.0, 1.0]], np.float32)
G = np.array([[2.0, 0.0], [0.0, 0.5], [1.0, 1.0]], np.float32)
USED = np.array([True, True, True])


def cosine(u, g):
    return sum(a * b for a, b in zip(u, g, strict=True)) / math.sqrt(sum(a * a for a in u) * sum(b * b for b in g))


def by_hand(u, mode, temperature, used=(True, True, True)):
    cosines = [cosine(u, g) for g in G]
    live = [k for k in range(3) if used[k]]
    if mode == "softmax":
        total = sum(math.exp(cosines[k] / temperature) for k in live)
        row = {k: math.exp(cosines[k] / temperature) / total for k in live}
    elif mode == "argmax":
        row = {max(live, key=lambda k: cosines[k]): 1.0}
    elif mode == "cosine":
        row = {k: cosines[k] for k in live}
    else:
        row = dict.fromkeys(live, 1.0)
    return [row.get(k, 0.0) for k in range(3)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("used", [(True, True, True), (True, False, True), (False, True, False)])
def test_weights_follow_the_formula_of_their_mode(mode, temperature, used):
    found = activation_weights(U, G, np.array(used), mode=mode, temperature=temperature)
    assert (found.dtype, found.shape) == (np.float32, (3, 3))
    np.testing.assert_allclose(found, [by_hand(u, mode, temperature, used) for u in U], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("used", [[True, False, True], [False, False, True]])
def test_unused_subspaces_get_exactly_nothing_even_when_they_are_nearest(mode, used):
    nearest_to_unused = G[[0, 1]] * 5
    found = activation_weights(nearest_to_unused, G, np.array(used), mode=mode, temperature=0.05)
    assert not found[:, ~np.array(used)].any()
    assert found[:, np.array(used)].any(axis=1).all()


@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 1e3, 1e9])
def test_extreme_temperatures_stay_finite_and_sum_to_one(temperature):
    found = activation_weights(U, G, USED, mode="softmax", temperature=temperature)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    limit = [by_hand(u, "argmax", 1) for u in U] if temperature < 1 else np.full((3, 3), 1 / 3)
    np.testing.assert_allclose(found, limit, atol=2e-2 if temperature in (1e-3, 1e3) else 1e-6)


@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.floats(1e-4, 1e4),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1e-20, 1.0, 1e15]),
)
def test_softmax_rows_are_probabilities_for_any_tokens(n, k, temperature, seed, size):
    generator = np.random.default_rng(seed)
    u, g = (generator.normal(size=(rows, 4)).astype(np.float32) * np.float32(size) for rows in (n, k))
    used = generator.random(k) < 0.7
    used[generator.integers(k)] = True
    found = activation_weights(u, g, used, mode="softmax", temperature=temperature)
    assert (found >= 0).all() and not found[:, ~used].any()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_a_row_depends_on_its_own_instruction_alone():
    together = activation_weights(U, G, USED, mode="softmax", temperature=0.05)
    for i in range(3):
        alone = activation_weights(U[i : i + 1], G, USED, mode="softmax", temperature=0.05)
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-6)


def test_a_zero_token_has_cosine_zero():
    assert cosine_matrix(np.zeros((1, 2), np.float32), G).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("mode", MODES)
def test_no_used_subspace_is_an_error(mode):
    with pytest.raises(ValueError, match="No subspace is in use"):
        activation_weights(U, G, np.zeros(3, bool), mode=mode, temperature=0.05)


def test_an_unknown_mode_is_named():
    with pytest.raises(ValueError, match=r"'best'.*softmax, argmax, cosine, concat"):
        activation_weights(U, G, USED, mode="best", temperature=0.05)


class Given:
    """An encoder that knows the tokens of three words."""

    def encode(self, texts):
        return np.array([{"near": [1, 0], "between": [3, 4], "far": [-1, -1]}[text] for text in texts], np.float32)


@pytest.mark.parametrize("far", [None, -0.8, -0.7, 0.79, 0.81])
@pytest.mark.parametrize("given", [None, "auto", -0.8, -0.7, 0.79, 0.81])
def test_far_is_told_by_the_fallback_or_by_the_encoder(far, given):
    """Largest cosines are 1, 0.8 and -0.71; ``auto`` takes the encoder's own, and is refused where it has none."""
    encoder = Given()
    encoder.nearness = Nearness(far=far)
    tokens = SubspaceTokens(np.array([[3, 0], [0, 2], [-9, -9]], np.float32), np.array([3, 2, 0]))
    if (far, given) == (None, "auto"):
        with pytest.raises(FcitError, match="`fcit_fallback_threshold: auto` has no cosine"):
            Router(encoder, tokens, "softmax", 0.05, "auto", given)
        return
    router = Router(encoder, tokens, "softmax", 0.05, "auto", given)
    cut = far if given in (None, "auto") else given
    asked = encoder.encode(["near", "between", "far"])
    expected = [cut is not None and cosine < cut for cosine in (1, 0.8, -np.sqrt(0.5))]
    assert router.far(asked).tolist() == expected
    left = expected if given is not None else [False] * 3
    assert (router.weights_of(asked).sum(axis=1) == 0).tolist() == left, "nothing is left to the base model unasked"


def told_from(cosine):
    """Counts of instructions that all have this cosine, a multiple of 0.05, or slightly more."""
    place = round((cosine + 1) * BINS / 2)
    return tuple(100 * (i == place) for i in range(BINS))


@pytest.mark.parametrize("far", [None, -0.8, 0.5])
@pytest.mark.parametrize("given", [None, "auto", 0.1, 0.85])
@pytest.mark.parametrize("own", [{}, {0: 0.9}, {1: 0.9}, {1: -0.9}, {0: 0.3, 1: 0.75}, {0: 0.9, 1: 0.85, 2: -0.95}], ids=str)
def test_a_question_is_far_that_is_farther_than_the_own_instructions_of_its_nearest_subspace(far, given, own):
    """Nearest are 0, 1 and 1 at 1, 0.8 and -0.71; subspace 2 is not in use. ``auto`` is the lowest of all that is known."""
    encoder = Given()
    encoder.nearness = Nearness(far=far)
    tokens = SubspaceTokens(np.array([[3, 0], [0, 2], [-9, -9]], np.float32), np.array([3, 2, 0]))
    asked = encoder.encode(["near", "between", "far"])
    counts = {k: told_from(cosine) for k, cosine in own.items()}
    if (far, given) == (None, "auto"):
        with pytest.raises(FcitError, match="`fcit_fallback_threshold: auto` has no cosine"):
            Router(encoder, tokens, "softmax", 0.05, "auto", given, own_cosines=counts)
        return
    router = Router(encoder, tokens, "softmax", 0.05, "auto", given, own_cosines=counts)
    fallback = min([far, *(own[k] for k in (0, 1) if k in own)]) if given == "auto" else given
    cosines = (1, 0.8, -np.sqrt(0.5))
    distance = router.distance(asked)
    np.testing.assert_allclose(distance.cosine, cosines)
    assert distance.subspace.tolist()[:2] == [0, 1] and distance.subspace[2] in (0, 1)
    limits = []
    for k in distance.subspace.tolist():
        known = [cut for cut in (own.get(k), fallback) if cut is not None]
        limits.append(max(known) if known else far)
    assert router.far(asked).tolist() == [cut is not None and cos < cut for cos, cut in zip(cosines, limits, strict=True)]
    left = [fallback is not None and cosine < fallback for cosine in cosines]
    assert (router.weights_of(asked).sum(axis=1) == 0).tolist() == left
    plain = Router(encoder, tokens, "softmax", 0.05, "auto", fallback)
    assert router.weights_of(asked).tobytes() == plain.weights_of(asked).tobytes(), "what is known changes no weight"


def test_cosines_of_auto_are_those_that_the_benchmark_chose():
    assert (PLAIN.far, SENTENCES.far, WHITENED.far) == (None, 0.25, 0.2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("fallback", "left"), [(None, []), (-0.8, []), (-0.7, [2]), (0.79, [2]), (0.81, [1, 2])])
def test_an_instruction_whose_best_cosine_is_below_the_threshold_gets_no_weight(mode, fallback, left):
    """Cosines to (1, 0) and (0, 1), the used ones: 1 and 0; 0.6 and 0.8; twice -0.71."""
    counts = np.array([3, 2, 0])
    tokens = SubspaceTokens(np.array([[3, 0], [0, 2], [-9, -9]], np.float32), counts)
    plain, guarded = (Router(Given(), tokens, mode, 0.05, "auto", given) for given in (None, fallback))
    expected = plain.weights([("near",), ("between",), ("far",)])
    assert expected.any(axis=1).all()
    expected[left] = 0
    assert guarded.weights([("near",), ("between",), ("far",)]).tolist() == expected.tolist()
