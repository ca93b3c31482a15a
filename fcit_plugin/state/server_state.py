"""What the server knows between two rounds, and its form on disk.

A state folder is also what a run leaves in ``output_dir``: one PEFT folder per subspace, the shared trainables,
the identity tokens, and a manifest. safetensors and JSON only.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..adapters.lora import Tensors, check_keys, check_shapes
from ..errors import FcitError
from ..files import inside, write_chunks, write_json
from ..knowledge.identity_tokens import SubspaceTokens
from ..knowledge.own_cosines import Counts
from ..tensor_files import check_tensors, load_tensors, tensor_chunks
from .names import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    BASE_CHANGE,
    FORMAT_VERSION,
    MANIFEST,
    METHOD_STATE,
    RULES,
    SHARED,
    TOKENS,
    subspace_folder,
)


@dataclass
class ServerState:
    """Everything that is carried from round to round.

    Attributes:
        subspaces: The LoRA factors of subspaces 0..K-1.
        tokens: Their identity tokens and counts.
        shared: Shared trainables (projector); empty where nothing but LoRA is trained.
        stage: Stage of the next round.
        round: Number of the next round within its stage.
        tasks: For each subspace the tasks whose clients it took in, by name with the number of assignments.
        rules: What the server rules remember (:meth:`fcit_plugin.federation.rules.RuleSet.to_arrays`).
        method_state: What the continual method remembers (:meth:`fcit_plugin.continual.method.ContinualMethod.remember`).
        rounds: For each subspace the number of rounds that it was trained in.
        base: What was added to the base weights (:mod:`fcit_plugin.adapters.base_change`); empty for most methods.
        projectors: For each subspace the shared trainables after the round that trained it last, where the method keeps
            them (:mod:`fcit_plugin.adapters.projectors`); empty for others.
        alone: The subspaces that one client alone has trained so far, with its number; None where that is not known. Nobody
            else confirms what such a subspace has learned.
        own_cosines: How near the instructions of a subspace's clients lie to what they told, of the subspaces where they say it
            (:mod:`fcit_plugin.knowledge.own_cosines`).
    """

    tokens: SubspaceTokens
    shared: Tensors
    subspaces: list[Tensors] = field(default_factory=list)
    stage: int = 0
    round: int = 0
    tasks: list[dict[str, int]] = field(default_factory=list)
    rules: dict[str, np.ndarray] = field(default_factory=dict)
    method_state: Tensors = field(default_factory=dict)
    rounds: Counter[int] = field(default_factory=Counter)
    base: Tensors = field(default_factory=dict)
    projectors: list[Tensors] = field(default_factory=list)
    alone: dict[int, int | None] = field(default_factory=dict)
    own_cosines: dict[int, Counts] = field(default_factory=dict)

    @property
    def confirmed(self) -> np.ndarray:
        """Which subspaces are not trained by one client alone, bool [K]."""
        return np.array([k not in self.alone for k in range(len(self.subspaces))], bool)

    def advance(self, num_rounds: int) -> None:
        """Go on to the next round, or to the first one of the next stage."""
        self.round += 1
        if self.round == num_rounds:
            self.stage, self.round = self.stage + 1, 0


def alone_after(
    alone: Mapping[int, int | None], trained: Mapping[int, Collection[int]], rounds: Counter[int]
) -> dict[int, int | None]:
    """:attr:`ServerState.alone` after a round.

    Args:
        alone: What it was before.
        trained: The clients of each subspace that the round has trained.
        rounds: How often each subspace had been trained before.
    """
    found = dict(alone)
    for k, clients in trained.items():
        one, *others = clients
        if others:
            found.pop(k, None)
        elif not rounds[k]:
            found[k] = one
        elif found.get(k) not in (None, one):  # it may be the one that is not known
            del found[k]
    return found


def newly_alone(state: ServerState, assignments: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """The subspaces that one client alone has opened in this round, each with this client; see :func:`newly_shared`."""
    found = {entry["subspace"]: entry["client"] for entry in assignments if entry["cosine"] is not None}
    return sorted((k, client) for k, client in found.items() if k in state.alone and state.rounds[k] == 1)


def newly_shared(state: ServerState, assignments: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, list[str], float]]:
    """The tasks whose clients trained in this round for the first time a subspace that is another task's, too.

    Args:
        state: The state after the round.
        assignments: Of this round, entries with the keys subspace, cosine and task. Those without a cosine are passed over: no
            token decided, for the method has one subspace for all, or one for each client.

    Returns:
        Task, subspace, the tasks that were there before, and the least cosine.
    """
    cosines = defaultdict(list)
    for entry in assignments:
        if entry["cosine"] is not None:
            cosines[entry["subspace"], entry["task"]].append(entry["cosine"])
    found = []
    for (k, task), of_clients in cosines.items():
        names = list(state.tasks[k])  # in the order in which they came
        before = names[: names.index(task)]
        if before and state.tasks[k][task] == len(of_clients):
            found.append((task, k, before, min(of_clients)))
    return found


def save_state(state: ServerState, folder: Path, adapter_config: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    """Write a state folder; the manifest comes last, and each file is replaced at once or not at all.

    Args:
        state: The state.
        folder: The folder, made if missing.
        adapter_config: PEFT's configuration of one subspace, as JSON-friendly values.
        manifest: What else belongs into the manifest (method, encoder, base model, ...).
    """
    for name, (tensors, metadata) in tensor_files(state).items():
        write_chunks(folder / name, tensor_chunks(tensors, metadata))
    for k in range(len(state.subspaces)):
        write_json(folder / subspace_folder(k) / ADAPTER_CONFIG, adapter_config)
    own = {
        "format_version": FORMAT_VERSION,
        "stage": state.stage,
        "round": state.round,
        "subspaces": [
            {
                "id": k,
                "folder": subspace_folder(k),
                "count": int(state.tokens.counts[k]),
                "tasks": state.tasks[k],
                "rounds": state.rounds[k],
                "confirmed": k not in state.alone,
                "only_client": state.alone.get(k),
                "own_cosines": state.own_cosines.get(k),
            }
            for k in range(len(state.subspaces))
        ],
        "shared": SHARED if state.shared else None,
        "projectors": bool(state.projectors),
        "server_rules": RULES if state.rules else None,
        "method_state": METHOD_STATE if state.method_state else None,
        "base_change": BASE_CHANGE if state.base else None,
        "tokens": TOKENS,
    }
    write_json(folder / MANIFEST, {**own, **manifest, **own})  # a manifest that was read has the same keys


def tensor_files(state: ServerState) -> dict[str, tuple[Mapping[str, Any], dict[str, str] | None]]:
    """The tensor files of a state folder, by name: what is in each, and what its head says beside that."""
    of_peft = {"format": "pt"}
    files: dict[str, tuple[Mapping[str, Any], dict[str, str] | None]] = {}
    for k, subspace in enumerate(state.subspaces):
        files[f"{subspace_folder(k)}/{ADAPTER_WEIGHTS}"] = subspace, of_peft
        if state.projectors:
            files[f"{subspace_folder(k)}/{SHARED}"] = state.projectors[k], of_peft
    files[TOKENS] = state.tokens.to_arrays(), None
    if state.shared:
        files[SHARED] = state.shared, of_peft
    optional: dict[str, Mapping[str, Any]] = {RULES: state.rules, METHOD_STATE: state.method_state, BASE_CHANGE: state.base}
    files.update({name: (tensors, None) for name, tensors in optional.items() if tensors})
    return files


def read_state(folder: Path, manifest: Mapping[str, Any]) -> ServerState:
    """Read what :func:`save_state` wrote; see :meth:`fcit_plugin.state.folder.StateFolder.load`.

    Args:
        folder: The state folder.
        manifest: Its manifest.

    Raises:
        FcitError: A file is missing or corrupt; the sentence names it.
    """
    shared = load_tensors(inside(folder, SHARED)) if manifest["shared"] else {}
    files = [inside(folder, f"{subspace_folder(k)}/{ADAPTER_WEIGHTS}") for k in range(len(manifest["subspaces"]))]
    subspaces = [load_tensors(path) for path in files]
    own = [inside(folder, f"{subspace_folder(k)}/{SHARED}") for k in range(len(files))] if manifest["projectors"] else []
    projectors = [load_tensors(path) for path in own]
    tokens = _load_tokens(folder, manifest)
    method_state = load_tensors(inside(folder, METHOD_STATE)) if manifest["method_state"] else {}
    base = load_tensors(inside(folder, BASE_CHANGE)) if manifest["base_change"] else {}
    rules = load_tensors(inside(folder, RULES), "np") if manifest["server_rules"] else {}
    checked = ((folder / SHARED, shared), (folder / TOKENS, tokens.to_arrays()), (folder / METHOD_STATE, method_state))
    for path, tensors in (
        *checked,
        (folder / BASE_CHANGE, base),
        (folder / RULES, rules),
        *zip(files, subspaces, strict=True),
        *zip(own, projectors, strict=True),
    ):
        check_finite(path, tensors)
    tasks = [entry["tasks"] for entry in manifest["subspaces"]]
    rounds = Counter({k: entry["rounds"] for k, entry in enumerate(manifest["subspaces"])})
    for path, subspace in zip(files[1:], subspaces[1:], strict=True):
        check_keys(subspaces[0], subspace, f"subspace in {path} (beside {files[0]})")
        check_shapes(subspaces[0], subspace, f"subspace in {path} (beside {files[0]})")
    for path, projector in zip(own, projectors, strict=True):
        check_keys(shared, projector, f"projector in {path} (beside {folder / SHARED})")
        check_shapes(shared, projector, f"projector in {path} (beside {folder / SHARED})")
    where = (manifest["stage"], manifest["round"])
    alone = {k: entry.get("only_client") for k, entry in enumerate(manifest["subspaces"]) if not entry.get("confirmed", True)}
    told = ((k, entry.get("own_cosines")) for k, entry in enumerate(manifest["subspaces"]))
    cosines = {k: tuple(counts) for k, counts in told if counts is not None}
    return ServerState(tokens, shared, subspaces, *where, tasks, rules, method_state, rounds, base, projectors, alone, cosines)


def _load_tokens(folder: Path, manifest: Mapping[str, Any]) -> SubspaceTokens:
    path, count = inside(folder, TOKENS), len(manifest["subspaces"])
    arrays = load_tensors(path, "np")
    try:
        tokens = SubspaceTokens.from_arrays(arrays)
    except (KeyError, ValueError) as error:
        missing = f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise FcitError(f"{path} holds no identity tokens: {missing}; restore it from a backup or copy it again.") from error
    if tokens.num_subspaces != count:
        raise FcitError(
            f"{path} holds {tokens.num_subspaces} tokens for {count} subspaces in {folder / MANIFEST}; "
            "the files do not belong together."
        )
    return tokens


def check_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Check the tokens and the heads of the other tensor files of a state folder.

    Args:
        folder: The state folder.
        manifest: Its manifest.

    Raises:
        FcitError: As :func:`read_state` does.
    """
    _load_tokens(folder, manifest)
    for k in range(len(manifest["subspaces"])):
        check_tensors(inside(folder, f"{subspace_folder(k)}/{ADAPTER_WEIGHTS}"))
        if manifest["projectors"]:
            check_tensors(inside(folder, f"{subspace_folder(k)}/{SHARED}"))
    parts = {SHARED: "shared", RULES: "server_rules", METHOD_STATE: "method_state", BASE_CHANGE: "base_change"}
    for name, there in parts.items():
        if manifest[there]:
            check_tensors(inside(folder, name))


def check_finite(path: Path, tensors: Mapping[str, Any]) -> None:
    """Refuse weights that are not numbers.

    Raises:
        FcitError: The sentence names the file and the tensor.
    """
    for name, value in tensors.items():
        if not _is_finite(value):
            raise FcitError(f"{path} holds values that are not finite in {name}; use a state from before they came up.")


def newly_not_finite(state: ServerState, before: ServerState) -> str | None:
    """The first tensor of a state with numbers that are not finite, and the file that it would be in; None if there is none.

    Args:
        state: The state.
        before: One that it came from, whose numbers are finite: tensors that it has from there are not looked at again.
    """
    earlier = tensor_files(before)  # by a name of its own: what was made for it must not go while others are made
    known = {id(value) for tensors, _ in earlier.values() for value in tensors.values()}
    for file, (tensors, _) in tensor_files(state).items():
        for name, value in tensors.items():
            if id(value) not in known and not _is_finite(value):
                return f"{name} in {file}"
    return None


def _is_finite(value: Any) -> bool:
    return bool(torch.isfinite(torch.as_tensor(value)).all())
