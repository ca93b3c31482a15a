"""Noise from a secret: the numbers of an exact discrete Gaussian, a stream of its own for each sum, norms that hold exactly."""

import hashlib
import hmac
import itertools
import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from flwr.app import Message, MessageType, MetricRecord, RecordDict
from scipy.stats import chisquare, kstest, norm
from toy import BLANK, Local, Toy, bits, start

from fcit_plugin.federation import discrete_gaussian as sampler
from fcit_plugin.federation.client import TrainingResult
from fcit_plugin.federation.messages import ARRAYS, METRICS, NUM_EXAMPLES, ClientConfig, to_record, update_reply
from fcit_plugin.federation.noise import SecretNoise, SimulatedNoise
from fcit_plugin.federation.privacy import UpdatePrivacy, noisy_token
from fcit_plugin.federation.token_checks import Bounds
from fcit_plugin.knowledge.identity_tokens import ClientToken
from fcit_plugin.scenario.streams import Stream

NOISE = SecretNoise(bytes(range(32)), bytes(range(32, 64)))

# the key stream


def test_the_key_stream_is_that_of_rfc_8439():
    """Appendix A.1, test vectors 1 and 2: the blocks 0 and 1 of key and nonce 0."""
    blocks = (
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
    )
    words = sampler.key_stream(bytes(32))
    assert words(5).tobytes() + words(11).tobytes() == bytes.fromhex(blocks)


def test_a_sums_key_is_hkdf_of_the_secret_for_its_place():
    """RFC 5869, written again."""
    key = NOISE.at(Stream.UPDATE_NOISE, 1, 2, 0, 3).key("l.lora_A.weight", 0.5)
    extracted = hmac.new(b"fcit-plugin noise 2", bytes(range(32)), hashlib.sha256).digest()
    info = json.dumps([2, 1, 2, 0, 3, "l.lora_A.weight", "0x1.0000000000000p-1"]).encode()
    assert key == hmac.new(extracted, info + b"\1", hashlib.sha256).digest()


def test_every_sum_of_every_secret_has_a_key_of_its_own():
    owners = [(0, k) for k in (0, 1, 10)] + [(1,)]
    places = [(Stream.UPDATE_NOISE, (s, r, *owner)) for s, r, owner in itertools.product((0, 1, 11), (0, 1, 11), owners)]
    places += [(Stream.TOKEN_NOISE, at) for at in itertools.product((0, 1, 11), (0, 1, 11))]
    makers = [NOISE, SecretNoise(bytes(32), bytes(32)), SecretNoise.of_number("1"), SecretNoise.of_number("11")]
    keys = [
        noise.at(stream, *where).key(name, deviation)
        for noise in makers
        for stream, where in places
        for name in ("a", "b", "1", 'a", "b', "token")
        for deviation in (1.0, 1.0 + 2**-52, 2.0)
    ]
    assert len(keys) == len(set(keys)) == 4 * 45 * 5 * 3


# the numbers


def numbers(count, key=bytes(32)):
    return sampler.discrete_gaussian(sampler.key_stream(key), count)


def test_the_numbers_are_normal_and_independent():
    drawn = numbers(400_000) / sampler.SIGMA
    assert kstest(drawn, "norm").pvalue > 1e-3
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((drawn**power).mean() - moment) < 5 * (variance / len(drawn)) ** 0.5
    tail = np.abs(drawn) > 3
    assert tail.sum() == pytest.approx(len(drawn) * 2 * norm.sf(3), rel=0.15)
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 5 / len(drawn) ** 0.5
    low = np.bincount(numbers(400_000) & 63, minlength=64)
    assert chisquare(low).pvalue > 1e-3, "every step comes up, not every other one"


