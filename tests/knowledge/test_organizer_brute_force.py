"""The organizer against a brute-force version in plain Python, in rounds drawn by chance."""

import math
from collections import deque

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fcit_plugin.knowledge.identity_tokens import ClientToken, SubspaceTokens
from fcit_plugin.knowledge.organizer import Organizer, match
from fcit_plugin.knowledge.vectors import TIE

# Brute force: lists, loops and breadth-first search; nothing of numpy.


def cosine(x, y):
    norms = math.sqrt(sum(a * a for a in x)) * math.sqrt(sum(b * b for b in y))
    return sum(a * b for a, b in zip(x, y, strict=True)) / norms if norms else 0.0


def mean_token(cluster):
    total = sum(c.count for c in cluster)
    return [sum(c.count * float(c.mean[d]) for c in cluster) / total for d in range(len(cluster[0].mean))]


def components(clients, threshold):
    left, found = sorted(clients, key=lambda c: c.client), []
    while left:
        queue, cluster = deque([left.pop(0)]), []
        while queue:
            one = queue.popleft()
            cluster.append(one)
            for other in [c for c in left if cosine(one.mean.tolist(), c.mean.tolist()) >= threshold - TIE]:
                left.remove(other)
                queue.append(other)
        found.append(sorted(cluster, key=lambda c: c.client))
    return found


def nearest(mean, rows):
    cosines = [cosine(mean, row) for row in rows]
    return next((i for i, one in enumerate(cosines) if one >= max(cosines) - TIE), 0)


def brute_force(clients, g, threshold, bound, small_share):
    clients = sorted(clients, key=lambda c: c.client)
    subspace, fresh = {}, []
    for c in clients:
        k = nearest(c.mean.tolist(), g)
        if g and (cosine(c.mean.tolist(), g[k]) >= threshold - TIE or len(g) == bound):
            subspace[c.client] = k
        else:
            fresh.append(c)

    everything = sum(c.num_examples for c in clients)
    clusters = components(fresh, threshold)
    accepted = [x for x in clusters if not (len(x) == 1 and x[0].num_examples / everything < small_share)]
    accepted = accepted if accepted else clusters
    free = len(accepted) if bound is None else bound - len(g)
    while len(accepted) > free:
        fewest = min(sum(c.num_examples for c in x) for x in accepted)
        accepted.remove([x for x in accepted if sum(c.num_examples for c in x) == fewest][-1])
    accepted.sort(key=lambda x: x[0].client)

    for c in fresh:
        own = [i for i, x in enumerate(accepted) if c in x]
        place = own[0] if own else nearest(c.mean.tolist(), [mean_token(x) for x in accepted])
        subspace[c.client] = len(g) + place
    return subspace, list(range(len(g), len(g) + len(accepted))), {c.client for c in fresh}


# Random rounds: few directions with little noise, so that chains, ties of size and full houses are common.


