"""Who has which data when: tasks, settings, partitions and client sampling. No torch."""

from .partition import Partition, PartitionOptions, deal
from .sampling import client_seed, sample_clients
from .settings import SETTINGS, get_scenario
from .task_records import Records, Source
from .tasks import Scenario, Task

__all__ = [
    "SETTINGS",
    "Partition",
    "PartitionOptions",
    "Records",
    "Scenario",
    "Source",
    "Task",
    "client_seed",
    "deal",
    "get_scenario",
    "sample_clients",
]
