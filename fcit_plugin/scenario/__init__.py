"""Who has which data when: tasks, settings, partitions and client sampling. No torch."""

from .partition import PARTITIONERS, partition
from .sampling import client_seed, sample_clients
from .settings import SETTINGS, get_scenario
from .tasks import Scenario, Task

__all__ = [
    "PARTITIONERS",
    "SETTINGS",
    "Scenario",
    "Task",
    "client_seed",
    "get_scenario",
    "partition",
    "sample_clients",
]
