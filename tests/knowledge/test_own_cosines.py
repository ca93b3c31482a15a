"""How near own instructions lie: counts against sorted lists, and what a client tells against a loop over its records."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcit_plugin.knowledge.activation import own_counts
from fcit_plugin.knowledge.nearness import PLAIN, WHITENED
from fcit_plugin.knowledge.own_cosines import BINS, added, bounded, of_a_hundred, quantile, shown, told
from fcit_plugin.knowledge.prototypes import FEWEST, kinds_of
from fcit_plugin.knowledge.token_forms import FORMS
from fcit_plugin.schema import LARGEST

SOME = st.lists(st.sampled_from([0, 0, 1, 2, 4, 5, 9, 200]), min_size=BINS, max_size=BINS).map(tuple)


def listed(counts):
    """The bin of each record, ascending."""
    return [place for place, count in enumerate(counts) for _ in range(count)]


@given(SOME)
def test_no_few_records_are_told_of_and_none_is_told_farther_than_it_is_but_for_the_nearest(counts):
    found = told(counts, FEWEST)
    if sum(counts) < FEWEST:
        assert found is None
        return
    assert sum(found) == sum(counts) and all(count == 0 or count >= FEWEST for count in found)
    before, after = listed(counts), listed(found)
    moved_back = [i for i, (one, other) in enumerate(zip(before, after, strict=True)) if other < one]
    assert len(moved_back) < FEWEST and moved_back == [*range(len(before) - len(moved_back), len(before))]


@given(SOME, st.sampled_from([1, 5, 50, 100]))
def test_a_quantile_is_the_lower_end_of_the_bin_of_its_record(counts, percent):
    places = listed(counts)
    if not places:
        assert quantile(counts, percent) is None and shown(counts) == ""
        return
    of_record = np.quantile(places, percent / 100, method="inverted_cdf")
    assert quantile(counts, percent) == pytest.approx(-1 + 0.05 * of_record)


@given(SOME, st.integers(1, 1000))
def test_a_hundred_have_all_quantiles_and_do_not_tell_how_many_there_are(counts, times):
    hundred = of_a_hundred(counts)
    assert sum(hundred) == (100 if any(counts) else 0) and min(hundred) >= 0
    assert [quantile(hundred, percent) for percent in range(1, 101)] == [quantile(counts, percent) for percent in range(1, 101)]
    assert of_a_hundred(tuple(times * count for count in counts)) == hundred == of_a_hundred(hundred)


@given(st.lists(st.tuples(st.integers(0, 2), st.one_of(SOME, st.just((LARGEST,) * BINS))), max_size=4))
def test_sums_are_the_same_in_any_order_and_end_at_the_largest_exact_number(parts):
    expected = {k: np.sum([counts for at, counts in parts if at == k], axis=0, dtype=object) for k in {k for k, _ in parts}}
    for order in itertools.permutations(parts):
        found = added({}, order)
        assert list(found) == sorted(expected)
        assert all(counts == tuple(min(each, LARGEST) for each in expected[k]) for k, counts in found.items())
        assert added(added({}, order[:2]), order[2:]) == found


@given(SOME, st.integers(1, 5000))
def test_counts_are_bounded_with_their_shares(counts, most):
    found = bounded(counts, most)
    assert sum(found) <= max(most, 0) or found == counts
    total = sum(counts)
    expected = [count if total <= most else int(np.floor(count * most / total + 1e-12)) for count in counts]
    np.testing.assert_allclose(found, expected, atol=0)


def cosine(one, other):
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("near", [PLAIN, WHITENED], ids=["kinds alone", "mean too"])
@pytest.mark.parametrize("with_kinds", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_each_instruction_is_held_against_the_mean_of_the_others_as_a_question_to_a_subspace(name, near, with_kinds, seed):
    rng, form = np.random.default_rng(seed), FORMS[name]
    centers = np.repeat(rng.normal(size=(3, 96)), [30, 8, 3], axis=0)
    rows = form.mixed((centers + 0.5 * rng.normal(size=centers.shape)).astype(np.float32))
    kinds = kinds_of(rows, near.of_a_client) if with_kinds else None
    found = own_counts(rows, rows.mean(axis=0), kinds, near, form)
    counts = [0] * BINS
    for i, row in enumerate(rows):
        best = cosine(row, form.told(np.delete(rows, i, axis=0).mean(axis=0)))
        if kinds is not None:
            of_kinds = max(cosine(row, form.told(mean)) for mean in kinds.means)
            best = max(best, of_kinds) if near.mean_too else of_kinds
        counts[min(int((min(best / form.left, 1.0) + 1) / 2 * BINS), BINS - 1)] += 1
    assert found == told(counts, FEWEST) and sum(found) == len(rows)


def test_equal_instructions_are_as_near_as_can_be_and_a_few_tell_nothing():
    rows = np.ones((FEWEST, 3), np.float32)
    assert own_counts(rows, rows[0], None, PLAIN, FORMS["full"]) == (0,) * (BINS - 1) + (FEWEST,)
    assert own_counts(rows[1:], rows[0], None, PLAIN, FORMS["full"]) is None
