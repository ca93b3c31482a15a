"""Going on from a finished run (``adapter_name_or_path`` with ``stage: fcit``).

Its stages stay, those of the recipe follow them.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from llamafactory.extras.constants import TRAINER_LOG

from ..adapters.lora import Tensors, check_keys, check_shapes
from ..data.catalogue import Catalogue
from ..errors import FcitError
from ..files import inside, read_bytes, read_lines_as
from ..scenario.tasks import Scenario
from ..state.checkpoints import PROGRESS
from ..state.folder import StateFolder
from ..state.forms import LogLine
from ..state.names import MANIFEST, TOKENS
from ..state.progress import Progress
from ..state.server_state import ServerState
from .fingerprint import dataset_key, differing
from .processes import Processes

#: What the recipe must have as the earlier run had it, and where that one's folder says so.
_IN_MANIFEST = {
    "template": "template",
    **{
        f"fcit_{key}": key
        for key in (
            *("method", "server_rule", "identity_source", "identity_encoder", "identity_pooling", "identity_center"),
            *("identity_unit", "identity_turns", "identity_form"),
        )
    },
}
_IN_ADAPTER = {"lora_rank": "r", "lora_alpha": "lora_alpha", "use_rslora": "use_rslora"}
#: Without these alike, scores before and after could not be compared.
_SCORING = ("fcit_eval_samples", "max_new_tokens")
#: And without these the spent privacy could not be added up.
NOISE_KEYS = ("fcit_dp_noise_multiplier", "fcit_identity_noise")
PRIVACY_KEYS = (*NOISE_KEYS, "fcit_dp_clipping_norm", "fcit_dp_delta", "fcit_num_clients", "fcit_clients_per_round", "seed")


@dataclass(frozen=True)
class Earlier:
    """A finished run that this one goes on from; its folder is read alone.

    Attributes:
        source: Its output folder.
        scenario: Its stages.
        progress: What it has measured; nothing of that for a folder that ``fcit-cli join`` has made.
    """

    source: StateFolder
    scenario: Scenario
    progress: Progress

    @classmethod
    def read(cls, folder: Path) -> "Earlier":
        """Read an output folder, without the weights.

        Raises:
            FcitError: A file is missing or damaged, or the run has not finished.
        """
        source = StateFolder(folder)
        source.check()
        scenario = source.finished_scenario()
        if not source.manifest["subspaces"]:
            raise FcitError(f"`adapter_name_or_path`: {folder} holds no subspace to go on from; take the key out.")
        return cls(source, scenario, source.progress())

    @property
    def folder(self) -> Path:
        """Its output folder."""
        return self.source.path

    @property
    def rounds(self) -> list[int]:
        """Rounds of each stage."""
        return list(self.source.manifest["rounds"])

    @property
    def changes_base(self) -> bool:
        """Whether something was added to the base weights, which stays there whatever this run's aggregation is."""
        return bool(self.source.manifest["base_change"])

    @cached_property
    def digest(self) -> str:
        """One short name for what the folder holds."""
        digest = hashlib.sha256()
        for name in (MANIFEST, TOKENS, PROGRESS):
            if os.path.lexists(self.folder / name):
                digest.update(read_bytes(inside(self.folder, name)))
        return digest.hexdigest()[:16]

    def load(self, processes: Processes) -> tuple[ServerState, Progress, list[dict[str, Any]]]:
        """The server's state, how far the run had come, and its log; the main process reads and tells the others."""
        loaded = processes.from_main(self._load() if processes.is_main else None)
        assert loaded is not None  # it is the main process's
        return loaded

    def _load(self) -> tuple[ServerState, Progress, list[dict[str, Any]]]:
        path = inside(self.folder, TRAINER_LOG)
        log = read_lines_as(LogLine, path) if os.path.lexists(path) else []
        return self.source.load(), self.source.progress(), cast("list[dict[str, Any]]", log)

    def check_recipe(self, parts: Iterable[Any], ours: Mapping[str, Any], evaluates: bool) -> None:
        """Refuse a recipe that does not fit what was learned, as far as can be told without the model.

        Args:
            parts: The argument objects.
            ours: The recipe's deciding keys (:func:`fcit_plugin.engine.fingerprint.deciding_keys`).
            evaluates: Whether the run is evaluated.

        Raises:
            FcitError: One sentence that lists the keys.
        """
        parts = tuple(parts)
        config = self.source.adapter_config
        values = {item.name: getattr(part, item.name) for part in parts for item in fields(part)}
        found = [
            f"`{key}` was {held.get(name)!r} and is {values[key]!r}"
            for held, names in ((self.source.manifest, _IN_MANIFEST), (config, _IN_ADAPTER))
            for key, name in names.items()
            if held.get(name) != values[key]
        ]
        before = self.progress.recipes[-1]["arguments"] if self.progress.recipes else {}
        if evaluates and self.progress.matrix.rows:
            found += differing(before, ours, parts, _SCORING)
        if any(keys.get(key) is not None for keys in (before, ours) for key in NOISE_KEYS):
            found += differing(before, ours, parts, PRIVACY_KEYS)
        if found:
            raise FcitError(
                f"The run in {self.folder} (`adapter_name_or_path`) cannot be continued with this recipe: "
                f"{'; '.join(found)}; take these back."
            )

    def check_tests(self, catalogue: Catalogue) -> None:
        """Refuse to go on without the test records of what was learned: nobody could tell what is forgotten.

        Raises:
            FcitError: The sentence names the dataset.
        """
        for name in self.scenario.all_datasets():
            try:
                catalogue.check_tests([name])
            except ValueError as error:
                raise FcitError(
                    f"The run in {self.folder} has learned `{name}`, and what is kept of it cannot be evaluated: {error} "
                    "Its training records are not needed; without test records set `fcit_eval_every: never`."
                ) from error

    def check_data(self, ours: Mapping[str, Any]) -> None:
        """Refuse other test records or metrics than the scores so far were made with.

        Args:
            ours: See :func:`fcit_plugin.engine.fingerprint.data_keys`.

        Raises:
            FcitError: The sentence names the datasets.
        """
        before = {key: value for recipe in self.progress.recipes for key, value in recipe["data"].items()}
        keys = [dataset_key(name, part) for name in self.scenario.all_datasets() for part in ("test", "metrics")]
        found = differing(before, ours, (), [key for key in keys if key in before and key in ours])
        if found:
            raise FcitError(
                f"Scores cannot go on from those of the run in {self.folder} (`adapter_name_or_path`): {'; '.join(found)}; "
                "put these back (keys that decide how records are tokenized play a part), or set `fcit_eval_every: never`."
            )

    def check_model(self, state: ServerState, blank: Tensors, targets: list[str], shared: Tensors, weights: str | None) -> None:
        """Refuse another base model than the one that the subspaces were trained on.

        Args:
            state: What :meth:`load` gave.
            blank: Any subspace of the model.
            targets: Names of the modules that have one.
            shared: The model's shared trainables.
            weights: The base model's fingerprint; None where it has no weights.

        Raises:
            FcitError: The sentence names what differs.
        """
        config = self.source.adapter_config
        if sorted(config["target_modules"]) != sorted(targets):
            raise FcitError(
                f"`lora_target` gives subspaces on {', '.join(sorted(targets))}, those in {self.folder} "
                f"(`adapter_name_or_path`) are on {', '.join(sorted(config['target_modules']))}; name these."
            )
        if state.shared.keys() != shared.keys():
            was, now = ("trained" if part else "frozen" for part in (state.shared, shared))
            raise FcitError(
                f"The projector was {was} in {self.folder} (`adapter_name_or_path`) and is {now} now; set "
                f"`freeze_multi_modal_projector: {str(not state.shared).lower()}` as there."
            )
        what = f"run {self.folder} (`adapter_name_or_path`)"
        for subspace in state.subspaces:
            check_keys(blank, subspace, what)
            check_shapes(blank, subspace, what)
        check_shapes(shared, state.shared, what)
        if weights is not None and weights != self.source.manifest.get("base_fingerprint"):
            raise FcitError(
                f"`model_name_or_path` has other weights, or the same in another precision, than the base model of "
                f"{self.folder} (`adapter_name_or_path`), which was {self.source.manifest.get('base_model')}; give that one."
            )