def test_the_probability_of_every_whole_number_is_that_of_the_discrete_gaussian(monkeypatch):
    """The same code with a standard deviation of 32 in cells of 8, which has few enough numbers to count them all."""
    for name, value in {"SIGMA": 32, "_CELL_BITS": 3, "_CELLS": 80, "_UNIT_BITS": 11}.items():
        monkeypatch.setattr(sampler, name, value)
    sampler._limits.cache_clear()
    try:
        drawn = numbers(1_000_000)
    finally:
        sampler._limits.cache_clear()
    places = np.arange(-128, 129)
    expected = np.exp(-(places.astype(float) ** 2) / (2 * 32**2))
    within = drawn[np.abs(drawn) <= 128]
    assert len(within) > 0.9998 * len(drawn)
    found = np.bincount(within + 128, minlength=257)
    assert chisquare(found, expected / expected.sum() * len(within)).pvalue > 1e-3
    assert found[128] == pytest.approx(len(drawn) / (32 * (2 * np.pi) ** 0.5), rel=0.05), "0 comes up once, not as +0 and -0"


def test_64_bits_that_do_not_decide_about_a_cell_are_followed_by_others():
    limits, heads = sampler._limits()
    assert len(limits) == 1279 and limits == sorted(limits) and limits[-1] < 2**256
    for cell in (0, 5, 200, 400):
        head, rest = heads[cell], limits[cell] % 2**192
        for more, expected in ((rest - 1, cell), (rest, cell + 1), (0, cell), (2**192 - 1, cell + 1)):
            words = [np.uint64(more >> shift & 2**64 - 1) for shift in (0, 64, 128)]
            assert sampler._cells(np.array([head]), lambda count, words=words: np.array(words[:count])) == expected


@pytest.mark.parametrize("times", [2, 3, 5, 7, 12])
def test_a_coin_of_one_in_n_is_exact_and_tossed_again_where_11_bits_do_not_divide(times):
    bits = np.arange(2**11, dtype=np.uint64) << np.uint64(53)
    asked = []

    def again(count):
        asked.append(count)
        return np.zeros(count, np.uint64)

    up = sampler._one_in(times, bits, again)
    left = 2**11 % times
    assert asked == ([left] if left else [])
    assert up.sum() == 2**11 // times + left


def test_chunks_and_counts(monkeypatch):
    assert [len(numbers(count)) for count in (0, 1, 2**16 + 1)] == [0, 1, 2**16 + 1]
    whole = numbers(1000)
    assert (numbers(1000) == whole).all() and (numbers(1000, bytes([1] * 32)) != whole).any()


# sums


@pytest.mark.parametrize("z", [1e-6, 0.3, 1.0, 300.0])
def test_a_noisy_mean_is_whole_steps_and_the_noise_of_its_place(z):
    values = [np.random.default_rng(n).normal(size=(3, 5)).astype(np.float32) for n in range(3)]
    origin = np.random.default_rng(9).normal(size=(3, 5)).astype(np.float32)
    at = NOISE.at(Stream.UPDATE_NOISE, 0, 4, 1)
    step = Fraction(2.0 * z) / 2**26
    drawn = numbers(15, at.key("w", 2.0 * z)).reshape(3, 5)
    found = at.mean("w", values, origin, 2.0 * z)
    for at_index in np.ndindex(3, 5):
        changes = [Fraction(float(value[at_index])) - Fraction(float(origin[at_index])) for value in values]
        whole = sum(int(change / step) for change in changes)
        exact = Fraction(float(origin[at_index])) + (whole + int(drawn[at_index])) * step / 3
        assert found[at_index] == pytest.approx(float(exact), abs=1e-12 * max(1, z))


def exchanged(weights, change):
    """A request with these weights and a reply that has moved them by this."""
    sent = {"w": torch.tensor(weights, dtype=torch.float32)}
    content = RecordDict({"config": ClientConfig("r", 0, 0, 4, 0).to_record(), ARRAYS: to_record(sent)})
    request = Message(content, dst_node_id=4, message_type=MessageType.TRAIN)
    trained = {"w": sent["w"] + torch.tensor(change, dtype=torch.float32)}
    return request, update_reply(request, trained, {}, ClientToken(4, np.ones(3, np.float32), 9, 70), 0.5)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("clipping", [1e-12, 1e-3, 0.7, 50.0])
