"""The document of a grid: tables and pictures of all its runs that have ended."""

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from urllib.parse import quote

from ..evaluation.latex import latex
from ..evaluation.pictures import is_drawn
from ..evaluation.report import Report
from ..evaluation.side_by_side import (
    Comparison,
    Measure,
    difference_rows,
    difference_title,
    side_by_side,
    summary_rows,
    write_csv,
)
from ..evaluation.side_by_side_plots import plot_bars, plot_curves, plot_matrices, plot_traffic
from ..evaluation.tables import Rows, code, escaped, markdown
from ..files import write_text
from .grid_file import Cell, GridFile, Table, file_stem


def _if_several_stages(measure: Measure) -> Measure:
    """What is measured from stage to stage: nothing of a run that has but one."""
    return lambda report: measure(report) if len(_evaluated_stages(report)) > 1 else None


def _evaluated_stages(report: Report) -> list[int]:
    """The stages after which there are scores."""
    return [stage for stage, row in enumerate(report.accuracy) if any(score is not None for score in row)]


def last_in_labels(report: Report) -> float | None:
    """Last, where answers are restricted to the dataset's own labels; open answers count as they are.

    None of a run that was not evaluated in this way.
    """
    rows = report.accuracy_restricted or [[]]
    if all(score is None for score in rows[-1]) or not report.accuracy:
        return None
    scores = [free if own is None else own for own, free in zip(rows[-1], report.accuracy[-1], strict=True)]
    return fmean(score for score in scores if score is not None)


def _subspaces(report: Report) -> float | None:
    """How many subspaces the run opened; a bound's LoRA is none."""
    used = {row["subspace"] for row in report.assignments}
    return float(len(used)) if used and report.reference in (None, "oracle") else None


#: The columns: name -> number of a run, None where it has none.
COLUMNS: dict[str, Measure] = {
    "Last": lambda report: report.last,
    "Last in labels": last_in_labels,
    "NLL": lambda report: report.final_likelihood,
    "Avg": _if_several_stages(lambda report: report.avg),
    "Forgetting": _if_several_stages(lambda report: report.forgetting),
    "BWT": _if_several_stages(lambda report: report.bwt),
    "subspaces": _subspaces,
    "MB up": lambda report: report.bytes_up / 1e6,
    "MB down": lambda report: report.bytes_down / 1e6,
    "s training": lambda report: report.seconds["train"],
    "s evaluation": lambda report: report.seconds["evaluate"],
}

#: Those whose differences from the grid's reference are told.
_PAIRED = ("Last", "Last in labels", "NLL", "Avg", "Forgetting")

#: Of these the mean is enough.
_MEANS = ("MB up", "MB down", "s training", "s evaluation")

#: No more than so many runs are listed that have not ended.
_LISTED = 20

_LEGEND = (
    "Scores go from 0 to 100, mean ± sample standard deviation over the seeds (runs: how many). Last: mean over all "
    "datasets after the last stage; in labels: with answers restricted to the dataset's own labels, where it has such, so "
    "that what lies between the two is answers in another task's words. NLL: mean negative log-likelihood of the right "
    "answers after the last stage, in nats a token; less is better. Avg: mean over the stages. Forgetting and BWT: over the"
    " datasets that were evaluated before the last stage. MB: arrays sent by (up) and to (down) the clients in the whole "
    "run. Seconds: of the run's one process."
)


def write_document(
    grid: GridFile, reports: Mapping[str, Report], test_records: Mapping[str, int | None] | None = None
) -> list[Cell]:
    """Write the document and its pictures from the cells that have ended.

    Args:
        grid: whose document.
        reports: of the cells that have ended, by name.
        test_records: how many records of each dataset they were tested with (:meth:`.results.Results.test_records`).

    Returns:
        The cells that are not in it.
    """
    missing = [cell for cell in grid.cells if cell.name not in reports]
    images = grid.document.parent / "images" / grid.document.stem
    blocks = [
        f"# {grid.title}",
        f"<!-- Written by `{_call(grid)}`, which writes it again: put findings elsewhere. -->",
        *([grid.about.strip()] if grid.about.strip() else []),
        f"    {_call(grid)}",
        _LEGEND,
        *_told(test_records or {}),
    ]
    for table in grid.tables:
        blocks += [f"## {table.title}", *([table.about] if table.about else [])]
        for setting in table.settings:
            blocks += _section(grid, table, setting, reports, images)
    if missing:
        blocks += [
            "## Not in the tables yet",
            f"{len(missing)} of {len(grid.cells)} runs: {_name_cells([cell.name for cell in missing])}.",
        ]
    write_text(grid.document, "\n\n".join(blocks) + "\n")
    return missing


def write_for_paper(grid: GridFile, reports: Mapping[str, Report], folder: Path) -> list[Path]:
    """Write each table of a grid as CSV and as LaTeX, and each of its pictures as PDF.

    Args:
        grid: whose tables.
        reports: of the cells that have ended, by name.
        folder: where to.

    Returns:
        What was written.
    """
    written = []
    for table in grid.tables:
        for setting in table.settings:
            comparison, _ = _comparison(grid, table, setting, reports)
            if comparison is None:
                continue
            stem = file_stem(table.name, setting)
            numbers, typeset = folder / f"{stem}.csv", folder / f"{stem}.tex"
            write_csv([comparison], numbers, COLUMNS)
            write_text(typeset, latex([comparison], COLUMNS, _PAIRED))
            written += [numbers, typeset, *(path for _, path in _draw_plots(comparison, table, folder, "pdf"))]
    return written


