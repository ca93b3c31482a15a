"""Which tasks a client has worked on before, and which of their records it has kept (for replay)."""

import numpy as np

from .sampling import sample_clients
from .streams import Stream, generator
from .tasks import Scenario


def earlier_tasks(
    scenario: Scenario, *, num_clients: int, per_round: int, num_rounds: int, seed: int, client: int, stage: int
) -> list[int]:
    """Indices of the tasks that a client was asked to train in the stages before one, ascending.

    Rounds that had to be tried again with other clients are not seen: memories do not depend on who failed. Nor are stages
    of a run that this one goes on from: their records are no longer there.
    """
    found = set()
    for t in range(scenario.first_stage, stage):
        for r in range(num_rounds):
            clients = sample_clients(num_clients, per_round, seed=seed, stage=t, round=r)
            if client in clients:
                found.add(scenario.task_of(t, clients.index(client)))
    return sorted(found)


def kept_records(records: np.ndarray, count: int, *, seed: int, client: int, task: int) -> np.ndarray:
    """The records of a task that a client keeps: always the same.

    Args:
        records: Indices of all that it has of the task, int64.
        count: How many it keeps at most.
        seed: Seed of the run.
        client: Its number.
        task: Index of the task.

    Returns:
        Some of the indices, int64, ascending.
    """
    return np.sort(generator(seed, Stream.KEPT_RECORDS, client, task).permutation(records)[:count])