def test_what_a_client_adds_has_at_most_the_norm_in_exact_arithmetic(size, clipping):
    drawn = np.random.default_rng(3)
    for _ in range(20):
        z = float(drawn.uniform(0.1, 5))
        request, reply = exchanged(size * drawn.normal(size=200), drawn.normal(size=200) * 10 ** drawn.uniform(-6, 6))
        clipped = UpdatePrivacy(clipping, z, NOISE).clip(reply, request)
        new, old = (part.content[ARRAYS]["w"].numpy() for part in (clipped, request))
        step = z * clipping / 2**26
        steps = np.trunc((new.astype(np.float64) - old) / step)
        assert sum(int(n) ** 2 for n in steps) * Fraction(step) ** 2 <= Fraction(clipping) ** 2
        if clipping > size * 1e-4:  # else float32 hardly knows such changes
            before = reply.content[ARRAYS]["w"].numpy().astype(np.float64) - old
            lengths = [float(np.linalg.norm(change)) for change in (before, new.astype(np.float64) - old)]
            assert lengths[1] == pytest.approx(min(clipping, lengths[0]), rel=0.05)


def test_a_noisy_token_of_a_secret_is_its_direction_within_length_1_with_noise_of_the_token_half():
    mean = np.arange(1, 4000, dtype=np.float32)
    direction = mean / np.linalg.norm(mean)
    found = noisy_token(mean, 0.2, NOISE, 3, 1, 9)
    assert found.dtype == np.float32
    expected = direction + 0.2 * numbers(3999, NOISE.at(Stream.TOKEN_NOISE, 3, 1, 9).key("token", 0.2)) / 2**26
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert kstest((found - direction) / 0.2, "norm").pvalue > 1e-3
    same_tokens, other_tokens = SecretNoise(bytes(32), NOISE.tokens), SecretNoise(NOISE.updates, bytes(32))
    assert noisy_token(mean, 0.2, same_tokens, 3, 1, 9).tobytes() == found.tobytes()
    assert np.abs(noisy_token(mean, 0.2, other_tokens, 3, 1, 9) - found).max() > 0.1
    steps = np.trunc(direction.astype(np.float64) * (1 - 2.0**-40) / (0.2 / 2**26))
    assert sum(int(n) ** 2 for n in steps) <= (2**26 / Fraction(0.2)) ** 2


def test_the_secret_is_in_no_text_of_its_objects():
    for shown in (NOISE, NOISE.at(Stream.TOKEN_NOISE, 1, 1), UpdatePrivacy(1.0, 1.0, NOISE)):
        assert repr(bytes(range(32)))[2:-1] not in repr(shown) and bytes(range(32)).hex() not in repr(shown)


def test_noise_of_a_toy_round_can_be_taken_off_with_the_seed_and_not_without_the_secret():
    """Issue: distance to the clean mean 90 -> 0.000002 with what everybody has."""
    keys = {"fcit_dp_clipping_norm": 2.0, "fcit_dp_noise_multiplier": 20.0}
    before, clean = start(), Toy(fcit_dp_clipping_norm=2.0).round()

    def left(secret, guess):
        toy = Toy(**keys, fcit_dp_secret=secret)
        noisy, total = toy.round(), 0.0
        for k in range(2):
            m = sum(row["subspace"] == k for row in toy.heard.rows)
            drawn = guess.at(Stream.UPDATE_NOISE, 0, 0, 0, k)
            for key in sorted(BLANK):
                noise = drawn.mean(key, [np.zeros(BLANK[key].shape)] * m, np.zeros(BLANK[key].shape), 40.0)
                total += np.square(noisy.subspaces[k][key].numpy() - noise - clean.subspaces[k][key].numpy()).sum()
        return total**0.5

    unmoved = sum(
        np.square(Toy(**keys).round().subspaces[k][key].numpy() - clean.subspaces[k][key].numpy()).sum()
        for k in range(2)
        for key in BLANK
    )
    assert unmoved**0.5 > 50 and before.round == 0
    assert left(None, SimulatedNoise(3)) < 1e-4
    for guess in (SimulatedNoise(3), SecretNoise.of_number("3"), SecretNoise(bytes(32), bytes(32))):
        assert left(2**70 + 1, guess) > 50


