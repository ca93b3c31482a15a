"""Which clients take part in a round, and the seed of each (spec, section 1).

Every draw depends on its coordinates alone and on nothing drawn before, so a resumed run and a run on
other machines sample the same clients. The coordinates are the spawn key of a `SeedSequence`: unlike a list
of seeds, where [7] and [7, 0] are one and the same, different coordinates give independent streams.
"""

import numpy as np

_SAMPLE, _CLIENT = 0, 1


def sample_clients(num_clients: int, per_round: int, *, seed: int, stage: int, round: int) -> tuple[int, ...]:
    """Draw the S clients of a round out of N, without replacement.

    Args:
        num_clients: N, clients are numbered from 0.
        per_round: S.
        seed: seed of the run, 0 or more.
        stage: t.
        round: r, counted from 0 in each stage.

    Returns:
        The clients in the order in which they were drawn, which is the order that a heterogeneous schedule
        counts them in. (Sorted, a client's number would go with its task.)

    Raises:
        ValueError: S is not between 1 and N.
    """
    if not 1 <= per_round <= num_clients:
        raise ValueError(
            f"fcit_clients_per_round is {per_round}; it must be from 1 to fcit_num_clients, which is {num_clients}."
        )
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_SAMPLE, stage, round)))
    return tuple(generator.choice(num_clients, size=per_round, replace=False).tolist())


def client_seed(seed: int, stage: int, round: int, client: int) -> int:
    """Return the seed of one client's local training in one round, from 0 to 2^31 - 1."""
    sequence = np.random.SeedSequence(seed, spawn_key=(_CLIENT, stage, round, client))
    return int(sequence.generate_state(1)[0]) >> 1
