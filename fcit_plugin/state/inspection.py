"""What an output folder holds, read without torch: how far the run is, who trained what, and which files are right."""

import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from ..errors import FcitError
from ..evaluation.tables import align
from ..knowledge.own_cosines import shown
from .checkpoints import Checkpoints, number_of
from .folder import PUBLISHED, StateFolder
from .names import MANIFEST, belongs_to_state
from .progress import Progress
from .sealed import CHECKSUMS, differing, problems, sums_of

#: Clients that are named in one cell.
NAMED = 12
#: How often a run that is at work is looked at before what was seen is shown as it was.
_LOOKS = 10


@dataclass
class Inspection:
    """What was found.

    Attributes:
        lines: For people.
        corrupt: What is wrong, file by file; empty if all that has a sum is right.
    """

    lines: list[str] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)

    def judge(self, name: str, wrong: Sequence[str], right: str) -> None:
        """Add a line on something that has sums."""
        self.lines.append(f"  {name}  {'CORRUPT' if wrong else right}")
        self.lines += [f"    {problem}" for problem in wrong]
        self.corrupt += wrong


def inspect(output_dir: Path) -> Inspection:
    """Look at a run, finished or not, or at a state folder.

    A run may be at work there, and take away what was just looked at: then it is looked at again.

    Raises:
        FcitError: The folder is neither.
    """
    for _ in range(_LOOKS):
        before = _there(output_dir)
        try:
            found = _inspect(output_dir)
        except FcitError:
            if _there(output_dir) >= before:
                raise
        else:
            if _there(output_dir) >= before:
                return found
    return _inspect(output_dir)


def _there(output_dir: Path) -> set[Path]:
    """What a run takes away once it is of no more use."""
    checkpoints = Checkpoints(output_dir)
    return {*checkpoints.commits(), *checkpoints.pending_replies()}


def _inspect(output_dir: Path) -> Inspection:
    checkpoints, found = Checkpoints(output_dir), Inspection()
    commits = {folder: problems(folder) for folder in checkpoints.commits()}
    has_results = os.path.lexists(output_dir / MANIFEST)
    if not commits and not has_results:
        raise FcitError(f"{output_dir} holds no run: neither a commit in {checkpoints.folder} nor {MANIFEST}.")
    good = max((folder for folder, wrong in commits.items() if not wrong), key=number_of, default=None)
    manifest, progress = {}, Progress()
    if good is not None or has_results:
        held = StateFolder(good or output_dir)
        manifest = held.manifest
        found.lines += [f"{output_dir}: {_title(manifest)}", ""]
    if good is not None:
        progress = held.progress()
        found.lines += [*_progress(number_of(good), manifest, progress), ""]
        found.lines += [*align(_stage_rows(manifest, progress)), ""]
    if manifest:
        found.lines += [*align(_subspace_rows(manifest, progress.names)), ""]
    for entry in progress.dropped:
        who = _called(entry["client"], progress.names, "client ")
        found.lines.append("left out: stage {stage} round {round} {who}: {reason}".format(**entry, who=who))

    found.lines.append("commits:" if commits else "no commits")
    for folder, wrong in commits.items():
        found.judge(folder.name, wrong, f"sums right ({len(sums_of(folder))} files)" if not wrong else "")
    pending = checkpoints.pending_replies()
    if pending:
        found.lines.append("replies kept for the round in progress:")
    for folder in pending:
        found.judge(f"{folder.parent.name}/{folder.name}", problems(folder), "sums right")
    found.lines.append("")
    if has_results and good is not None and _is_last(good, manifest):
        there = {name for name in sums_of(good) if belongs_to_state(name) or os.path.lexists(output_dir / name)}
        same = {name: value for name, value in sums_of(good).items() if name in there}
        found.lines.append("finished; the results:")
        found.judge(output_dir.name, differing(output_dir, same), f"as in {good.name} ({len(same)} files)")
    elif has_results and (output_dir / CHECKSUMS).is_file():
        found.lines.append("to be given away, without its run:" if PUBLISHED in manifest else "one commit of a run:")
        wrong = problems(output_dir)
        found.judge(output_dir.resolve().name, wrong, f"sums right ({len(sums_of(output_dir))} files)" if not wrong else "")
    elif has_results:
        found.lines.append("results without the commit that they are of: there are no sums to hold them against")
    elif good is not None:
        found.lines.append("not finished; go on with: llamafactory-cli train RECIPE.yaml resume_from_checkpoint=true")
    else:
        found.lines.append("not finished, and no good commit to go on from: begin again with overwrite_output_dir: true")
    return found


