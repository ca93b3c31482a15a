"""Does the organizer scale? Tokens of 768 numbers in 64 kinds: ``python benchmarks/organizer.py``.

The first round sorts all clients into new subspaces, the next one matches them. A ratio is the time per client against that
of the first size. Memory is what the organizer takes beside the tokens, at its peak. Goal: 10^6 clients in under 60 s.
"""

import resource
import time

import numpy as np
from measure import arguments, resident, show

from fcit_plugin.knowledge.identity_tokens import ClientToken, SubspaceTokens
from fcit_plugin.knowledge.organizer import Organizer

D = 768


def peak() -> int:
    """The most memory that the process has had so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Print a table."""
    args = arguments(__doc__, clients=[100, 1_000, 10_000, 100_000, 1_000_000], kinds=64)
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(args.kinds, D)).astype(np.float32)
    organizer, rows = Organizer(0.9, None), []
    for count in [100, 200] if args.tiny else args.clients:
        kinds = rng.integers(args.kinds, size=count)
        clients = [ClientToken(i, centers[k] + 0.1 * rng.standard_normal(D, np.float32), 10, 100) for i, k in enumerate(kinds)]
        seconds, before = [], resident()
        state = SubspaceTokens.empty(D)
        for _ in range(2):
            start = time.perf_counter()
            assignment = organizer.assign(clients, state)
            state = organizer.update(state, clients, assignment)
            seconds.append(time.perf_counter() - start)
        memory = f"{(peak() - before) / 2**20:.0f} + {count * D * 4 / 2**20:.0f}"
        each = [second / count for second in seconds]
        rows.append([count, len(state.counts), *seconds, *each, memory])
        del clients
    base = rows[0][4:6]
    show(
        ("clients", "subspaces", "first, s", "next, s", "ratio first", "ratio next", "MiB + tokens"),
        [(*row[:4], row[4] / base[0], row[5] / base[1], row[6]) for row in rows],
    )


if __name__ == "__main__":
    main()