@st.composite
def rounds(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dimension = draw(st.integers(2, 4))
    directions = rng.normal(size=(draw(st.integers(1, 6)), dimension))
    noise = draw(st.sampled_from([0.02, 0.2, 0.6]))

    def tokens(n):
        rows = directions[rng.integers(len(directions), size=n)]
        return (rows * rng.uniform(0.5, 2, size=(n, 1)) + noise * rng.normal(size=rows.shape)).astype(np.float32)

    num_subspaces, num_clients = draw(st.integers(0, 4)), draw(st.integers(1, 12))
    counts = rng.integers(1, 50, size=num_subspaces)
    state = SubspaceTokens(tokens(num_subspaces) * counts[:, None].astype(np.float32), counts)
    examples = rng.choice([1, 2, 40, 40, 3000], size=num_clients)
    clients = [
        ClientToken(int(i), mean, int(rng.integers(1, 30)), int(n))
        for i, mean, n in zip(rng.permutation(100)[:num_clients], tokens(num_clients), examples, strict=True)
    ]
    free = draw(st.none() | st.integers(0, 3))
    bound = None if free is None or num_subspaces + free == 0 else num_subspaces + free
    return clients, state, draw(st.sampled_from([0.5, 0.9, 0.99])), bound, draw(st.sampled_from([0.0, 1e-3, 0.05]))


def on_the_edge(clients, state, threshold):
    """A cosine so close to the threshold that two ways of computing it may disagree."""
    means = [c.mean.tolist() for c in clients]
    return any(abs(cosine(mean, row) - threshold + TIE) < 1e-12 for mean in means for row in means + state.tokens.tolist())


@pytest.mark.thorough
@settings(max_examples=2000, deadline=None)
@given(rounds())
def test_assignment_equals_brute_force(case):
    clients, state, threshold, bound, small_share = case
    assume(not on_the_edge(clients, state, threshold))
    got = Organizer(threshold, bound, small_share).assign(clients, state)
    subspace, opened, fresh = brute_force(clients, state.tokens.tolist(), threshold, bound, small_share)
    assert got.subspace == subspace
    assert list(got.opened) == opened
    assert fresh_of(got) == fresh


@settings(max_examples=200, deadline=None)
@given(rounds())
def test_a_closed_one_opens_only_where_there_is_nothing(case):
    clients, state, threshold, bound, small_share = case
    assume(not on_the_edge(clients, state, threshold))
    organizer = Organizer(threshold, bound, small_share)
    got = organizer.closed().assign(clients, state)
    assert organizer.opens, "it is a copy"
    if state.num_subspaces == 0:
        assert got == organizer.assign(clients, state)
        return
    assert got.opened == ()
    for c in clients:
        row = nearest(c.mean.tolist(), state.tokens.tolist())
        assert got.subspace[c.client] == row == organizer.closed().own_subspace(c.mean, state)
        assert got.cosine[c.client] == pytest.approx(cosine(c.mean.tolist(), state.tokens.tolist()[row]), abs=1e-6)


@settings(max_examples=500, deadline=None)
@given(rounds(), st.randoms(use_true_random=False))
def test_the_order_of_replies_changes_nothing(case, random):
    clients, state, threshold, bound, small_share = case
    organizer = Organizer(threshold, bound, small_share)
    shuffled = random.sample(clients, len(clients))
    one, other = organizer.assign(clients, state), organizer.assign(shuffled, state)
    assert one == other
    assert list(one.subspace) == list(other.subspace) == sorted(c.client for c in clients)
    one, other = organizer.update(state, clients, one), organizer.update(state, shuffled, other)
    assert one.sums.tobytes() == other.sums.tobytes()
    assert one.counts.tobytes() == other.counts.tobytes()


@settings(max_examples=500, deadline=None)
@given(rounds())
def test_an_update_only_lands_where_the_client_started(case):
    clients, state, threshold, bound, small_share = case
    assignment = Organizer(threshold, bound, small_share).assign(clients, state)
    for c in clients:
        start = match(c.mean, state, threshold, bound)
        assert (start is None) == (c.client in fresh_of(assignment))
        if start is not None:
            assert assignment.subspace[c.client] == start
    assert set(assignment.opened) <= set(assignment.subspace.values())
    assert bound is None or state.num_subspaces + len(assignment.opened) <= bound


def fresh_of(assignment):
    return {c for c, k in assignment.subspace.items() if k in assignment.opened}


@settings(max_examples=500, deadline=None)
@given(rounds())
def test_token_update_is_the_closed_form(case):
    clients, state, threshold, bound, small_share = case
    organizer = Organizer(threshold, bound, small_share)
    assignment = organizer.assign(clients, state)
    before = state.sums.copy()
    new = organizer.update(state, clients, assignment)
    assert (new.sums.dtype, new.counts.dtype, new.tokens.dtype) == (np.float32, np.int64, np.float32)
    assert (state.sums == before).all()
    for k in range(new.num_subspaces):
        members = [c for c in clients if assignment.subspace[c.client] == k]
        n = int(state.counts[k]) if k < state.num_subspaces else 0
        q = sum(c.count for c in members)
        assert new.counts[k] == n + q
        if not members:
            assert new.sums[k].tobytes() == state.sums[k].tobytes()
        for d in range(new.sums.shape[1]):
            g = float(state.sums[k, d]) / n if n else 0.0
            terms = [n * g] + [c.count * float(c.mean[d]) for c in members]
            slack = 1e-6 * sum(map(abs, terms)) / (n + q)
            assert new.tokens[k, d] == pytest.approx(sum(terms) / (n + q), abs=slack, rel=1e-6)


@settings(max_examples=300, deadline=None)
@given(rounds())
def test_the_cosine_is_to_the_token_that_decided(case):
    clients, state, threshold, bound, small_share = case
    assignment = Organizer(threshold, bound, small_share).assign(clients, state)
    clusters = components([c for c in clients if c.client in fresh_of(assignment)], threshold)
    for c in clients:
        k = assignment.subspace[c.client]
        if k < state.num_subspaces:
            rows = [state.tokens[k].tolist()]
        else:
            rows = [mean_token(x) for x in clusters if {assignment.subspace[y.client] for y in x} == {k}]
        assert any(abs(assignment.cosine[c.client] - cosine(c.mean.tolist(), row)) < 1e-9 for row in rows)
