"""Prototypes: groups as drawn, against brute force; and what several tokens can that one cannot."""

import numpy as np
import pytest

from fcit_plugin.knowledge.activation import Router, cosine_matrix
from fcit_plugin.knowledge.identity_tokens import ClientToken, SubspaceTokens
from fcit_plugin.knowledge.organizer import Organizer
from fcit_plugin.knowledge.prototypes import MOST_COMPARED, Prototypes, kinds_of, nearest_cosines, prototypes_of
from fcit_plugin.knowledge.vectors import GRID_BITS


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


@pytest.mark.parametrize("seed", range(3))
def test_groups_are_found_as_by_brute_force_and_the_first_ones_are_the_same_when_it_ends_early(seed):
    rng = np.random.default_rng(seed)
    rows, weights = rng.normal(size=(60, 3)), rng.integers(1, 6, size=60)
    directions = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    near, left, means, sizes = directions @ directions.T >= 0.8, set(range(60)), [], []
    while left:
        groups = {i: [j for j in left if near[i, j] or i == j] for i in sorted(left)}
        group = max(groups.values(), key=lambda members: weights[members].sum())
        means.append((weights[group, None] * rows[group]).sum(axis=0) / weights[group].sum())
        sizes.append(weights[group].sum())
        left -= set(group)
    whole = prototypes_of(rows, 0.8, weights)
    assert whole.counts.tolist() == sizes
    np.testing.assert_allclose(whole.means, means, rtol=1e-5, atol=1e-6)
    heavy = sum(size >= sizes[2] for size in sizes)
    for found, count in (
        (prototypes_of(rows, 0.8, weights, most=2), 2),
        (prototypes_of(rows, 0.8, weights, fewest=sizes[2]), heavy),
    ):
        assert found.counts.tolist() == sizes[:count] and np.array_equal(found.means, whole.means[:count])


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


def test_a_client_tells_no_kind_of_fewer_than_five_instructions_unless_it_has_none_larger():
    told = kinds_of(kinds(20, 4, 6))
    assert told.counts.tolist() == [20, 6]
    few = kinds(4, 3)
    alone = kinds_of(few)
    assert alone.counts.tolist() == [7]
    np.testing.assert_allclose(alone.means[0], few.mean(axis=0), atol=2.0**-GRID_BITS * np.abs(few).max())


def test_equal_instructions_count_as_often_as_they_occur():
    rows = np.repeat(kinds(3, 2), [5, 5, 5, 5, 5], axis=0)
    assert kinds_of(rows).counts.tolist() == [15, 10]


def test_of_very_many_instructions_a_part_is_compared():
    told = kinds_of(kinds(6000, 3000))
    assert len(told.counts) == 2 and told.counts.sum() == MOST_COMPARED
    assert told.counts[0] / told.counts[1] == pytest.approx(2, rel=0.1)


def token(client, mean, kinds=None):
    return ClientToken(client, np.array(mean, np.float32), 10, 10, kinds)


def test_the_organizer_keeps_the_kinds_of_each_subspace_and_its_means_as_without_them():
    organizer, empty = Organizer(0.9, None), SubspaceTokens.empty(16)
    parts = {c: kinds(*sizes, seed=c) for c, sizes in {1: (10, 10), 2: (10, 10), 3: (0, 0, 20)}.items()}
    clients = [token(c, rows.mean(axis=0), kinds_of(rows)) for c, rows in parts.items()]
    plain = [token(c.client, c.mean) for c in clients]
    assignment = organizer.assign(clients, empty)
    assert assignment == organizer.assign(plain, empty) and assignment.subspace == {1: 0, 2: 0, 3: 1}
    found, without = (organizer.update(empty, some, assignment) for some in (clients, plain))
    np.testing.assert_array_equal(found.sums, without.sums)
    assert without.kinds is None and [part.counts.tolist() for part in found.kinds] == [[20, 20], [20]]
    shuffled = organizer.update(empty, clients[::-1], assignment)
    for one, other in zip(found.kinds, shuffled.kinds, strict=True):
        np.testing.assert_array_equal(one.means, other.means)


def test_kinds_survive_a_file_and_an_old_state_s_means_are_kinds():
    organizer = Organizer(0.9, None)
    old = SubspaceTokens(np.eye(16, dtype=np.float32)[:2] * 30, np.array([30, 0]))
    rows = kinds(10, 10)
    client = token(5, rows.mean(axis=0), kinds_of(rows))
    state = organizer.update(old, [client], organizer.assign([client], old))
    assert [part.counts.tolist() for part in state.kinds] == [[30], [], [10, 10]]
    again = SubspaceTokens.from_arrays(state.to_arrays())
    for one, other in zip(state.kinds, again.kinds, strict=True):
        np.testing.assert_array_equal(one.means, other.means)
        np.testing.assert_array_equal(one.counts, other.counts)
    assert SubspaceTokens.from_arrays(old.to_arrays()).kinds is None


@pytest.mark.parametrize("mode", ["softmax", "argmax", "cosine", "concat"])
def test_a_router_of_one_kind_for_each_subspace_is_that_of_their_means(mode):
    rng = np.random.default_rng(1)
    sums, counts = rng.normal(size=(3, 8)).astype(np.float32) * 5, np.array([5, 0, 5])
    plain = SubspaceTokens(sums, counts)
    asked = rng.normal(size=(6, 8))
    for fallback in (None, 0.2):
        expected = Router(None, plain, mode, 0.05, "auto", fallback).weights_of(asked)
        found = Router(None, SubspaceTokens(sums, counts, plain.as_kinds()), mode, 0.05, "auto", fallback).weights_of(asked)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
