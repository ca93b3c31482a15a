"""Two runs on one base model made into one: what both learned is merged, what one learned is kept."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..adapters.lora import check_keys, check_shapes, weighted_mean
from ..arguments import FcitArguments
from ..continual.methods import make_method
from ..errors import FcitError
from ..folders import check_empty, whole_folder
from ..knowledge.identity_tokens import SubspaceTokens
from ..knowledge.organizer import Organizer
from ..knowledge.own_cosines import added
from ..knowledge.prototypes import MAX_TOTAL, merged
from ..state.folder import PUBLISHED, StateFolder
from ..state.server_state import ServerState, save_state

#: Keys of the manifest without which the two do not speak of the same weights and tokens. The base model is compared by its
#: weights, for one and the same may lie elsewhere at another site.
_ALIKE = (
    "base_fingerprint",
    "template",
    "method",
    "identity_source",
    "identity_encoder",
    "identity_pooling",
    "identity_center",
    "identity_unit",
    "identity_turns",
    "identity_form",
)
#: Those of them that say which cosines belong to the tokens.
_COSINES = ("identity_source", "identity_encoder", "identity_center", "identity_form")
#: Those of ``adapter_config.json``.
_SAME_LORA = ("r", "lora_alpha", "use_rslora", "target_modules")


@dataclass(frozen=True)
class Joined:
    """What came of joining two folders.

    Attributes:
        state: All subspaces: those of the first in their order, then those of the second that matched none.
        places: For each subspace of the second run its number in the state; a number of the first's means merged.
        num_first: How many subspaces the first run has.
    """

    state: ServerState
    places: list[int]
    num_first: int


def join_folders(first: Path, second: Path, out: Path, threshold: float | None = None) -> Joined:
    """Write the state folder that joins two.

    Args:
        first: Output folder of a run; its activation and its other settings hold for the joined one.
        second: Output folder of another run on the same base model.
        out: The folder to write; new or empty.
        threshold: Cosine at which two identity tokens are of one kind; None: the first run's.

    Raises:
        FcitError: The folders cannot be joined, or ``out`` holds something.
    """
    check_empty(out)
    folders = [StateFolder(first), StateFolder(second)]
    for held in folders:
        held.check()
    manifest, other_manifest = (folder.manifest for folder in folders)
    if (PUBLISHED in manifest) != (PUBLISHED in other_manifest):
        without = first if PUBLISHED in manifest else second
        raise FcitError(
            f"{without} was made by `fcit-cli publish` and lacks the counts that a mean with the other run is weighed "
            "by; join both runs' own output folders, or publish the other one, too."
        )
    one, other = (folder.load() for folder in folders)
    configs = [_adapter_config(folder) for folder in folders]
    scenarios = [folder.finished_scenario() for folder in folders]
    _check_alike(first, manifest, second, other_manifest, _ALIKE)
    _check_alike(first, configs[0], second, configs[1], _SAME_LORA)
    for folder, state in ((first, one), (second, other)):
        if state.base:
            raise FcitError(
                f"{folder} has changed the base weights (`fcit_lora_aggregation`), so its subspaces are of another base model "
                "than those of the other run; the two cannot be joined."
            )
    if one.shared.keys() != other.shared.keys():
        raise FcitError(
            f"Of {first} and {second} only one has trained weights beside the subspaces (a projector), or others; "
            "what the subspaces were trained on differs, they cannot be joined."
        )
    check_shapes(one.shared, other.shared, f"projector of {second}")
    check_keys(one.subspaces[0], other.subspaces[0], f"subspace 0 of {second}")
    check_shapes(one.subspaces[0], other.subspaces[0], f"subspace 0 of {second}")
    threshold = manifest["similarity_threshold"] if threshold is None else threshold
    of_tokens = {f"fcit_{key}": manifest[key] for key in _COSINES if key in manifest}
    args = FcitArguments(fcit_method=manifest["method"], fcit_similarity_threshold=threshold, **of_tokens)
    method = make_method(args)
    if not method.joinable:
        raise FcitError(
            f"{first} was trained with `fcit_method: {args.fcit_method}`, whose subspaces belong to stages of their own run; "
            "such runs cannot be joined."
        )
    joined = join(one, other, method.organizer(0))
    both: dict[str, Any] = {key: [*manifest[key], *other_manifest[key]] for key in ("stages", "rounds")}
    both |= {"scenario": scenarios[0].followed_by(scenarios[1]).to_dict(), "joined": [str(first), str(second)]}
    with whole_folder(out) as partial:
        save_state(joined.state, partial, configs[0], {**manifest, **both})
    return joined


def join(first: ServerState, second: ServerState, organizer: Organizer) -> Joined:
    """Join two states.

    A subspace of the second run goes where a client with its token would go; it is averaged into that subspace, each
    weighing as many embeddings as its token counts,

        A_k = (N_k A_k + sum_j N_j A_j) / (N_k + sum_j N_j), the same for B_k and g_k;

    the others are appended, and so with the projectors of subspaces that have their own. Shared trainables are averaged by
    the two runs' whole counts. What server rules remember is dropped: it belongs to the runs that were.

    Args:
        first: Subspaces k = 0..K-1 with tokens g_k and counts N_k.
        second: The other run's, j = 0..J-1.
        organizer: Knows which subspace a token belongs to.
    """
    sums, counts = list(first.tokens.sums.astype(np.float64)), first.tokens.counts.tolist()
    members = [[subspace] for subspace in first.subspaces]
    weights = [[count] for count in counts]
    tasks = [Counter(row) for row in first.tasks]
    rounds = Counter(first.rounds)
    kinds = None if first.tokens.kinds is None else [[part] for part in first.tokens.kinds]
    keeps = bool(first.projectors or second.projectors)
    ours, theirs = (state.projectors or [state.shared] * len(state.subspaces) if keeps else [] for state in (first, second))
    projectors = [[projector] for projector in ours]
    places = []
    for j, subspace in enumerate(second.subspaces):
        count, token = int(second.tokens.counts[j]), second.tokens.tokens[j]
        place = organizer.own_subspace(token, first.tokens) if count and token.any() else None
        if place is None:
            place = len(members)
            members.append([])
            weights.append([])
            tasks.append(Counter())
            sums.append(np.zeros(second.tokens.sums.shape[1]))
            counts.append(0)
            if kinds is not None:
                kinds.append([])
            if keeps:
                projectors.append([])
        places.append(place)
        members[place].append(subspace)
        weights[place].append(count)
        tasks[place].update(second.tasks[j])
        rounds[place] += second.rounds[j]
        sums[place] += second.tokens.sums[j]
        counts[place] = min(counts[place] + count, MAX_TOTAL)
        if kinds is not None:
            assert second.tokens.kinds is not None  # it is the same method
            kinds[place].append(second.tokens.kinds[j])
        if keeps:
            projectors[place].append(theirs[j])
    totals = [sum(state.tokens.counts.tolist()) for state in (first, second)]
    state = ServerState(
        tokens=SubspaceTokens(
            np.array(sums, np.float32),
            np.array(counts, np.int64),
            None if kinds is None else tuple(merged(parts, organizer.of_one_kind) for parts in kinds),
        ),
        shared=weighted_mean([first.shared, second.shared], totals),
        subspaces=[weighted_mean(rows, by) for rows, by in zip(members, weights, strict=True)],
        stage=first.stage + second.stage,
        tasks=[dict(row) for row in tasks],
        rounds=rounds,
        projectors=[weighted_mean(rows, by) for rows, by in zip(projectors, weights, strict=True)] if keeps else [],
    )
    joined = [(k, k in first.alone) for k in range(len(first.subspaces))]
    joined += [(place, j in second.alone) for j, place in enumerate(places)]
    # both runs number their clients by themselves: one of each may be the same
    state.alone = {k: None for k in range(len(members)) if all(alone for place, alone in joined if place == k)}
    state.own_cosines = added(first.own_cosines, [(places[j], counts) for j, counts in second.own_cosines.items()])
    return Joined(state, places, len(first.subspaces))


def _adapter_config(folder: StateFolder) -> dict[str, Any]:
    targets = folder.adapter_config["target_modules"]
    return {**folder.adapter_config, "target_modules": sorted(targets) if isinstance(targets, list) else targets}


def _check_alike(first: Path, values: Mapping[str, Any], second: Path, others: Mapping[str, Any], keys: Sequence[str]) -> None:
    for key in keys:
        if values.get(key) != others.get(key):
            raise FcitError(
                f"{first} and {second} cannot be joined: {key} is {values.get(key)!r} in the first and "
                f"{others.get(key)!r} in the second."
            )
