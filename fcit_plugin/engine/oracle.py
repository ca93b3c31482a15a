"""The task-known oracle (``fcit_bound: oracle``): identity tokens that name the task, whatever the instruction says.

All else is DISCO's: clients of one task, and of no other, share a subspace, and a test record is answered by its own
task's subspace alone. What separates a run from its oracle is what routing by instructions costs.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from typing_extensions import override

from ..data.named import ForTest, Named
from ..data.pipeline import Pipeline, Split
from ..errors import FcitError
from ..scenario.tasks import Scenario


def task_of(scenario: Scenario) -> dict[str, str]:
    """The name of the task of each dataset.

    Raises:
        FcitError: A dataset is part of several tasks.
    """
    found: dict[str, str] = {}
    for task in scenario.tasks:
        for name in task.datasets:
            if name in found:
                raise FcitError(
                    f"`fcit_bound: oracle` needs one task for each dataset, and {name} is part of two "
                    f"({found[name]}, {task.name}); change `fcit_stages`."
                )
            found[name] = task.name
    return found


class TaskEncoder:
    """One dimension for each task.

    Args:
        scenario: Its tasks.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.names = [task.name for task in scenario.tasks]

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of the named tasks, float32 [n, D]; zeros for other texts."""
        return np.array([[text == name for name in self.names] for text in texts], np.float32)


class TaskPipeline(Pipeline):
    """Data whose records have the name of their task as instruction; what is learned and asked stays as it is.

    Args:
        scenario: Its tasks; the others are those of :class:`Pipeline`.
    """

    def __init__(self, scenario: Scenario, *args) -> None:
        super().__init__(*args)
        self._task_of = task_of(scenario)

    @override
    def _split(self, name: Named) -> Split:
        split = super()._split(name)
        task = self._task_of[name.dataset if isinstance(name, ForTest) else name]
        return dataclasses.replace(split, instructions=[(task,)] * len(split))
