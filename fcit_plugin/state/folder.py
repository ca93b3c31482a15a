"""A state folder: what a run leaves, each of its commits, and what rounds by folders hand on.

No torch and no NumPy until something is asked for that takes them, so that a look is quick.
"""

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
_TURNS_BEFORE = "first"


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
                f"{path} has format version {version!r}, this fcit-plugin reads version {FORMAT_VERSION}; upgrade fcit-plugin."
            )
        if version != FORMAT_VERSION:
            raise FcitError(
                f"{self.path} has format version {repr(version)[:40]}, this fcit-plugin reads version {FORMAT_VERSION} only; "
                "run its recipe again, or use the version of fcit-plugin that wrote it."
            )
        require(values, _MANIFEST, path)
        checked(Manifest, values, str(path), SOUND_COPY)
        for k, entry in enumerate(values["subspaces"]):
            if (entry["id"], entry["folder"]) != (k, subspace_folder(k)):
                raise FcitError(f"{path} has subspace {k} as `{entry['id']}` in `{entry['folder']}`; {SOUND_COPY}.")
        values.setdefault("identity_turns", _TURNS_BEFORE)
        return values

    @cached_property
    def scenario(self) -> "Scenario":
        """The stages of the folder's run.

        Raises:
            FcitError: The manifest is damaged, or not that of a run.
        """
        from ..scenario.tasks import Scenario  # with NumPy

        require(self.manifest, ("scenario", "rounds"), self.path / MANIFEST, _LEFT_BY_A_RUN)
        try:
            return Scenario.from_dict(self.manifest["scenario"])
        except FcitError as error:
            raise FcitError(f"{self.path / MANIFEST} holds no stages of a run: {error}") from error

    def finished_scenario(self) -> "Scenario":
        """The stages of the folder's run, behind which others can come.

        Raises:
            FcitError: The run has not finished.
        """
        stage, round, count = self.manifest["stage"], self.manifest["round"], self.scenario.num_stages
        if (stage, round) != (count, 0):
            raise FcitError(
                f"{self.path} holds a run in its stage {stage}, round {round}, of {count} stages; let it finish, "
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
        if "joined" in self.manifest and not path.is_file():
            return Progress()
        values = read_as(ProgressForm, path)
        try:
            return Progress.from_dict({key: values[key] for key in ProgressForm.__annotations__})  # type: ignore[literal-required]
        except FcitError as error:
            raise FcitError(f"{path} does not hold a run's progress: {error}") from error

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
        if self.manifest["subspaces"]:
            read_adapter_config(self.adapter_config_file)

    def load(self) -> "ServerState":
        """The server's state.

        Raises:
            FcitError: The manifest cannot be read, or a file is missing or corrupt; the sentence names it.
        """
        from .server_state import read_state

        return read_state(self.path, self.manifest)
