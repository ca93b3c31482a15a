"""Who trains what when, in how many optimizer steps, and how many bytes travel: exact."""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..federation.arrays import array_header
from ..federation.compression import Compression

Shape = tuple[int, ...]


def optimizer_steps(
    num_records: int,
    *,
    batch: int,
    processes: int = 1,
    accumulation: int = 1,
    epochs: float,
    max_steps: int = -1,
    drop_last: bool = False,
) -> int:
    """Optimizer steps of one client's local training, as Hugging Face's Trainer counts them; 0 where it has no batch.

    Args:
        num_records: n_c, the client's records.
        batch: ``per_device_train_batch_size``.
        processes: Processes that share each step.
        accumulation: ``gradient_accumulation_steps``.
        epochs: ``num_train_epochs``, also a fraction.
        max_steps: ``max_steps``; above 0 it goes before the epochs.
        drop_last: ``dataloader_drop_last``: only full batches count.
    """
    batches = (math.floor if drop_last else math.ceil)(num_records / (batch * processes))
    if batches == 0:
        return 0
    if max_steps > 0:
        return max_steps
    return math.ceil(max(math.ceil(batches / accumulation), 1) * epochs)


def idle_note(reasons: Sequence[str | None]) -> str | None:
    """What is said of local trainings that cannot take a step.

    Args:
        reasons: Of each local training why, None where it takes one.

    Returns:
        None where all do.
    """
    found = [reason for reason in reasons if reason is not None]
    if not found:
        return None
    return (
        f"{len(found)} of {len(reasons)} local trainings cannot take a step and learn nothing: one of them {found[0]}. "
        "More epochs or a smaller batch give more steps; `warmup_ratio: 0` lets a single one count, "
        "`dataloader_drop_last: false` a batch that is not full."
    )


@functools.lru_cache(maxsize=1000)
def array_bytes(shape: Shape, dtype: str = "float32") -> int:
    """Size of an array in a Flower message: NumPy's own file format, a header and then the numbers."""
    return len(array_header(shape, dtype)) + np.dtype(dtype).itemsize * math.prod(shape)


@dataclass(frozen=True)
class Payload:
    """What travels for one client in one round.

    Attributes:
        subspace: Shapes of the factors of one subspace.
        trained: Shapes of those of them that are trained, which come back.
        shared: Shapes of the shared trainables (projector).
        dimension: D of the identity tokens.
        compression: What clients make of the weights that they return, None if nothing.
    """

    subspace: tuple[Shape, ...]
    trained: tuple[Shape, ...]
    shared: tuple[Shape, ...]
    dimension: int
    compression: Compression | None = None

    @property
    def down(self) -> int:
        """Bytes to the client: one subspace and the shared trainables."""
        return sum(map(array_bytes, (*self.subspace, *self.shared)))

    @property
    def up(self) -> int:
        """Bytes from the client: what is trained, and its identity token twice: once to be assigned, once with the update."""
        return self._update(self.trained) + self._update(self.shared) + 2 * array_bytes((self.dimension,))

    def _update(self, shapes: tuple[Shape, ...]) -> int:
        """Bytes of one record of weights on its way back, and of its scales."""
        if self.compression is None:
            return sum(map(array_bytes, shapes))
        scales = array_bytes((len(shapes),)) if self.compression.scaled and shapes else 0
        return sum(array_bytes(shape, self.compression.dtype) for shape in shapes) + scales


@dataclass(frozen=True)
class ClientWork:
    """One client in one round.

    Attributes:
        stage: t.
        round: r within the stage.
        client: Number of the client.
        task: Name of its task.
        records: n_c.
        steps: Optimizer steps.
        more_down: Bytes to the client beside weights and token, for its continual method and server rule.
        more_up: The same from the client.
        idle: Why its training cannot take a step, None where it can.
    """

    stage: int
    round: int
    client: int
    task: str
    records: int
    steps: int
    more_down: int = 0
    more_up: int = 0
    idle: str | None = None


@dataclass(frozen=True)
class Schedule:
    """All work of a run in its order, and what travels for it.

    Attributes:
        work: Every client of every round.
        payload: What travels for each of them; None where nothing does, as with clients that learn alone.
    """

    work: tuple[ClientWork, ...]
    payload: Payload | None

    @property
    def steps(self) -> int:
        """Optimizer steps of all clients."""
        return sum(work.steps for work in self.work)

    @property
    def bytes_up(self) -> int:
        """Bytes from all clients."""
        return sum(self.payload.up + work.more_up for work in self.work) if self.payload else 0

    @property
    def bytes_down(self) -> int:
        """Bytes to all clients."""
        return sum(self.payload.down + work.more_down for work in self.work) if self.payload else 0

    def rounds(self) -> Iterable[tuple[ClientWork, ...]]:
        """The work of each round."""
        rounds: dict[tuple[int, int], list[ClientWork]] = {}
        for work in self.work:
            rounds.setdefault((work.stage, work.round), []).append(work)
        return map(tuple, rounds.values())


@dataclass(frozen=True)
class TaskShare:
    """How one task's records are distributed.

    Attributes:
        task: Name of the task.
        sizes: n_c of every client.
    """

    task: str
    sizes: Sequence[int]

    def summary(self) -> dict[str, Any]:
        """Records in all, and the smallest, the median and the largest client."""
        return {
            "task": self.task,
            "records": int(sum(self.sizes)),
            "smallest": int(min(self.sizes)),
            "median": float(np.median(self.sizes)),
            "largest": int(max(self.sizes)),
        }
