"""The four settings of the paper and those of other benchmarks by name, and settings of one's own (docs/guide/settings.md)."""

from collections.abc import Sequence
from typing import Any

from ..errors import FcitError
from ..fcit_benchmark.benchmarks import OTHERS
from .tasks import Scenario, Task

TASKS = tuple(
    Task(name, (f"fcit_{name}",))
    for name in (
        "imagenet_r",
        "arxivqa",
        "iconqa",
        "clevr_math",
        "ocrvqa",
        "flickr30k",
        "figureqa",
        "super_clevr",
    )
)
CAPABILITIES = (
    Task("general", ("fcit_aokvqa", "fcit_iconqa", "fcit_grounding", "fcit_imagenet_r")),
    Task("other", ("fcit_flickr30k", "fcit_ocrvqa")),
    Task("math", ("fcit_clevr_math", "fcit_super_clevr", "fcit_tabmwp")),
    Task("chart", ("fcit_arxivqa", "fcit_figureqa", "fcit_dvqa")),
)
TASK_SCHEDULE = (
    (1, 2, 4, 5, 6),
    (3, 4, 5, 7, 7),
    (0, 2, 3, 4, 5),
    (0, 0, 1, 3, 7),
    (1, 2, 4, 4, 5),
    (0, 3, 5, 7, 7),
    (2, 2, 5, 7, 7),
    (5, 5, 5, 6, 6),
)
CAPABILITY_SCHEDULE = (
    (0, 1, 1, 3, 3),
    (0, 2, 2, 2, 3),
    (1, 2, 2, 3, 3),
    (0, 0, 0, 1, 1),
)


def homogeneous(num_tasks: int) -> tuple[tuple[int, ...], ...]:
    """Return the schedule in which every client of stage t has task t."""
    return tuple((t,) for t in range(num_tasks))


SETTINGS = {
    scenario.name: scenario
    for scenario in (
        Scenario("task_hom", TASKS, homogeneous(len(TASKS))),
        Scenario("task_het", TASKS, TASK_SCHEDULE),
        Scenario("cap_hom", CAPABILITIES, homogeneous(len(CAPABILITIES))),
        Scenario("cap_het", CAPABILITIES, CAPABILITY_SCHEDULE),
    )
}
"""The four of the paper."""

OTHER_SETTINGS = {
    name: Scenario(
        name,
        tuple(Task(benchmark.task_of(dataset), (dataset.key,)) for dataset in benchmark.datasets),
        homogeneous(len(benchmark.datasets)),
    )
    for name, benchmark in OTHERS.items()
}
"""Those of other benchmarks: their datasets one after another, in the order of their code."""

NAMED_SETTINGS = SETTINGS | OTHER_SETTINGS

PAPER, RESEARCH_CODE = "paper", "research_code"
RESEARCH_CODE_ORDERS = {
    TASKS: ("arxivqa", "flickr30k", "imagenet_r", "ocrvqa", "iconqa", "clevr_math", "figureqa", "super_clevr"),
    CAPABILITIES: ("general", "chart", "math", "other"),
}
"""The order in which the research code numbers the tasks when it partitions them: `ETrain/Fed_utils/process_data.py` of
https://github.com/Ghy0501/FCIT at 9b10259. Its evaluation scripts, like the paper, have the order of `TASKS` and
`CAPABILITIES`. It holds one heterogeneous schedule for each, which counts the tasks in whichever order there is."""


def get_scenario(
    setting: str,
    stages: object = None,
    schedule: object = None,
    task_order: str | Sequence[str] = PAPER,
) -> Scenario:
    """Return the scenario that the user's YAML describes.

    Args:
        setting: `fcit_setting`, a name of `NAMED_SETTINGS` or "custom".
        stages: `fcit_stages` as it stands in the YAML, only with "custom": each entry lists the datasets of one task.
        schedule: `fcit_schedule` in the same way, only with "custom": per stage the task index of each selected client.
            Without it stage t has task t for every client.
        task_order: `fcit_task_order`, not with "custom": "paper", "research_code", or the names of the
            setting's tasks in another order.

    Raises:
        FcitError: one sentence that names the key and says what to do.
    """
    if setting == "custom" and task_order != PAPER:
        raise FcitError("fcit_task_order does not go with fcit_setting: custom; put fcit_stages into the order you want.")
    if setting != "custom":
        assert stages is None and schedule is None, "they go with the setting custom"
        return _reordered(NAMED_SETTINGS[setting], task_order)
    names = _rows(stages, str, "fcit_stages", "dataset names")
    tasks = tuple(Task("+".join(row), row) for row in names)
    rows = homogeneous(len(tasks)) if schedule is None else _rows(schedule, int, "fcit_schedule", "task indices")
    return Scenario("custom", tasks, rows)


def _reordered(scenario: Scenario, order: str | Sequence[str]) -> Scenario:
    """Return the scenario with its tasks in another order of time.

    The schedule changes, the numbers of the tasks do not: a task keeps its partition in every order.
    """
    if order == PAPER:
        return scenario
    names = [task.name for task in scenario.tasks]
    named = (PAPER, RESEARCH_CODE) if scenario.tasks in RESEARCH_CODE_ORDERS else (PAPER,)
    if order == RESEARCH_CODE and RESEARCH_CODE in named:
        order = RESEARCH_CODE_ORDERS[scenario.tasks]
    if not isinstance(order, (list, tuple)) or sorted(map(str, order)) != sorted(names):
        raise FcitError(
            f"fcit_task_order must be {', '.join(named)}, or a list of these names in any order, each once:"
            f" {', '.join(names)}; not {order!r}."
        )
    numbers = [names.index(name) for name in order]
    schedule = tuple(tuple(numbers[index] for index in row) for row in scenario.schedule)
    return Scenario(scenario.name, scenario.tasks, schedule)


def _rows(value: object, kind: type, key: str, what: str) -> tuple[tuple[Any, ...], ...]:
    """Check that a YAML value is a list of lists of `kind`, and return it as tuples."""
    if not isinstance(value, (list, tuple)):
        raise FcitError(f"{key} must be a list with one list of {what} per stage, not {value!r}.")
    for stage, row in enumerate(value):
        if not isinstance(row, (list, tuple)) or any(type(entry) is not kind for entry in row):
            raise FcitError(f"{key}: stage {stage} must be a list of {what}, not {row!r}.")

    return tuple(tuple(row) for row in value)