def test_the_holder_of_the_secret_who_has_the_updates_can_take_noise_off():
    """By the digest of what was summed up, written again: their number of arrays, and of each name, shape and numbers."""
    request, reply = exchanged(np.zeros(200), np.full(200, 0.01))
    part = Message(RecordDict({ARRAYS: reply.content[ARRAYS], METRICS: MetricRecord({NUM_EXAMPLES: 1})}), reply_to=request)
    released = UpdatePrivacy(2.0, 3.0, NOISE).release([part], request, ARRAYS, 1, 2, 0).content[ARRAYS]["w"].numpy()
    raw = part.content[ARRAYS]["w"].numpy()
    digest = hashlib.sha256(b"1 arrays;w (200,);" + raw.tobytes()).hexdigest()
    drawn = numbers(200, NOISE.at(Stream.UPDATE_NOISE, 1, 2, 0, 0).key(f"{digest} w", 6.0))
    np.testing.assert_allclose(released - 6.0 * drawn / 2**26, raw, atol=1e-5)
    assert np.abs(released - raw).max() > 6


# no client decides about others


class Scaled(Local):
    """One client's change is so many times as large."""

    def __init__(self, client, factor):
        self.client, self.factor = client, factor

    def train(self, config, subspace, shared, extras):
        result = super().train(config, subspace, shared, extras)
        if config.client != self.client:
            return result
        parts = [
            {key: old[key] + self.factor * (new[key] - old[key]) for key in new}
            for old, new in ((subspace, result.subspace), (shared, result.shared))
        ]
        return TrainingResult(*parts, result.loss, result.extras)


def accepted(client, factor, **keys):
    toy = Toy(local=Scaled(client, factor), **keys)
    toy.round()
    return {row["client"] for row in toy.heard.rows}


@pytest.mark.parametrize("count", [3, 4, 7])
@pytest.mark.parametrize(
    "noise", [{}, {"fcit_dp_noise_multiplier": 1.0}, {"fcit_dp_noise_multiplier": 1.0, "fcit_dp_secret": 5}]
)
def test_with_clipping_a_client_of_any_size_changes_nothing_about_who_else_is_used(count, noise):
    keys = {"without": range(count, 7), "fcit_dp_clipping_norm": 2.0, **noise}
    for client in (0, count - 1):
        found = [accepted(client, factor, **keys) for factor in (0.0, 1e-12, 1e3, 1e9)]
        assert all(one == set(range(count)) for one in found)


def test_without_clipping_a_clients_size_does_decide():
    assert accepted(0, 1e9) == {1, 2, 3, 4, 5, 6}


def test_bounds_have_no_ratio_with_clipping_whatever_else_the_recipe_says():
    for noise in ({}, {"fcit_dp_noise_multiplier": 1.0}, {"fcit_identity_noise": 1.0}):
        args = Toy(fcit_dp_clipping_norm=2.0, fcit_max_update_norm=7.0, **noise).program.args
        assert Bounds.from_args(args, 6, False) == Bounds(6, max_norm=7.0, max_norm_ratio=None)
    assert Bounds.from_args(Toy().program.args, 6, False).max_norm_ratio == 100


def test_a_resumed_round_and_another_order_of_replies_give_the_same_bits():
    keys = {"fcit_dp_clipping_norm": 2.0, "fcit_dp_noise_multiplier": 1.0, "fcit_dp_secret": 12345}
    toy = Toy(**keys)
    first = toy.round()
    assert bits(Toy(**keys).round(first)) == bits(toy.round(first))
