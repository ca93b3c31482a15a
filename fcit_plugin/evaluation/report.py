"""The report of a run: what it has measured, and its forms as JSON, CSV, pictures and tables."""

import json
import os
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from os import PathLike
from pathlib import Path
from statistics import fmean
from typing import Any

from ..errors import FcitError, printable
from ..files import SOUND_COPY, inside, read_json, write_bytes
from ..schema import Count, Number, Whole, Word, checked, form_of
from .matrix import AccuracyMatrix, Row
from .pictures import is_drawn
from .plots import plot_accuracy_matrix, plot_partition, plot_subspaces, short_name
from .rows import Absence, Assignment, Engine, Privacy, ProductError, Seconds, Share, SiteScore
from .tables import markdown, plain

REPORT_JSON = "fcit_report.json"
MATRIX_CSV = "accuracy_matrix.csv"
MATRIX_PNG = "accuracy_matrix.png"
SUBSPACES_PNG = "subspaces.png"
PARTITION_PNG = "partition.png"
CARD = "README.md"
#: Of noise that comes from the recipe's seed and not from a secret.
SIMULATED = "simulated"

#: Kinds of processors, as `engine` names them, whose runs on the CPU with one thread were the same to the last digit: a kind ->
#: the one that it reads as. results/two_processors.jsonl has runs of the former, results/base.jsonl the same of the latter: of
#: FCIT-mini in float32, with torch 2.14.1.
ALIKE = {"AMD EPYC, family 25, model 17, AVX512": "AMD EPYC, family 26, model 2, AVX512"}

