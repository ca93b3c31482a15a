"""Prototypes: groups as drawn, against brute force; and what several tokens can that one cannot."""

import numpy as np
import pytest

from fcit_plugin.knowledge.activation import cosine_matrix
from fcit_plugin.knowledge.prototypes import Prototypes, nearest_cosines, prototypes_of


def kinds(*sizes, dimension=16, noise=0.05, seed=0):
    """Vectors around axes 0, 1, ..., as many of each as asked for, mixed."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.eye(dimension)[: len(sizes)], sizes, axis=0) + noise * rng.normal(size=(sum(sizes), dimension))
    return rows[rng.permutation(len(rows))].astype(np.float32)


def test_each_kind_has_a_prototype_at_its_mean_the_largest_first():
    rows = kinds(10, 30, 20)
    found = prototypes_of(rows, 0.7)
    assert found.counts.tolist() == [30, 20, 10] and found.means.dtype == np.float32
    for mean, axis in zip(found.means, (1, 2, 0), strict=True):
        members = rows[rows.argmax(axis=1) == axis]
        np.testing.assert_allclose(mean, members.astype(np.float64).mean(axis=0), rtol=1e-6, atol=1e-7)


def test_a_threshold_of_one_keeps_every_vector_apart_and_of_minus_one_gives_the_mean():
    rows = kinds(3, 4)
    assert len(prototypes_of(rows, 1.0).counts) == 7
    whole = prototypes_of(rows, -1.0)
    np.testing.assert_allclose(whole.means[0], rows.mean(axis=0), rtol=1e-5, atol=1e-6)
    assert whole.counts.tolist() == [7]


def test_prototypes_of_prototypes_are_weighed_by_their_counts():
    parts = [prototypes_of(kinds(5, 9, seed=seed), 0.7) for seed in range(3)]
    means, counts = np.concatenate([part.means for part in parts]), np.concatenate([part.counts for part in parts])
    found = prototypes_of(means, 0.9, counts)
    assert found.counts.tolist() == [27, 15]
    everything = np.concatenate([kinds(5, 9, seed=seed) for seed in range(3)])
    for mean, axis in zip(found.means, (1, 0), strict=True):
        expected = everything[everything.argmax(axis=1) == axis].mean(axis=0)
        np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_nearest_prototype_decides_as_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    asked = rng.normal(size=(7, 5))
    subspaces = [Prototypes(rng.normal(size=(p, 5)).astype(np.float32), np.ones(p, np.int64)) for p in (1, 3, 2)]
    found = nearest_cosines(asked, subspaces)
    for i, row in enumerate(asked):
        for k, prototypes in enumerate(subspaces):
            cosines = [row @ mean / np.linalg.norm(row) / np.linalg.norm(mean) for mean in prototypes.means.astype(float)]
            assert found[i, k] == pytest.approx(max(cosines))


def test_a_kind_that_its_subspaces_mean_is_far_from_is_found_by_its_prototype():
    """Subspace 0 serves four kinds, subspace 1 one that lies near to one of them."""
    own, other = kinds(20, 20, 20, 20), np.tile(np.eye(16)[3] + 0.8 * np.eye(16)[4], (20, 1)).astype(np.float32)
    asked = np.eye(16)[[3]]
    means = np.stack([own.mean(axis=0), other.mean(axis=0)])
    assert cosine_matrix(asked, means).argmax() == 1
    assert nearest_cosines(asked, [prototypes_of(own, 0.7), prototypes_of(other, 0.7)]).argmax() == 0
