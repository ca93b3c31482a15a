"""Dynamic knowledge organization (DKO): which client trains which subspace (docs/guide/settings.md).

Two questions are kept apart. `match` is what anyone can answer from the server's public state and one token:
does a known subspace serve this kind of instruction? `Organizer.assign` then sorts the clients without a match
into new subspaces. One invariant holds throughout:

    A client's update only lands in a subspace whose weights the client started from.

A matched client starts from its subspace; all others start from the fresh LoRA initialization, and only
subspaces opened in that same round, which start there too, take them in.
"""

import copy
import logging
import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np

from ..errors import FcitError
from .identity_tokens import ClientToken, SubspaceTokens, check_vector
from .linkage import blocks, single_linkage
from .prototypes import MAX_TOTAL, OF_ONE_KIND, Prototypes, merged
from .vectors import TIE, first_largest, unit

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assignment:
    """What the organizer decided for one round.

    Attributes:
        subspace: client -> subspace.
        cosine: client -> cosine of its token to the token of the subspace it matched or, in a new subspace,
            to the mean token of the cluster that opened it.
        opened: the new subspaces, ascending; they continue the numbers of the existing ones.
    """

    subspace: dict[int, int]
    cosine: dict[int, float]
    opened: tuple[int, ...]

    def only(self, clients: Container[int]) -> "Assignment":
        """The same for some of the clients; a new subspace that none of them trains is not opened, and leaves no number."""
        left = {client: k for client, k in self.subspace.items() if client in clients}
        opened = sorted({k for k in left.values() if k in self.opened})
        first = self.opened[0] if self.opened else 0
        number = {k: first + place for place, k in enumerate(opened)}
        return Assignment(
            {client: number.get(k, k) for client, k in left.items()},
            {client: self.cosine[client] for client in left},
            tuple(number.values()),
        )


def match(
    mean: np.ndarray, tokens: SubspaceTokens, threshold: float, max_subspaces: int | None, opens: bool = True
) -> int | None:
    """Say which existing subspace serves a client, from its token and public server state alone.

    Args:
        mean: [D], the client's token m_c.
        tokens: state of the K existing subspaces.
        threshold: tau.
        max_subspaces: upper bound of K, None for none.
        opens: whether a client below tau may open a subspace where another one would do.

    Returns:
        k of the largest cos(m_c, g_k) (ties: the smallest k) if it is >= tau, or if no further subspace may be
        opened; else None: the client starts from the fresh LoRA initialization.

    Raises:
        FcitError: `mean` is not finite, zero, or of another dimension than the subspaces.
    """
    mean = np.asarray(mean)
    check_vector(mean)
    _check_dimension(mean, tokens.sums.shape[1], "given")
    return _match(mean[None], tokens, threshold, max_subspaces, opens)[0][0]


