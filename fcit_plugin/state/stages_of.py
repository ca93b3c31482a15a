"""The stages of a run that another one goes on from; no torch, so that a look is quick."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import FcitError
from ..scenario.tasks import Scenario
from .names import MANIFEST, read_manifest


def earlier_scenario(folder: Path) -> Scenario:
    """The stages of the run in a folder.

    Raises:
        FcitError: The folder is none of a run, or the run has not come to its end.
    """
    return scenario_of(folder, read_manifest(folder))


def scenario_of(folder: Path, manifest: Mapping[str, Any]) -> Scenario:
    """The stages of the run in a folder, by its manifest.

    Raises:
        FcitError: The run has not come to its end, or its manifest does not say.
    """
    if "scenario" not in manifest or "rounds" not in manifest:
        raise FcitError(
            f"{folder / MANIFEST} does not say the stages of its run, so nothing can come behind "
            "them; it was written by an older fcit-plugin, name a run of this one."
        )
    scenario = Scenario.from_dict(manifest["scenario"])
    if (manifest["stage"], manifest["round"]) != (scenario.num_stages, 0):
        raise FcitError(
            f"{folder} holds a run in its stage {manifest['stage']}, round {manifest['round']}, of "
            f"{scenario.num_stages} stages; let it come to its end, and name its output folder."
        )
    return scenario
