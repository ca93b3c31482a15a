"""Single linkage against the components of the whole matrix of cosines."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from fcit_plugin.knowledge import linkage
from fcit_plugin.knowledge.linkage import single_linkage


def unit_rows(rng, count, dimension, bunches, noise):
    centers = rng.normal(size=(bunches, dimension))
    rows = centers[rng.integers(bunches, size=count)] + noise * rng.normal(size=(count, dimension))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@settings(max_examples=600, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 60),
    dimension=st.integers(2, 6),
    bunches=st.integers(1, 8),
    noise=st.sampled_from([0.0, 0.01, 0.1, 0.4, 1.0]),
    threshold=st.sampled_from([-0.5, 0.0, 0.5, 0.9, 0.99]),
    block=st.sampled_from([1, 5, 4096]),
)
def test_groups_are_the_components_of_all_pairs(seed, count, dimension, bunches, noise, threshold, block):
    rows = unit_rows(np.random.default_rng(seed), count, dimension, bunches, noise)
    cosines = rows @ rows.T
    assume(not np.any(np.abs(cosines - threshold) < 1e-12))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linkage, "BLOCK", block)
        group = single_linkage(count, lambda indices: rows[indices], threshold)
    _, expected = connected_components(csr_array(cosines >= threshold), directed=False)
    assert group.tolist() == expected.tolist()  # both number the groups by their first row


def test_a_chain_is_one_group_however_long():
    angles = np.random.default_rng(0).permutation(np.arange(0.0, 3.1, 0.01))
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert single_linkage(len(rows), lambda indices: rows[indices], np.cos(0.011)).max() == 0
    gap = rows[np.abs(angles - 1.5) > 0.02]
    group = single_linkage(len(gap), lambda indices: gap[indices], np.cos(0.011))
    assert group.max() == 1 and len(set(group[gap[:, 0] > 0.07])) == 1


def test_tight_bunches_are_compared_with_their_leaders_alone():
    rows = unit_rows(np.random.default_rng(1), 20_000, 32, 10, 0.001)
    asked = 0

    def take(indices):
        nonlocal asked
        asked += len(indices)
        return rows[indices]

    assert single_linkage(len(rows), take, 0.9).max() == 9
    assert asked <= 3 * len(rows)