class Organizer:
    """Assigns the clients of a round to subspaces and keeps the subspaces' identity tokens.

    Holds the rules and no state. What it returns does not depend on the order of `clients`. Cosines that differ by no more than
    `TIE` are equal, to each other and to the threshold (:mod:`.vectors`).

    Args:
        threshold: tau, the cosine from which two tokens are of one kind.
        max_subspaces: upper bound of K, None for none.
        small_share: a client alone in its cluster with a smaller share than this of the round's examples
            opens no subspace if another cluster of the round can take it in.
        max_new: upper bound of the subspaces that open in one round, None for none.
        of_one_kind: the cosine from which kinds that several clients tell are one.

    Attributes:
        opens: whether a client below the threshold may open a subspace where there are others; see `closed`.
    """

    opens = True

    def __init__(
        self,
        threshold: float,
        max_subspaces: int | None,
        small_share: float = 1e-3,
        max_new: int | None = None,
        of_one_kind: float = OF_ONE_KIND,
    ) -> None:
        assert -1 <= threshold <= 1 and (max_subspaces is None or max_subspaces >= 1), (threshold, max_subspaces)
        assert max_new is None or max_new >= 1, max_new
        self.threshold = threshold
        self.max_subspaces = max_subspaces
        self.small_share = small_share
        self.max_new = max_new
        self.of_one_kind = of_one_kind

    def own_subspace(self, mean: np.ndarray, tokens: SubspaceTokens) -> int | None:
        """The existing subspace that one client alone knows to be its own, or None (see `match`)."""
        return match(mean, tokens, self.threshold, self.max_subspaces, self.opens)

    def closed(self) -> Self:
        """This organizer for rounds in which a client goes to the nearest subspace, however far it is; the first opens one."""
        closed = copy.copy(self)
        closed.opens = False
        return closed

    def assign(self, clients: Sequence[ClientToken], tokens: SubspaceTokens) -> Assignment:
        """Give every client of a round exactly one subspace.

        1. A client that `match`es an existing subspace goes there.
        2. The others are clustered among themselves: a chain of cosines >= tau joins (single linkage).
        3. Small clusters (see `small_share`) stand back, unless all are small.
        4. Of the rest, as many open a subspace as there are free ones, and as may open in a round, those with the most examples
           first (ties: the smallest client number). New subspaces are numbered by their smallest client number.
        5. Clients of clusters that opened none join the opened one nearest to their own token.

        Args:
            clients: all clients of the round.
            tokens: state of the existing subspaces.

        Raises:
            FcitError: a client appears twice, or its token is of another dimension than the subspaces.
        """
        clients = _in_order(clients)
        for c in clients:
            _check_dimension(c.mean, tokens.sums.shape[1], f"of client {c.client}")
        subspace, cosine, fresh = {}, {}, []
        for block in blocks(len(clients)):
            members = [clients[i] for i in block]
            found = _match(_means(members), tokens, self.threshold, self.max_subspaces, self.opens)
            for c, k, cos in zip(members, *found, strict=True):
                if k is None:
                    fresh.append(c)
                    continue

                subspace[c.client], cosine[c.client] = k, cos
                if self.opens and cos < self.threshold - TIE:
                    logger.warning(
                        f"All {tokens.num_subspaces} subspaces are taken (fcit_max_subspaces): client {c.client} goes to"
                        f" the nearest, {k}, at cosine {cos:.3f}."
                    )

        opening, waiting = self._open(_clusters(fresh, self.threshold), clients, tokens.num_subspaces)
        means = np.array([_mean_token(cluster) for cluster in opening])
        for i, cluster in enumerate(opening):
            for block in blocks(len(cluster)):
                members = [cluster[j] for j in block]
                for c, cos in zip(members, _cosines(_means(members), means[[i]]).tolist(), strict=True):
                    subspace[c.client], cosine[c.client] = tokens.num_subspaces + i, cos
        for c in fresh:
            if c.client not in subspace:
                (i,), (cos,) = _nearest(c.mean[None], means, np.ones(len(means), bool))
                subspace[c.client], cosine[c.client] = tokens.num_subspaces + int(i), float(cos)

        if waiting:
            free = None if self.max_subspaces is None else self.max_subspaces - tokens.num_subspaces
            bound = (
                f"Only {self.max_subspaces} subspaces are allowed (fcit_max_subspaces)"
                if len(opening) == free
                else f"Only {self.max_new} subspaces may open in a round (fcit_max_new_subspaces)"
            )
            logger.warning(
                f"{bound}: clients {sorted(c.client for c in waiting)} join the nearest of those opened in this round."
            )
        return Assignment(
            subspace={c.client: subspace[c.client] for c in clients},
            cosine={c.client: cosine[c.client] for c in clients},
            opened=tuple(range(tokens.num_subspaces, tokens.num_subspaces + len(opening))),
        )

    def _open(
        self, clusters: list[list[ClientToken]], clients: Sequence[ClientToken], num_subspaces: int
    ) -> tuple[list[list[ClientToken]], list[ClientToken]]:
        """Return the clusters that open a subspace, by smallest client, and the clients turned away for capacity."""
        total = _examples(clients)
        accepted = [c for c in clusters if len(c) > 1 or _examples(c) / total >= self.small_share] or clusters
        by_size = sorted(accepted, key=lambda cluster: (-_examples(cluster), cluster[0].client))
        free = len(by_size) if self.max_subspaces is None else self.max_subspaces - num_subspaces
        free = free if self.max_new is None else min(free, self.max_new)
        opening = sorted(by_size[:free], key=lambda cluster: cluster[0].client)
        return opening, [c for cluster in by_size[free:] for c in cluster]

    def update(self, tokens: SubspaceTokens, clients: Iterable[ClientToken], assignment: Assignment) -> SubspaceTokens:
        """Return the tokens after a round: g_k <- (N_k g_k + sum q_c m_c) / (N_k + sum q_c).

        Computed in float64 and stored in float32. A subspace without replies stays bit-identical; an opened
        one without replies gets a row with count 0, so that numbers never shift.

        Args:
            tokens: state before the round, left as it is.
            clients: the clients that replied, all or some of those assigned.
            assignment: of this round and these tokens.

        Raises:
            FcitError: a client appears twice, was never assigned, or its token has another dimension.
        """
        grown = tokens.num_subspaces + len(assignment.opened)
        dimension = tokens.sums.shape[1]
        sums = np.zeros((grown, dimension))
        counts = np.zeros(grown, np.int64)
        sums[: tokens.num_subspaces] = tokens.sums
        counts[: tokens.num_subspaces] = tokens.counts
        clients = _in_order(clients)
        for c in clients:
            if c.client not in assignment.subspace:
                raise FcitError(f"Client {c.client} has no subspace in this round's assignment.")
            _check_dimension(c.mean, dimension, f"of client {c.client}")
        owners = np.array([assignment.subspace[c.client] for c in clients], np.int64)
        for block in blocks(len(clients)):
            members, owner = [clients[i] for i in block], owners[block]
            weights = np.array([c.count for c in members])
            weighted = weights[:, None] * _means(members).astype(np.float64)
            for k in np.unique(owner):
                # np.add.reduce goes along the first axis row after row, so where blocks end makes no bit of difference
                sums[k] = np.add.reduce(np.vstack([sums[k], weighted[owner == k]]), axis=0)
                counts[k] = min(int(counts[k]) + sum(weights[owner == k].tolist()), MAX_TOTAL)
        kinds = None
        if tokens.kinds is not None or any(c.kinds is not None for c in clients):
            received = [[known] for known in tokens.kinds or tokens.as_kinds()]
            empty = Prototypes(np.zeros((0, dimension), np.float32), np.zeros(0, np.int64))
            received += [[empty] for _ in assignment.opened]
            for c, owner in zip(clients, owners, strict=True):
                received[owner].append(c.kinds or Prototypes(c.mean[None], np.array([c.count])))
            kinds = tuple(merged(parts, self.of_one_kind) for parts in received)
        return SubspaceTokens(sums.astype(np.float32), counts, kinds)


