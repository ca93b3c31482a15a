"""What counts and lengths that clients name come to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcit_plugin.knowledge.identity_tokens import ClientToken
from fcit_plugin.knowledge.prototypes import Prototypes
from fcit_plugin.knowledge.weighing import Weighing

COUNTS = st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=9)


def tokens(counts, kinds=None):
    return [ClientToken(i, np.eye(9, dtype=np.float32)[i] * (i + 1), n, n, kinds) for i, n in enumerate(counts)]


def weighed(counts, ratio):
    return [token.num_examples for token in Weighing(count_ratio=ratio).bounded(tokens(counts))]


@given(COUNTS, st.floats(1, 10))
def test_a_count_is_at_most_the_ratio_times_the_lower_median(counts, ratio):
    median = sorted(counts)[(len(counts) - 1) // 2]
    assert weighed(counts, ratio) == [min(count, int(ratio * median)) for count in counts]


@given(COUNTS, st.integers(0, 8), st.floats(1, 10))
def test_no_minority_moves_the_bound_above_what_the_others_name(counts, attackers, ratio):
    attackers = min(attackers, (len(counts) - 1) // 2)
    told = [2**31 - 1] * attackers + counts[attackers:]
    assert max(weighed(told, ratio)) <= ratio * max(counts[attackers:])


def test_one_of_four_that_names_two_thousand_million_examples_is_one_of_four():
    assert weighed([2**31 - 1, 40, 50, 60], 1) == [50, 40, 50, 50]


def test_without_a_ratio_and_a_length_tokens_are_as_they_came():
    given_ = tokens([3, 7])
    assert all(a is b for a, b in zip(Weighing().bounded(given_), given_, strict=True))


def test_lengths_are_one_and_directions_stay():
    found = Weighing(unit_length=True).bounded(tokens([3, 7, 9]))
    for i, token in enumerate(found):
        np.testing.assert_array_equal(token.mean, np.eye(9, dtype=np.float32)[i])


def test_kinds_keep_their_shares_of_a_bounded_count():
    kinds = Prototypes(5 * np.eye(9, dtype=np.float32)[:2], np.array([300, 100], np.int64))
    one, *_ = Weighing(True, 1).bounded([*tokens([400], kinds), *tokens([1, 40, 40])[1:]])
    assert one.count == 40
    np.testing.assert_array_equal(one.kinds.counts, [30, 10])
    np.testing.assert_allclose(np.linalg.norm(one.kinds.means, axis=1), 1)


@pytest.mark.parametrize("ratio", [1, 2.5])
def test_the_order_of_clients_does_not_matter(ratio):
    counts = [5, 900, 17, 1, 40]
    assert sorted(weighed(counts, ratio)) == sorted(weighed(counts[::-1], ratio))
