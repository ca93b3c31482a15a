"""Single linkage of directions by cosine, without the matrix of all pairs.

Two rows are linked if their cosine reaches the threshold; a group is a connected component of that relation. A row that
is linked to a *leader* is in the leader's group, so what is left to ask is which leaders belong together. The triangle
inequality of angles rules out almost all pairs of rows: with q within radius r of its leader b, p can only be linked to q
if angle(p, b) <= theta + r. For n rows in a few tight bunches the work is linear in n; rows without structure, each its own
leader, take all pairs.
"""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

#: Rows handled at a time, and numbers in a block of cosines: they bound the memory, and stay in a processor's cache.
BLOCK, NUMBERS = 512, 2**20
#: Radians that rounding may cost: two equal rows are found up to 1e-7 apart.
_SLACK = 1e-6

Take = Callable[[np.ndarray], np.ndarray]


def single_linkage(count: int, take: Take, threshold: float) -> np.ndarray:
    """Group rows by single linkage at cosine >= threshold.

    Args:
        count: n, number of rows.
        take: Gives the rows of some indices, scaled to length 1, float64 [m, D].
        threshold: tau.

    Returns:
        int64 [n], the group of each row; groups are numbered by their first row.
    """
    leaders, home, radius = _lead(count, take, threshold)
    groups = DisjointSet(range(len(leaders)))
    suspects = _suspects(take, threshold, leaders, home, radius, groups)
    for (a, b), one in sorted(suspects.items()):
        other = suspects.get((b, a))
        if a < b and other is not None and not groups.connected(a, b) and _any_linked(take, one, other, threshold):
            groups.merge(a, b)
    _, first, group = np.unique(_roots(groups, len(leaders))[home], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group]


def blocks(count: int, width: int = 1) -> Iterator[np.ndarray]:
    """The indices 0..count-1 in pieces; ``width`` is the number of cosines to each."""
    step = max(1, min(BLOCK, NUMBERS // max(width, 1)))
    for start in range(0, count, step):
        yield np.arange(start, min(start + step, count))


def _lead(count: int, take: Take, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leaders [L, D], of which no two are linked; each row's leader [n]; the angle of the farthest row of each [L]."""
    leaders: list[np.ndarray] = []
    home = np.full(count, -1)
    least: list[float] = []
    for block in blocks(count):
        rows = take(block)
        if leaders:
            known = np.array(leaders)
            for part in blocks(len(rows), len(leaders)):
                cosines = rows[part] @ known.T
                nearest = cosines.argmax(axis=1)
                cosine = cosines[np.arange(len(part)), nearest]
                linked = cosine >= threshold
                home[block[part[linked]]] = nearest[linked]
                lowest = np.array(least)
                np.minimum.at(lowest, nearest[linked], cosine[linked])
                least = lowest.tolist()
        left = np.flatnonzero(home[block] < 0)
        while len(left):
            cosine = rows[left] @ rows[left[0]]
            linked = cosine >= threshold
            linked[0] = True
            home[block[left[linked]]] = len(leaders)
            leaders.append(rows[left[0]])
            least.append(float(cosine[linked].min()))
            left = left[~linked]
    return np.array(leaders), home, _angle(np.array(least))


def _suspects(
    take: Take, threshold: float, leaders: np.ndarray, home: np.ndarray, radius: np.ndarray, groups: DisjointSet
) -> dict[tuple[int, int], np.ndarray]:
    """For leaders (a, b): the rows of a that may be linked to a row of b. Merges leaders that share a linked row."""
    floor = np.cos(np.minimum(_angle(threshold) + radius + _SLACK, np.pi))
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for block in blocks(len(home), len(leaders)):
        cosines = take(block) @ leaders.T
        is_other = np.ones(cosines.shape, bool)
        is_other[np.arange(len(block)), home[block]] = False
        i, b = np.nonzero(is_other & (cosines >= threshold))
        for one, other in np.unique(np.stack([home[block[i]], b]), axis=1).T.tolist():
            groups.merge(one, other)
        i, b = np.nonzero(is_other & (cosines >= floor))
        root = _roots(groups, len(leaders)) if len(i) else home
        apart = root[home[block[i]]] != root[b]
        found.append((block[i[apart]], b[apart]))
    row, b = (np.concatenate(part) for part in zip(*found, strict=True))
    pair = home[row] * len(leaders) + b
    order = np.argsort(pair, kind="stable")
    codes, starts = np.unique(pair[order], return_index=True)
    parts = np.split(row[order], starts[1:])  # a single empty one where there is no pair
    return {divmod(int(code), len(leaders)): rows for code, rows in zip(codes, parts, strict=False)}


def _roots(groups: DisjointSet, count: int) -> np.ndarray:
    return np.array([groups[a] for a in range(count)])


def _any_linked(take: Take, one: np.ndarray, other: np.ndarray, threshold: float) -> bool:
    for part in blocks(len(one)):
        rows = take(one[part])
        if any((rows @ take(other[block]).T >= threshold).any() for block in blocks(len(other), len(rows))):
            return True
    return False


def _angle(cosine: np.ndarray | float) -> np.ndarray:
    angle: np.ndarray = np.arccos(np.clip(cosine, -1.0, 1.0))
    return angle
