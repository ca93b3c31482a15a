"""Paired differences over seeds against scipy's own test and a closed form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fcit_plugin.evaluation.paired import Difference

SCORES = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=12)


@given(SCORES)
def test_the_interval_is_that_of_scipys_paired_t_test(pairs):
    ours, theirs = ({seed: pair[side] for seed, pair in enumerate(pairs)} for side in (0, 1))
    found = Difference.of(ours, theirs)
    gaps = [a - b for a, b in pairs]
    assert found.pairs == len(pairs)
    if len(set(gaps)) > 1:
        low, high = stats.ttest_rel([a for a, _ in pairs], [b for _, b in pairs]).confidence_interval(0.95)
        assert found.mean - found.half == pytest.approx(low, abs=1e-6)
        assert found.mean + found.half == pytest.approx(high, abs=1e-6)


def test_two_pairs_by_hand():
    """t(0.975, 1) = tan(0.475 pi) = 12.706; the differences 1 and 3 deviate by sqrt 2, so half is 12.706."""
    found = Difference.of({1: 5.0, 2: 9.0}, {1: 4.0, 2: 6.0})
    assert (found.mean, found.pairs) == (2.0, 2)
    assert found.half == pytest.approx(12.7062, abs=1e-4)
    assert str(found) == "+2.00 (-10.71 to +14.71)"


def test_seeds_that_only_one_has_are_left_out_and_one_pair_has_no_interval():
    found = Difference.of({1: 5.0, 2: 9.0}, {2: 6.0, 3: 1.0})
    assert (found.mean, found.half, found.pairs) == (3.0, None, 1)
    assert str(found) == "+3.00"
    assert Difference.of({1: 5.0}, {2: 6.0}) is None