class SingleSubspace(Organizer):
    """Everyone trains subspace 0, which is never split."""

    def own_subspace(self, mean: np.ndarray, tokens: SubspaceTokens) -> int | None:
        """Subspace 0, once it is there."""
        return 0 if tokens.num_subspaces else None

    def assign(self, clients: Sequence[ClientToken], tokens: SubspaceTokens) -> Assignment:
        """Assign all clients to subspace 0, opened in the first round. Cosines play no part, they are NaN."""
        numbers = sorted(client.client for client in clients)
        first = tokens.num_subspaces == 0
        return Assignment(
            subspace=dict.fromkeys(numbers, 0),
            cosine=dict.fromkeys(numbers, math.nan),
            opened=(0,) if first else (),
        )


def _match(
    means: np.ndarray, tokens: SubspaceTokens, threshold: float, max_subspaces: int | None, opens: bool
) -> tuple[list[int | None], list[float]]:
    """`match` for each of [n, D], with the cosine to the subspace found."""
    if tokens.num_subspaces == 0:
        return [None] * len(means), [np.nan] * len(means)

    used = tokens.counts > 0
    nearest, cosine = _nearest(means, tokens.tokens, used)
    full = max_subspaces is not None and tokens.num_subspaces >= max_subspaces
    fits = full | (used[nearest] & ((cosine >= threshold - TIE) | (not opens)))
    return [k if fit else None for k, fit in zip(nearest.tolist(), fits, strict=True)], cosine.tolist()


def _nearest(means: np.ndarray, rows: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of [n, D] the nearest used row of [K, D] (ties: the first; 0 if none is used), and its cosine.

    The matrix product only tells which rows come into question: its last digits depend on the shapes of the matrices, and on
    the number of threads.
    """
    means, rows = unit(means), unit(rows)
    rough = np.where(used, means @ rows.T, -np.inf)
    nearest = rough.argmax(axis=1)
    close = (rough >= rough.max(axis=1, keepdims=True) - 2 * TIE) & used
    for i in np.flatnonzero(close.sum(axis=1) > 1):
        nearest[i] = first_largest(np.where(close[i], (rows * means[i]).sum(axis=-1), -np.inf))
    return nearest, (rows[nearest] * means).sum(axis=-1)


def _clusters(clients: Sequence[ClientToken], threshold: float) -> list[list[ClientToken]]:
    """Group clients by single linkage at cosine >= threshold: the connected components of that relation."""
    if not clients:
        return []

    group = single_linkage(len(clients), lambda indices: unit(_means([clients[i] for i in indices])), threshold - TIE)
    clusters: list[list[ClientToken]] = [[] for _ in range(group.max() + 1)]
    for c, i in zip(clients, group.tolist(), strict=True):
        clusters[i].append(c)
    return clusters


def _means(clients: Sequence[ClientToken]) -> np.ndarray:
    """The tokens of some clients, float32 [n, D]."""
    return np.array([c.mean for c in clients])


def _mean_token(cluster: Sequence[ClientToken]) -> np.ndarray:
    """Mean token of a cluster, sum q_c m_c / sum q_c, float64 [D]."""
    weight = np.array([c.count for c in cluster], np.float64)
    weighted = (weight[block, None] * _means([cluster[i] for i in block]) for block in blocks(len(cluster)))
    mean: np.ndarray = sum(part.sum(axis=0) for part in weighted) / weight.sum()  # no product: its digits are the threads'
    return mean


def _examples(clients: Iterable[ClientToken]) -> int:
    return sum(c.num_examples for c in clients)


def _in_order(clients: Iterable[ClientToken]) -> list[ClientToken]:
    """Sort by client number: sums of floats then do not depend on the order of replies either."""
    ordered = sorted(clients, key=lambda c: c.client)
    for one, other in pairwise(ordered):
        if one.client == other.client:
            raise FcitError(f"Client {one.client} appears twice in this round.")
    return ordered


def _cosines(means: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Cosines of [n, D] or [D] to [n, D] or [1, D], float64 [n]; row by row, so each is the same whatever the others are."""
    cosines: np.ndarray = (unit(rows) * unit(means)).sum(axis=-1)
    return cosines


def _check_dimension(mean: np.ndarray, dimension: int, whose: str) -> None:
    if len(mean) != dimension:
        raise FcitError(f"The identity token {whose} has {len(mean)} numbers, those of the subspaces {dimension}.")
