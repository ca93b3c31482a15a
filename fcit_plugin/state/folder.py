"""A state folder: what a run leaves, each of its commits, and what rounds by folders hand on.

No torch and no NumPy until something is asked for that takes them, so that a look is quick.
"""

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FcitError
from ..files import SOUND_COPY, inside, read_as, read_object, require
from ..schema import checked
from .adapter_config import read_adapter_config
from .checkpoints import PROGRESS
from .forms import Manifest, ProgressForm
from .names import ADAPTER_CONFIG, FORMAT_VERSION, MANIFEST, subspace_folder
from .progress import Progress

if TYPE_CHECKING:
    from ..scenario.tasks import Scenario
    from .server_state import ServerState

#: Key of the manifest of a folder that ``fcit-cli publish`` has made.
PUBLISHED = "published"
_LEFT_BY_A_RUN = "name a folder that an fcit run has left"
#: What every manifest has; a run's own says more about the run.
_MANIFEST = [key for key in Manifest.__annotations__ if key in Manifest.__required_keys__]
#: What clients and evaluation went by before the manifest said it.
_TURNS_BEFORE, _FORM_BEFORE = "first", "full"


class _Manifest(dict[str, Any]):
    """What a manifest says; what it does not say is named when it is asked for.

    Args:
        values: By key.
        path: The file.
    """

    def __init__(self, values: dict[str, Any], path: Path) -> None:
        super().__init__(values)
        self._path = path

    def __missing__(self, key: str) -> Any:
        raise FcitError(f"{self._path} lacks {key}; {_LEFT_BY_A_RUN}.")

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return _Manifest, (dict(self), self._path)


class StateFolder:
    """Reads a state folder. Nothing is read before it is asked for, and the manifest once.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the folder says about itself.

        Raises:
            FcitError: The manifest is missing or damaged, or of another format version.
        """
        path = inside(self.path, MANIFEST)
        values = read_object(path, ("format_version",), _LEFT_BY_A_RUN)
        version = values["format_version"]
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise FcitError(
                f"{path} has `format_version` {version!r}, this fcit-plugin reads {FORMAT_VERSION}; upgrade fcit-plugin."
            )
        if version != FORMAT_VERSION:
            raise FcitError(
                f"{path} has `format_version` {repr(version)[:40]}, this fcit-plugin reads {FORMAT_VERSION} only; "
                "run its recipe again, or use the version of fcit-plugin that wrote it."
            )
        require(values, _MANIFEST, path)
        checked(Manifest, values, str(path), SOUND_COPY)
        for k, entry in enumerate(values["subspaces"]):
            if (entry["id"], entry["folder"]) != (k, subspace_folder(k)):
                key = "id" if entry["id"] != k else "folder"
                raise FcitError(f"{path} has {entry[key]!r} as `subspaces.{k}.{key}`; {SOUND_COPY}.")
        listed = {key: values.get(key) for key in ("stages", "rounds")} | {
            "scenario": values.get("scenario", {}).get("schedule")
        }
        if len({len(part) for part in listed.values() if part is not None}) > 1:
            counts = ", ".join(f"`{key}` {len(part)}" for key, part in listed.items() if part is not None)
            raise FcitError(f"{path} is not of one number of stages ({counts}); {SOUND_COPY}.")
        values.setdefault("identity_turns", _TURNS_BEFORE)
        values.setdefault("identity_unit", False)  # tokens had the length that they came with
        values.setdefault("identity_form", _FORM_BEFORE)
        values.setdefault("later_rounds", "open")
        return _Manifest(values, path)

    @cached_property
    def scenario(self) -> "Scenario":
        """The stages of the folder's run.

        Raises:
            FcitError: The manifest is damaged, or not that of a run.
        """
        from ..scenario.tasks import Scenario  # with NumPy

        given, _ = self.manifest["scenario"], self.manifest["rounds"]
        try:
            return Scenario.from_dict(given)
        except FcitError as error:
            raise FcitError(f"{self.path / MANIFEST} holds no stages of a run in `scenario`: {error}") from error

    def finished_scenario(self) -> "Scenario":
        """The stages of the folder's run, behind which others can come.

        Raises:
            FcitError: The run has not finished.
        """
        stage, round, count = self.manifest["stage"], self.manifest["round"], self.scenario.num_stages
        if (stage, round) != (count, 0):
            raise FcitError(
                f"{self.path / MANIFEST}: the run is in its stage {stage}, round {round}, of {count} stages; let it finish, "
                "and name its output folder."
            )
        return self.scenario

    @property
    def adapter_config_file(self) -> Path:
        """Where PEFT's configuration of the subspaces is; all have the same."""
        return inside(self.path, f"{subspace_folder(0)}/{ADAPTER_CONFIG}")

    @cached_property
    def adapter_config(self) -> dict[str, Any]:
        """PEFT's configuration of the subspaces.

        Raises:
            FcitError: There is no subspace yet, or the file is missing or damaged.
        """
        self.check_trained()
        return read_adapter_config(self.adapter_config_file)

    def progress(self) -> Progress:
        """How far the folder's run has come; nothing of that in a folder that ``fcit-cli join`` has made.

        Returns:
            An object of the caller's own, for a run that goes on adds to it.

        Raises:
            FcitError: The file is missing or damaged, or the folder was published.
        """
        self.check_whole()
        path = inside(self.path, PROGRESS)
        if "joined" in self.manifest and not os.path.lexists(path):
            return Progress()
        values = read_as(ProgressForm, path)
        try:
            return Progress.from_dict({key: value for key, value in values.items() if key in ProgressForm.__annotations__})
        except FcitError as error:
            raise FcitError(f"{path} does not hold a run's progress in `matrix`: {error}") from error

    def check_trained(self) -> None:
        """Check that there is a subspace.

        Raises:
            FcitError: There is none.
        """
        if not self.manifest["subspaces"]:
            raise FcitError(f"{self.path} holds no subspace yet; run at least one round first.")

    def check_whole(self) -> None:
        """Check that the folder is a run's own, with all that a run goes on from.

        Raises:
            FcitError: It was made to be given away.
        """
        if PUBLISHED in self.manifest:
            raise FcitError(
                f"{self.path} was made by `fcit-cli publish`, which leaves out counts, progress and seed; name the output "
                "folder of the run itself."
            )

    def check(self) -> None:
        """Check the folder as far as the manifest, the tokens and the heads of its files tell, which is quick.

        Raises:
            FcitError: As :meth:`load` does.
        """
        from .server_state import check_files

        check_files(self.path, self.manifest)
        for k in range(len(self.manifest["subspaces"])):
            path = inside(self.path, f"{subspace_folder(k)}/{ADAPTER_CONFIG}")
            values = read_adapter_config(path)
            if values != self.adapter_config:
                keys = sorted(key for key in {*values, *self.adapter_config} if values.get(key) != self.adapter_config.get(key))
                raise FcitError(
                    f"{path} differs from {self.adapter_config_file} in {', '.join(keys)[:300]}, and a run's subspaces have "
                    f"all the same; {SOUND_COPY}."
                )

    def load(self) -> "ServerState":
        """The server's state.

        Raises:
            FcitError: The manifest cannot be read, or a file is missing or corrupt; the sentence names it.
        """
        from .server_state import read_state

        return read_state(self.path, self.manifest)