def _is_last(commit: Path, manifest: Mapping[str, Any]) -> bool:
    return number_of(commit) == sum(manifest["rounds"])


def _title(manifest: Mapping[str, Any]) -> str:
    keys = ("method", "setting", "base_model", "template", "seed", "plugin_version")
    return ", ".join(f"{key} {manifest[key]}" for key in keys if key in manifest)


def _progress(number: int, manifest: Mapping[str, Any], progress: Progress) -> list[str]:
    rounds, traffic = sum(manifest["rounds"]), progress.traffic
    where = f"; next: stage {manifest['stage']} round {manifest['round']}" if number < rounds else ""
    return [
        f"{number} of {rounds} rounds, {progress.step} steps, {progress.seconds['total']:.0f} s{where}",
        f"{traffic.up / 1e6:.2f} MB sent by clients, {traffic.down / 1e6:.2f} MB received by them",
    ]


def _stage_rows(manifest: Mapping[str, Any], progress: Progress) -> list[list[str]]:
    rows = [["stage", "datasets", "rounds", "clients on subspace", "mean score"]]
    rounds: defaultdict[int, set[int]] = defaultdict(set)
    trained: defaultdict[int, defaultdict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for entry in progress.assignments:
        rounds[entry["stage"]].add(entry["round"])
        trained[entry["stage"]][entry["subspace"]].add(entry["client"])
    called, matrix = progress.names, progress.matrix.rows
    for stage, names in enumerate(manifest["stages"]):
        done = len(rounds[stage])
        who = "; ".join(f"{_some(clients, called)} on {k}" for k, clients in sorted(trained[stage].items()))
        scores = matrix[stage : stage + 1]
        score = f"{fmean(value for value in scores[0] if value is not None):.2f}" if scores and any(
            value is not None for value in scores[0]
        ) else "-"  # fmt: skip
        rows.append([str(stage), ", ".join(names), f"{done} of {manifest['rounds'][stage]}", who or "-", score])
    return rows


def _called(client: int, names: Sequence[str], before: str = "") -> str:
    """A client's name, or its number with a word before it."""
    return names[client] if client < len(names) else f"{before}{client}"


def _some(clients: Collection[int], names: Sequence[str]) -> str:
    """Clients in a cell: as many as a line has room for, and how many there are beside them."""
    shown = ", ".join(_called(client, names) for client in sorted(clients)[:NAMED])
    return shown if len(clients) <= NAMED else f"{shown} and {len(clients) - NAMED} more"


def _subspace_rows(manifest: Mapping[str, Any], names: Sequence[str]) -> list[list[str]]:
    if PUBLISHED in manifest:
        return [
            ["subspace", "tasks", "trained by", "own cosines"],
            *(
                [str(entry["id"]), ", ".join(entry["tasks"]), _trained_by(entry, names), _own_cosines(entry)]
                for entry in manifest["subspaces"]
            ),
        ]
    rows = [["subspace", "token count", "assignments by task", "trained by", "own cosines"]]
    for entry in manifest["subspaces"]:
        tasks = ", ".join(f"{task} {count}" for task, count in entry["tasks"].items())
        rows.append([str(entry["id"]), str(entry["count"]), tasks, _trained_by(entry, names), _own_cosines(entry)])
    return rows


def _trained_by(entry: Mapping[str, Any], names: Sequence[str]) -> str:
    """How many clients have trained a subspace, as far as the manifest says it."""
    if "confirmed" not in entry:
        return "?"
    if entry["confirmed"]:
        return "several clients"
    client = entry.get("only_client")
    return "unconfirmed: one client alone" if client is None else f"unconfirmed: {_called(client, names, 'client ')} alone"


def _own_cosines(entry: Mapping[str, Any]) -> str:
    """How near a subspace's own instructions lie to it, as quantiles."""
    return shown(entry.get("own_cosines") or ()) or "-"
