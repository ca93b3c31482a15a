"""Which clients take part in a round, and the seed of each (docs/guide/settings.md)."""

from collections import Counter
from collections.abc import Collection, Sequence

from .streams import Stream, generator, sequence


def sample_clients(num_clients: int, per_round: int, *, seed: int, stage: int, round: int, attempt: int = 0) -> tuple[int, ...]:
    """Draw the S clients of a round out of N, without replacement.

    Args:
        num_clients: N, clients are numbered from 0.
        per_round: S.
        seed: seed of the run, 0 or more.
        stage: t.
        round: r, counted from 0 in each stage.
        attempt: how often this round has failed before. A further attempt asks those clients first that the earlier
            ones asked least often.

    Returns:
        The clients in the order in which they were drawn, which is the order that a heterogeneous schedule
        counts them in. (Sorted, a client's number would go with its task.)
    """
    assert 1 <= per_round <= num_clients, (per_round, num_clients)
    where = (Stream.CLIENTS_OF_ROUND, stage, round)
    drawn = tuple(generator(seed, *where).choice(num_clients, size=per_round, replace=False).tolist())
    asked = Counter(drawn)
    for further in range(1, attempt + 1):
        order = generator(seed, *where, further).permutation(num_clients).tolist()
        drawn = tuple(sorted(order, key=lambda client: asked[client])[:per_round])
        asked.update(drawn)
    return drawn


def seated(
    order: Sequence[int], tasks: Sequence[int], tasks_of: Sequence[Collection[int]]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give each place of a round to the first client in an order that takes part in its task and has no place yet.

    Args:
        order: the clients, those that were drawn first.
        tasks: for each place the index of its task.
        tasks_of: for each client the indices of the tasks that it takes part in.

    Returns:
        The clients, and the task of each, without the places that nobody can take.
    """
    left, found = list(order), []
    for task in tasks:
        client = next((one for one in left if task in tasks_of[one]), None)
        if client is not None:
            left.remove(client)
            found.append((client, task))
    return tuple(client for client, _ in found), tuple(task for _, task in found)


def turn(seed: int, stage: int, round: int, client: int) -> tuple[int, int]:
    """Return what the clients of a round are sorted by where they train one after the other; it depends on no other client."""
    return int(sequence(seed, Stream.TURN, stage, round, client).generate_state(1)[0]), client


def client_seed(seed: int, stage: int, round: int, client: int) -> int:
    """Return the seed of one client's local training in one round, from 0 to 2^31 - 1."""
    return int(sequence(seed, Stream.CLIENT_SEED, stage, round, client).generate_state(1)[0]) >> 1
