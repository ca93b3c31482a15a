"""Numbers, shares and texts of secure sums, drawn at random."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sums import LAUNCH

from fcit_plugin.errors import FcitError
from fcit_plugin.federation.secure_sum.fixed import Fixed
from fcit_plugin.federation.secure_sum.shares import combined, split
from fcit_plugin.federation.secure_sum.texts import REQUESTS, SHARED
from fcit_plugin.federation.versioned import read


@pytest.mark.parametrize("clients", [3, 5, 50])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_numbers_of_the_most_clients_do_not_overflow(clients, sign):
    fixed = Fixed(clients, 0.25, 65536)
    total = np.zeros(1, np.uint32)
    for _ in range(clients):
        total += fixed.encode(np.array([sign * 0.25], np.float32), 65536)
    assert fixed.mean(total, clients * 65536)[0] == pytest.approx(sign * 0.25, rel=1e-6)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 1, width=32), st.integers(1, 1024)), min_size=1, max_size=50), st.floats(1e-3, 1e3))
def test_sums_of_fixed_point_numbers_are_those_of_whole_numbers(parts, largest):
    fixed = Fixed(len(parts), largest, 1024)
    values = [np.float32(x * largest * (1 - 1e-6)) for x, _ in parts]
    total = sum((fixed.encode(np.array([x]), w) for x, (_, w) in zip(values, parts, strict=True)), np.zeros(1, np.uint32))
    weights = sum(weight for _, weight in parts)
    exact = sum(float(x) * w for x, (_, w) in zip(values, parts, strict=True)) / weights
    step = len(parts) * largest * 1024 / weights / 2**31
    assert abs(fixed.mean(total, weights)[0] - exact) <= len(parts) * step


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=5) | st.just("ab" * 32),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["0", SHARED, "1", "x"]), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_text_that_may_be_anything_is_read_or_refused_in_a_sentence(data):
    step = data.draw(st.sampled_from(sorted(REQUESTS)))
    good = dict.fromkeys(REQUESTS[step].__annotations__) | {"version": 1, "launch": LAUNCH, "attempt": 0}
    value = {key: data.draw(JSON) if data.draw(st.booleans()) else kept for key, kept in good.items()}
    text = data.draw(st.sampled_from([json.dumps(value), json.dumps(value)[:-2], "[" * 10_000, "", "\ud800", None, b"{}"]))
    try:
        assert set(read(REQUESTS[step], text, "The request")) >= REQUESTS[step].__annotations__.keys()
    except FcitError as error:
        said = str(error)
        assert said.startswith(("The request is ", "The request has "))  # either is right


@settings(max_examples=100, deadline=None)
@given(st.integers(3, 8), st.data())
def test_any_half_and_one_more_shares_give_the_secret_and_half_of_them_nothing(clients, data):
    secret = data.draw(st.binary(min_size=32, max_size=32))
    shares = dict(enumerate(split(secret, clients)))
    places = data.draw(st.permutations(range(clients)))
    enough = clients // 2 + 1
    assert combined({place: shares[place] for place in places[:enough]}, clients, lambda found: found == secret) == secret
    assert combined({place: shares[place] for place in places[: enough - 1]}, clients, lambda found: True) is None
