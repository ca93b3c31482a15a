"""Everything that a dry run says."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .disk import Disk
from .memory import Memory
from .work import Schedule, TaskShare


@dataclass(frozen=True)
class DataSummary:
    """One dataset.

    Attributes:
        name: Its name.
        train: Training records; None where an earlier run was trained on them.
        test: Test records that are evaluated; None without evaluation.
        lengths: Tokens of the training records that were tokenized.
    """

    name: str
    train: int | None
    test: int | None
    lengths: Sequence[int]


@dataclass(frozen=True)
class Plan:
    """Everything that a dry run says.

    Attributes:
        title: Method, setting, seed.
        settings: Lines of name and value.
        data: The datasets.
        shares: How the tasks are distributed.
        schedules: Who trains what when; several where several models are trained apart, by what they are called.
        answers: Most answers that all evaluations together generate.
        memory: Of one process; None where nothing is trained.
        notes: What else there is to know.
        left_out: How many records of each dataset are not used, as LLaMA-Factory does not use them.
        disks: Disk space, by what the schedules are called.
        names: What the records call the clients, by their numbers; empty where they have numbers alone.
    """

    title: str
    settings: Mapping[str, str]
    data: Sequence[DataSummary]
    shares: Sequence[TaskShare]
    schedules: Mapping[str, Schedule]
    answers: int
    memory: Memory | None
    notes: Sequence[str]
    left_out: Mapping[str, int] = field(default_factory=dict)
    disks: Mapping[str, Disk] = field(default_factory=dict)
    names: Sequence[str] = ()

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return sum(schedule.steps for schedule in self.schedules.values())

    @property
    def bytes_up(self) -> int:
        """Bytes from the clients in all."""
        return sum(schedule.bytes_up for schedule in self.schedules.values())

    @property
    def bytes_down(self) -> int:
        """Bytes to the clients in all."""
        return sum(schedule.bytes_down for schedule in self.schedules.values())

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        payload = next((s.payload for s in self.schedules.values() if s.payload), None)
        return {
            "title": self.title,
            "settings": dict(self.settings),
            "data": [asdict(d) | {"lengths": [int(n) for n in d.lengths]} for d in self.data],
            "shares": [share.summary() for share in self.shares],
            "work": {name: [asdict(work) for work in s.work] for name, s in self.schedules.items()},
            "steps": self.steps,
            "answers": self.answers,
            "bytes_up_per_client": payload.up if payload else 0,
            "bytes_down_per_client": payload.down if payload else 0,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "memory": asdict(self.memory) | {"total": self.memory.total} if self.memory else None,
            "disk": {name: disk.to_dict() for name, disk in self.disks.items()},
            "notes": list(self.notes),
            "left_out": dict(self.left_out),
            "client_names": list(self.names),
        }
