"""The stages of a site that takes part by folders: where its recipe names none, those of the state that it was sent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..scenario.settings import NAMED_SETTINGS, homogeneous
from ..state.folder import StateFolder

#: The keys that say what arrives when.
_STAGES = ("fcit_setting", "fcit_stages", "fcit_schedule", "fcit_task_order")


def with_stages(ours: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """A recipe's fcit keys, with those of the stages.

    Args:
        ours: Our keys as the recipe has them.
        stage: The fcit stage; others than ``fcit_client`` have to name the stages.

    Raises:
        FcitError: The folder of ``fcit_state_dir`` holds no stages.
    """
    folder = ours.get("fcit_state_dir")
    if stage != "fcit_client" or not isinstance(folder, str) or any(key in ours for key in _STAGES):
        return dict(ours)
    scenario = StateFolder(Path(folder)).scenario
    if NAMED_SETTINGS.get(scenario.name) == scenario:
        return {**ours, "fcit_setting": scenario.name}
    stages, schedule = [list(task.datasets) for task in scenario.tasks], [list(row) for row in scenario.schedule]
    found = {**ours, "fcit_setting": "custom", "fcit_stages": stages}
    return found if scenario.schedule == homogeneous(len(stages)) else {**found, "fcit_schedule": schedule}