#: Keys that only some runs have: those with idle clients, with records left out or with `auto`, and the mean of several runs.
_OF_SOME = (
    *("idle", "left_out", "spread", "clients", "encoder_choice", "engine", "likelihood", "likelihood_untuned"),
    *("sites", "client_names", "site_scores", "subspace_cosines"),
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything about a run that is worth keeping, as plain JSON values. The order of the fields is that of the file.

    Attributes:
        method: continual method, `fcit_method`.
        reference: `fcit_bound` if the run is a bound that methods are compared with, not a method.
        setting: `fcit_setting`.
        seed: seed of the run; None in a report that was published.
        arguments: keys that decide the run's numbers and are not at their default, with plain values: what tells runs apart.
        earlier: of a run that goes on from others, those: entries with the keys stage (its first one) and arguments.
        stages: the datasets of each stage.
        datasets: names of the columns of the matrices.
        accuracy: scores after each stage [stage][dataset], None where not evaluated; may be empty.
        accuracy_restricted: the same with answers restricted to the dataset's own labels, None too for open answers.
        scores_other: after each stage the scores by further metrics: dataset -> metric -> score.
        likelihood: after each stage the mean negative log-likelihood of the right answers, in nats a token
            [stage][dataset]; None if it was not measured.
        likelihood_untuned: that of the untuned model, by dataset.
        zero_shot: scores of the untuned model, if it was evaluated.
        last: summary, as :class:`AccuracyMatrix` defines it; None, like the next four, where there is nothing to summarize.
            Of the reference zero_shot it is the mean over `zero_shot`.
        avg: summary.
        forgetting: summary.
        bwt: summary.
        fwt: summary.
        bytes_up: bytes from the clients to the server.
        bytes_down: bytes from the server to the clients.
        assignments: who trained which subspace, one entry per client and round.
        dropped: clients that were left out of a round.
        idle: clients that took part in a round and could not take a step; None without any.
        product_errors: one entry per subspace and round.
        privacy: what noise was added and what it comes to, from `federation.accounting`; None without noise.
        partition: who has how many records of what.
        seconds: wall-clock time.
        left_out: how many records of each dataset were not used, as LLaMA-Factory does not use them; None if all were.
        spread: of a mean of several runs: the standard deviation of each summary over them, by its key.
        clients: of a mean of several runs: the summaries of each, by its client.
        encoder_choice: what `fcit_identity_encoder: auto` has become, and why; None for a recipe that names an encoder.
        sites: names of the clients, by their numbers, where they are sites.
        client_names: names of the clients, by their numbers, where a column of the records names them.
        site_scores: what sites told of their own test records; None where none told any.
        subspace_cosines: cosines between the subspaces' identity tokens [K][K], as they are compared where a client is
            matched; None of a subspace without one. None with fewer than two, or more than a hundred.
        engine: how the run was computed; with the same number of threads none of it changes a number.
    """

    method: Word
    reference: Word | None = None
    setting: Word
    seed: Whole | None = None
    arguments: dict[Word, Any] = field(default_factory=dict)
    earlier: list[dict[Word, Any]] = field(default_factory=list)
    stages: list[list[Word]]
    datasets: list[Word]
    accuracy: list[Row]
    accuracy_restricted: list[Row] = field(default_factory=list)
    scores_other: list[dict[Word, dict[Word, Number]]] = field(default_factory=list)
    zero_shot: dict[Word, Number]
    last: Number | None
    avg: Number | None
    forgetting: Number | None
    bwt: Number | None
    fwt: Number | None
    bytes_up: Count
    bytes_down: Count
    assignments: list[Assignment] = field(default_factory=list)
    dropped: list[Absence] = field(default_factory=list)
    idle: list[Absence] | None = None
    product_errors: list[ProductError] = field(default_factory=list)
    privacy: Privacy | None = None
    partition: list[Share] = field(default_factory=list)
    seconds: Seconds
    likelihood: list[Row] | None = None
    likelihood_untuned: dict[Word, Number] | None = None
    left_out: dict[Word, Count] | None = None
    spread: dict[Word, Number | None] | None = None
    clients: dict[Word, dict[Word, Number]] | None = None
    encoder_choice: Word | None = None
    sites: list[Word] | None = None
    client_names: list[Word] | None = None
    site_scores: list[SiteScore] | None = None
    engine: Engine | None = None
    subspace_cosines: list[Row] | None = None

    @property
    def title(self) -> str:
        """What the run is called in tables, pictures and its model card."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"FCIT: {self.method}, {self.setting}{seed}"

    @property
    def where(self) -> tuple[str | None, int | None]:
        """The machine and the number of threads: elsewhere the last digits are others, which alone move a score by points.

        On the CPU, with one thread, the kinds of processors in `ALIKE` read as one.
        """
        if not self.engine:
            return None, None
        machine, threads = self.engine.get("machine"), self.engine["threads"]
        if machine is not None and threads == 1:
            for kind, same in ALIKE.items():
                machine = machine.replace(f"({kind}), cpu", f"({same}), cpu")
        return machine, threads

    @property
    def names(self) -> list[str]:
        """Names of the clients, or sites, by their numbers; fewer than there are, or none, where numbers are all there is."""
        return self.sites or self.client_names or []

    def client(self, number: int) -> str:
        """What a client is called."""
        return self.names[number] if number < len(self.names) else f"client {number}"

    @property
    def matrix(self) -> AccuracyMatrix:
        """`accuracy` as a matrix."""
        return AccuracyMatrix.from_list(self.datasets, self.accuracy)

    @property
    def summaries(self) -> dict[str, float | None]:
        """The five summaries by the names that people know them by; a name in small letters is its key."""
        return {"Last": self.last, "Avg": self.avg, "Forgetting": self.forgetting, "BWT": self.bwt, "FWT": self.fwt}

    @property
    def final_likelihood(self) -> float | None:
        """Mean over the datasets of the negative log-likelihood of the right answers, where Last is the mean of their scores.

        None where one of them has none: a mean over fewer datasets would be no match.
        """
        last = zip(self.datasets, (self.likelihood or [[]])[-1], strict=False)
        found, scored = {name: value for name, value in last if value is not None}, self.final_scores
        if self.reference == "zero_shot":
            found, scored = self.likelihood_untuned or {}, self.zero_shot
        return fmean(found[name] for name in scored) if scored and found.keys() >= scored.keys() else None

    @property
    def final_scores(self) -> dict[str, float]:
        """The scores after the last stage that was evaluated, by dataset; empty if none was."""
        return self.scores_after(len(self.accuracy) - 1)

    def scores_after(self, stage: int) -> dict[str, float]:
        """Return the scores after a stage by dataset, without those that were not evaluated."""
        row = self.accuracy[stage] if 0 <= stage < len(self.accuracy) else []
        return {name: score for name, score in zip(self.datasets, row, strict=False) if score is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the report file."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {key: value for key, value in values.items() if key not in _OF_SOME or value is not None}

    @classmethod
    def from_dict(cls, values: Any, place: str = "The report", remedy: str = SOUND_COPY) -> "Report":
        """Rebuild a report from `to_dict`, also after JSON. A key that not every report needs may be missing.

        Args:
            values: what a JSON file holds.
            place: where it stands, for the sentence.
            remedy: what the sentence says to do.

        Raises:
            FcitError: it is not a report; the sentence names the place and the key.
        """
        given = checked(form_of(cls), values, place, remedy)
        unknown = [key for key in given if key not in form_of(cls).__annotations__]
        if unknown:
            more = " ".join(", ".join(unknown).split())[:200]
            raise FcitError(f"{place} has more than this version of fcit-plugin knows: {more}; {remedy}.")
        report = cls(**given)
        matrices = {key: getattr(report, key) for key in ("accuracy", "accuracy_restricted", "likelihood")}
        for key, rows in matrices.items():
            try:
                AccuracyMatrix.from_list(report.datasets, rows or [])
            except FcitError as error:
                reason = str(error).rstrip(".")
                raise FcitError(f"{place} is not of its form, at `{key}`: {reason}; {remedy}.") from error
        cosines = report.subspace_cosines or []
        if any(len(row) != len(cosines) for row in cosines):
            raise FcitError(f"{place} is not of its form, at `subspace_cosines`: it has not as many columns as rows; {remedy}.")
        return report

    @classmethod
    def read(cls, path: str | PathLike[str]) -> "Report":
        """Return the report of a run.

        Args:
            path: a run's `output_dir`, or its report file.

        Raises:
            FcitError: there is none, or it is damaged; the sentence names the file.
        """
        file = inside(Path(path), REPORT_JSON) if Path(path).is_dir() else Path(path)
        if not os.path.lexists(file):
            raise FcitError(f"{file} does not exist; name the output_dir of a finished fcit run, or its {REPORT_JSON}.")
        return cls.from_dict(read_json(file), str(file))

    def write(self, output_dir: str | PathLike[str], keys: Container[str] | None = None) -> None:
        """Write the report as JSON, the matrix as CSV, and the pictures that there is something to draw for.

        A picture that cannot be drawn is told of and left out.

        Args:
            output_dir: folder to write to, made if missing.
            keys: of the JSON; None for all.
        """
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        matrix = self.matrix
        matrix.to_csv(folder / MATRIX_CSV)
        title, one = f"{self.title}: score after each stage", "site" if self.sites else "client"
        for name, there, draw in (
            (MATRIX_PNG, matrix.rows, lambda path: plot_accuracy_matrix(matrix, path, title)),
            (SUBSPACES_PNG, self.assignments, lambda path: plot_subspaces(self.assignments, path)),
            (PARTITION_PNG, self.partition, lambda path: plot_partition(self.partition, path, clients=self.names, one=one)),
        ):
            if there:
                is_drawn(draw, folder / name)
        values = {key: value for key, value in self.to_dict().items() if keys is None or key in keys}
        text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
        write_bytes(folder / REPORT_JSON, f"{text}\n".encode())  # last and whole: who finds it takes the run as finished


def report_file(path: str | PathLike[str]) -> Path:
    """Return the report file of a run that is named by its `output_dir` or by that file."""
    return Path(path) / REPORT_JSON if Path(path).is_dir() else Path(path)


def table(report: Report) -> str:
    """Return the table printed at the end of a run: stages down, datasets across, and the summary below."""
    blocks = [report.title]
    for heading, rows in _tables(report):
        blocks.append(f"{heading}:\n{plain(rows)}")
    blocks.append("   ".join(f"{name} {value}" for name, value in _summary_cells(report).items()))
    if report.dropped:
        blocks.append(f"{len(report.dropped)} times a client was left out of a round: see dropped in {REPORT_JSON}.")
    if alone := _trained_alone(report):
        numbers = ", ".join(map(str, alone))
        blocks.append(f"Unconfirmed, for one client alone has trained it (`fcit_route_unconfirmed`): subspace {numbers}.")
    if report.left_out:
        counts = ", ".join(f"{count} of {name}" for name, count in report.left_out.items())
        blocks.append(f"Records left out, as LLaMA-Factory leaves them out: {counts}.")
    if report.idle:
        blocks.append(
            f"{len(report.idle)} of {len(report.assignments)} local trainings could not take a step: see idle in {REPORT_JSON}."
        )
    errors = [entry["error"] for entry in report.product_errors if entry["error"] is not None]
    if errors:
        blocks.append(f"Relative error of the averaged products: mean {fmean(errors):.2g}, largest {max(errors):.2g}.")
    if report.encoder_choice:
        blocks.append(f"Identity tokens are made by {report.encoder_choice}.")
    if report.privacy:
        blocks.append(f"{privacy_statement(report.privacy)}; see docs/guide/privacy.md.")
    return printable("\n\n".join(blocks))


def _trained_alone(report: Report) -> list[int]:
    """The subspaces that one client alone has trained, where tokens decide about them."""
    clients: dict[int, set[int]] = {}
    for row in report.assignments:  # a client of few records has no cosine, and confirms what it trains
        clients.setdefault(row["subspace"], set()).add(row["client"])
    by_tokens = {row["subspace"] for row in report.assignments if row["cosine"] is not None}
    return sorted(k for k, those in clients.items() if len(those) == 1 and k in by_tokens)


def privacy_statement(privacy: Mapping[str, Any]) -> str:
    """What is said of the spent privacy wherever it is said: in the log, in the report and in the model card.

    Args:
        privacy: `Report.privacy`.
    """
    epsilon = f"{privacy['total']['epsilon']:.4g} at delta {privacy['delta']:g}"
    if privacy.get("noise") == SIMULATED:
        return f"Epsilon if the noise were secret: {epsilon} (simulated noise: protects nobody)"
    return f"Privacy spent: epsilon {epsilon}"


def markdown_table(report: Report) -> str:
    """Return the same tables in Markdown."""
    blocks = []
    for heading, rows in _tables(report):
        blocks.append(f"{heading}:\n\n{markdown(rows)}")
    summary = _summary_cells(report)
    lines = (summary.keys(), ["---:"] * len(summary), summary.values())
    blocks.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(blocks)


def _of_sites(report: Report) -> Iterator[tuple[str, list[list[str]]]]:
    """The scores of sites on their own test records after the last stage that they told any of, a column for each site."""
    scores = report.site_scores or []
    if not scores:
        return
    stage = max(row["stage"] for row in scores)
    cells = {(row["dataset"], row["site"]): f"{row['score']:.2f}" for row in scores if row["stage"] == stage}
    sites = [name for name in report.sites or [] if any(site == name for _, site in cells)]
    rows = [["", *sites]]
    rows += [
        [short_name(name), *(cells.get((name, site), "-") for site in sites)]
        for name in dict.fromkeys(dataset for dataset, _ in cells)
    ]
    yield f"Scores of the sites on their own test records after stage {stage}", rows


def _tables(report: Report) -> list[tuple[str, list[list[str]]]]:
    """The score tables that hold any score, as text cells, header row first."""
    names = report.datasets
    untuned: list[tuple[str, Row]] = [("untuned", [report.zero_shot.get(name) for name in names])]
    tables = {
        "Score": untuned + _name_stages(report.accuracy),
        "Score with answers restricted to the dataset's own labels": _name_stages(report.accuracy_restricted),
        "Negative log-likelihood of the right answers, nats a token": [
            ("untuned", [(report.likelihood_untuned or {}).get(name) for name in names]),
            *_name_stages(report.likelihood or []),
        ],
    }
    header = ["", *map(short_name, names)]
    filled = {heading: [row for row in rows if row[1] != [None] * len(names)] for heading, rows in tables.items()}
    found = [(heading, [header, *([name, *map(_cell, row)] for name, row in rows)]) for heading, rows in filled.items() if rows]
    return [*found, *_of_sites(report)]


def _name_stages(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    return [(f"stage {stage}", row) for stage, row in enumerate(rows)]


def _summary_cells(report: Report) -> dict[str, str]:
    cells = {name: _cell(value) for name, value in report.summaries.items()}
    for name in cells:
        deviation = (report.spread or {}).get(name.lower())  # over clients that learned alone
        if deviation is not None:
            cells[name] += f" ± {_cell(deviation)}"
    return cells


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