def _call(grid: GridFile) -> str:
    """The command that writes the document, on one line, also in a comment of HTML."""
    return " ".join(shlex.join(["fcit-cli", "compare", str(grid.path)]).split()).replace("-->", "--&gt;")


def _told(test_records: Mapping[str, int | None]) -> list[str]:
    """With how many records runs were tested, most of them first; all but those by name."""
    (usual, count), *others = Counter(test_records.values()).most_common() or [(None, 0)]
    if usual is None and not others:
        return []
    parts = [f"{count} runs with {_records(usual)}"]
    for number, count in others:
        names = [name for name, own in test_records.items() if own == number]
        parts.append(f"{count} with {_records(number)} ({_name_cells(names)})")
    return [f"Tested on the first records of each dataset's test set: {'; '.join(parts)}."]


def _records(number: int | None) -> str:
    return "all of them" if number is None else f"{number}"


def _name_cells(names: Sequence[str]) -> str:
    shown = ", ".join(map(code, names[:_LISTED]))
    return shown if len(names) <= _LISTED else f"{shown}, and others; `--dry-run` lists all of them"


def _comparison(
    grid: GridFile, table: Table, setting: str, reports: Mapping[str, Report]
) -> tuple[Comparison | None, dict[tuple[str, float], str]]:
    """The groups of a table in a setting whose runs have ended, None without any; and their labels by row and beta."""
    groups: dict[tuple[str, float], list[Report]] = {}
    for beta in table.betas:
        for row in table.rows:
            names = [grid.cell(setting, beta, row, seed).name for seed in grid.seeds_of(table, row)]
            if members := [reports[name] for name in names if name in reports]:
                groups[row, beta] = members
    if not groups:
        return None, {}
    labels = {key: _label(*key, table) for key in groups}
    made = {labels[key]: members for key, members in groups.items()}
    reference = next((label for (row, _), label in labels.items() if row == grid.reference), None)
    return side_by_side(setting, made, reference if len(table.betas) == 1 else None), labels


def _section(grid: GridFile, table: Table, setting: str, reports: Mapping[str, Report], images: Path) -> list[str]:
    comparison, labels = _comparison(grid, table, setting, reports)
    if comparison is None:
        return [f"### {escaped(setting)}", "No run of it has ended yet."]
    references = {beta: label for (row, beta), label in labels.items() if row == grid.reference}
    heading = f"### {escaped(comparison.title)}" + (f", beta {table.betas[0]:g}" if len(table.betas) == 1 else "")
    given = grid.published
    published = {labels[row, beta]: given.scores_of(setting, beta, row) for row, beta in labels} if given else {}
    blocks = [heading, markdown(_rows(comparison, published))]
    if given and any(published.values()):
        remark = "Other data, another model: compare the order and the gaps, not the values."
        blocks.append(f"paper: {given.source}. {remark}")
    for beta, reference in references.items():
        among = [
            group for group in comparison.groups if group.label in {label for key, label in labels.items() if key[1] == beta}
        ]
        measures = {name: COLUMNS[name] for name in _PAIRED}
        of_beta = replace(comparison, groups=tuple(among), reference=reference)
        differences = difference_rows(of_beta, measures)
        if len(differences) > 1:
            blocks += [f"{escaped(difference_title(of_beta))}:", markdown(differences)]
    pictures = _draw_plots(comparison, table, images)
    if pictures:
        places = {path: quote(path.relative_to(grid.document.parent).as_posix()) for _, path in pictures}
        blocks.append("\n".join(f"![{escaped(what)}]({places[path]})" for what, path in pictures))
    return blocks


def _label(row: str, beta: float, table: Table) -> str:
    return row if len(table.betas) == 1 else f"{row}, beta {beta:g}"


def _rows(comparison: Comparison, published: Mapping[str, Mapping[str, float]]) -> Rows:
    """The summaries without columns that are empty, and what was published."""
    header, *lines = summary_rows(comparison, COLUMNS)
    kept = [i for i in range(len(header)) if i < 2 or any(line[i] not in ("-", "") for line in lines)]
    names = list(dict.fromkeys(name for numbers in published.values() for name in numbers))
    rows = [[*(header[i] for i in kept), *(f"paper: {name}" for name in names)]]
    for line in lines:
        numbers = published.get(line[0], {})
        own = [line[i].partition(" ±")[0] if header[i] in _MEANS else line[i] for i in kept]
        rows.append([*own, *(f"{numbers[name]:.2f}" if name in numbers else "" for name in names)])
    return rows


def _draw_plots(comparison: Comparison, table: Table, folder: Path, kind: str = "png") -> list[tuple[str, Path]]:
    """Draw what there is something to draw of; returns what it is and where. What cannot be drawn is told."""
    drawn = []
    for plot in table.plots:
        what, draw = _PLOTS[plot]
        path = folder / f"{file_stem(table.name, comparison.setting)}_{plot}.{kind}"
        if is_drawn(partial(draw, comparison), path):
            drawn.append((f"{comparison.setting}: {what}", path))
    return drawn


def _bars(title: str, *names: str) -> Callable[[Comparison, Path], None]:
    return lambda comparison, path: plot_bars(comparison, {name: COLUMNS[name] for name in names}, path, title)


_PLOTS: dict[str, tuple[str, Callable[[Comparison, Path], None]]] = {
    "curves": ("score after each stage", plot_curves),
    "matrices": ("score of each dataset after each stage", plot_matrices),
    "forgetting": ("forgetting", _bars("forgetting", "Forgetting")),
    "traffic": ("Last against bytes", plot_traffic),
    "bars": ("Last and forgetting", _bars("Last and forgetting", "Last", "Forgetting")),
}
