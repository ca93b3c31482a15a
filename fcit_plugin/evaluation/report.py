"""The report of a run: one dictionary, and its forms as JSON, CSV, pictures and tables."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from statistics import fmean
from typing import Any

from ..errors import FcitError
from ..files import read_json, write_bytes
from .matrix import AccuracyMatrix, Row
from .plots import plot_accuracy_matrix, plot_partition, plot_subspaces, short_name
from .tables import markdown, plain

Report = dict[str, Any]

REPORT_JSON = "fcit_report.json"
MATRIX_CSV = "accuracy_matrix.csv"
MATRIX_PNG = "accuracy_matrix.png"
SUBSPACES_PNG = "subspaces.png"
PARTITION_PNG = "partition.png"

SUMMARY = {"last": "Last", "avg": "Avg", "forgetting": "Forgetting", "bwt": "BWT", "fwt": "FWT"}

#: What a report must have to be compared with others.
_NEEDED = {
    "method": str,
    "setting": str,
    "seed": int,
    "stages": list,
    "datasets": list,
    "accuracy": list,
    "zero_shot": dict,
    "bytes_up": int,
    "bytes_down": int,
    "seconds": dict,
    "arguments": dict,
    **dict.fromkeys(SUMMARY, float | int | None),
}


def build_report(
    *,
    method: str,
    setting: str,
    seed: int,
    stages: Sequence[Sequence[str]],
    matrix: AccuracyMatrix,
    restricted: Sequence[Mapping[str, float | None]] | None = None,
    other: Sequence[Mapping[str, Mapping[str, float]]] | None = None,
    zero_shot: Mapping[str, float] | None = None,
    bytes_up: int,
    bytes_down: int,
    assignments: Iterable[Mapping[str, Any]],
    dropped: Iterable[Mapping[str, Any]] = (),
    product_errors: Iterable[Mapping[str, Any]] = (),
    privacy: Mapping[str, Any] | None = None,
    seconds: Mapping[str, float],
    partition: Sequence[Mapping[str, Any]] = (),
    arguments: Mapping[str, Any] | None = None,
    reference: str | None = None,
    earlier: Sequence[Mapping[str, Any]] = (),
) -> Report:
    """Collect everything about a run that is worth keeping, as plain JSON values in a fixed order.

    Args:
        method: continual method, `fcit_method`.
        setting: `fcit_setting`.
        seed: seed of the run.
        stages: the data sets of each stage.
        matrix: scores after each stage; may be empty if nothing was evaluated.
        restricted: per row of the matrix the scores with answers restricted to the data set's own labels,
            None (or absent) for a data set with open answers.
        other: per row of the matrix the scores by further metrics: data set -> metric -> score.
        zero_shot: scores of the untuned model, if it was evaluated.
        bytes_up: bytes from the clients to the server.
        bytes_down: bytes from the server to the clients.
        assignments: entries with the keys stage, round, client, subspace, cosine and task. A cosine that is NaN
            or None, as with a method that needs none, becomes null.
        dropped: clients that were left out of a round: entries with the keys stage, round, client and reason.
        product_errors: relative errors of what became of a subspace's products: entries with the keys stage, round,
            subspace and error, the last None where it is not defined.
        privacy: what noise was added and what it comes to, from `federation.accounting`; None without noise.
        seconds: total, train and evaluate.
        partition: who has how many records of what: entries with the keys task, dataset and records, the last with one
            number per client.
        reference: `fcit_reference` if the run is a bound that methods are compared with, not a method.
        arguments: keys that decide the run's numbers and are not at their default, with plain values: what tells runs apart.
        earlier: of a run that goes on from others, those: entries with the keys stage (its first one) and arguments.

    Returns:
        A dictionary with the keys method, reference, setting, seed, arguments, earlier, stages, datasets, accuracy,
        accuracy_restricted, scores_other, zero_shot, last, avg, forgetting, bwt, fwt, bytes_up, bytes_down, assignments,
        dropped, product_errors, privacy, partition and seconds.
        `accuracy` is [stage][data set] with None where not evaluated; the five summaries are None where there is nothing
        to summarise. `last` of the reference zero_shot is the mean over `zero_shot`.
    """
    datasets = list(dict.fromkeys([*matrix.datasets, *(name for stage in stages for name in stage)]))
    # a run that goes on from another one may not be evaluated itself
    evaluated = matrix.rows != [] and len(matrix.rows) == len(stages)
    zero_shot = zero_shot or {}
    untuned = fmean(zero_shot.values()) if reference == "zero_shot" else None
    return {
        "method": method,
        "reference": reference,
        "setting": setting,
        "seed": int(seed),
        "arguments": dict(arguments or {}),
        "earlier": [dict(run) for run in earlier],
        "stages": [list(stage) for stage in stages],
        "datasets": datasets,
        "accuracy": [row + [None] * (len(datasets) - len(row)) for row in matrix.rows],
        "accuracy_restricted": [[_number(row.get(name)) for name in datasets] for row in restricted or ()],
        "scores_other": [{name: dict(scores) for name, scores in row.items()} for row in other or ()],
        "zero_shot": {name: float(zero_shot[name]) for name in datasets if name in zero_shot},
        "last": matrix.last if evaluated else untuned,
        "avg": matrix.avg if evaluated else None,
        "forgetting": matrix.forgetting if evaluated else None,
        "bwt": matrix.bwt if evaluated else None,
        "fwt": matrix.fwt(zero_shot) if evaluated and zero_shot else None,
        "bytes_up": int(bytes_up),
        "bytes_down": int(bytes_down),
        "assignments": [
            {key: int(entry[key]) for key in ("stage", "round", "client", "subspace")}
            | {"cosine": _number(entry["cosine"]), "task": str(entry["task"])}
            for entry in assignments
        ],
        "dropped": [
            {key: int(entry[key]) for key in ("stage", "round", "client")} | {"reason": str(entry["reason"])}
            for entry in dropped
        ],
        "product_errors": [
            {key: int(entry[key]) for key in ("stage", "round", "subspace")} | {"error": _number(entry["error"])}
            for entry in product_errors
        ],
        "privacy": None if privacy is None else dict(privacy),
        "partition": [
            {"task": str(row["task"]), "dataset": str(row["dataset"]), "records": [int(count) for count in row["records"]]}
            for row in partition
        ],
        "seconds": {key: float(seconds[key]) for key in ("total", "train", "evaluate")},
    }


def write_report(report: Report, output_dir: str | PathLike) -> None:
    """Write the report as JSON, the matrix as CSV, and the pictures that there is something to draw for."""
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    matrix = AccuracyMatrix.from_list(report["datasets"], report["accuracy"])
    matrix.to_csv(folder / MATRIX_CSV)
    if matrix.rows:
        plot_accuracy_matrix(matrix, folder / MATRIX_PNG, f"{title(report)}: score after each stage")
    if report["assignments"]:
        plot_subspaces(report["assignments"], folder / SUBSPACES_PNG)
    if report["partition"]:
        plot_partition(report["partition"], folder / PARTITION_PNG)
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(folder / REPORT_JSON, f"{text}\n".encode())  # last and whole: who finds it takes the run as finished


def report_file(path: str | PathLike) -> Path:
    """Return the report file of a run that is named by its `output_dir` or by that file."""
    return Path(path) / REPORT_JSON if Path(path).is_dir() else Path(path)


def read_report(path: str | PathLike) -> Report:
    """Return the report of a run.

    Args:
        path: a run's `output_dir`, or its report file.

    Raises:
        FcitError: there is none, or it is damaged; the sentence names the file.
    """
    file = report_file(path)
    if not file.is_file():
        raise FcitError(f"{file} does not exist; name the output_dir of a finished fcit run, or its {REPORT_JSON}.")
    report = read_json(file)
    try:
        return checked_report(report)
    except (ValueError, TypeError) as error:
        raise FcitError(f"{file} is no report of an fcit run, or a damaged one: {error}.") from error


def checked_report(report: Any) -> Report:
    """Return what was read as a report, if it has all that a comparison needs.

    Raises:
        FcitError: it has not; the message is a reason for the caller's sentence.
        TypeError: its accuracy is no matrix of numbers.
    """
    if not isinstance(report, dict):
        raise FcitError("it is no JSON object")
    wrong = [key for key, kind in _NEEDED.items() if key not in report or not isinstance(report[key], kind)]
    if wrong:
        raise FcitError(f"nothing, or nothing that fits, stands under {', '.join(wrong)}")
    AccuracyMatrix.from_list(report["datasets"], report["accuracy"])
    return report


def table(report: Report) -> str:
    """Return the table printed at the end of a run: stages down, data sets across, and the summary below."""
    blocks = [title(report)]
    for heading, rows in _tables(report):
        blocks.append(f"{heading}:\n{plain(rows)}")
    blocks.append("   ".join(f"{name} {value}" for name, value in _summary(report).items()))
    if report["dropped"]:
        blocks.append(f"{len(report['dropped'])} times a client was left out of a round: see dropped in {REPORT_JSON}.")
    errors = [entry["error"] for entry in report.get("product_errors", ()) if entry["error"] is not None]
    if errors:
        blocks.append(f"Relative error of the averaged products: mean {fmean(errors):.2g}, largest {max(errors):.2g}.")
    if report["privacy"]:
        total = report["privacy"]["total"]
        blocks.append(
            f"Privacy spent: epsilon {total['epsilon']:.4g} at delta {report['privacy']['delta']:g}; see docs/guide/privacy.md."
        )
    return "\n\n".join(blocks)


def markdown_table(report: Report) -> str:
    """Return the same tables in Markdown."""
    blocks = []
    for heading, rows in _tables(report):
        blocks.append(f"{heading}:\n\n{markdown(rows)}")
    summary = _summary(report)
    lines = (summary.keys(), ["---:"] * len(summary), summary.values())
    blocks.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(blocks)


def _tables(report: Report) -> list[tuple[str, list[list[str]]]]:
    """The score tables that hold any score, as text cells, header row first."""
    names = report["datasets"]
    zero_shot = [("untuned", [report["zero_shot"].get(name) for name in names])]
    tables = {
        "Score": zero_shot + _stages(report["accuracy"]),
        "Score with answers restricted to the data set's own labels": _stages(report["accuracy_restricted"]),
    }
    header = ["", *map(short_name, names)]
    filled = {heading: [row for row in rows if row[1] != [None] * len(names)] for heading, rows in tables.items()}
    return [(heading, [header, *([name, *map(_cell, row)] for name, row in rows)]) for heading, rows in filled.items() if rows]


def _stages(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    return [(f"stage {stage}", row) for stage, row in enumerate(rows)]


def _summary(report: Report) -> dict[str, str]:
    spread = report.get("spread", {})  # over clients that learned alone
    return {
        name: _cell(report[key]) + (f" ± {_cell(spread[key])}" if spread.get(key) is not None else "")
        for key, name in SUMMARY.items()
    }


def title(report: Report) -> str:
    """Return what the run is called in tables, pictures and its model card."""
    return f"FCIT: {report['method']}, {report['setting']}, seed {report['seed']}"


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _number(value: float | None) -> float | None:
    """Turn any number into a float for JSON, which knows no NaN."""
    return None if value is None or not math.isfinite(value) else float(value)
