"""``fcit_report.html``: everything about a run, or about several side by side, on one page that needs no network.

What comes from outside (answers, names, reasons) is only ever text: the template escapes all of it, and the page's own content
security policy runs no script but the one of the package.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .. import __version__
from ..errors import printable
from . import page_charts
from .page_answers import Dataset, answers
from .page_charts import Chart, comparison_curves, dataset_curves, loss_curves, summary_curves
from .page_tables import Figure, Limits, Table, Tables
from .plots import short_name
from .report import Report, privacy_statement
from .rows import Prediction
from .side_by_side import MEASURES, PAIRED, Comparison, compare, difference_rows, difference_title, final_rows, summary_rows
from .tables import Rows

PAGE_HTML = "fcit_report.html"
#: Bytes of the largest page, and of the answers on it at most.
MOST_BYTES, MOST_ANSWERS = 5_000_000, 2_500_000
#: Letters of a recipe as it was typed.
MOST_TYPED = 20_000
#: Runs of which more than the comparison is shown, bars that the slider chooses from, and letters of a name.
MOST_RUNS, MOST_BARS, MOST_LETTERS = 12, 2_000, 300
#: How much of long tables is shown; the next ones where the page would be too large.
LIMITS = (Limits(500, 60), Limits(100, 40), Limits(20, 12), Limits(3, 3))


@dataclass(frozen=True)
class RunFiles:
    """What a run has left that a page is made of.

    Attributes:
        report: Its report.
        log: The lines of its trainer's log; empty where there is none.
        predictions: What it has answered, by stage; empty where nothing was kept.
        typed: Its recipe as it was typed; empty where it was no file.
    """

    report: Report
    log: Sequence[Mapping[str, Any]] = ()
    predictions: Mapping[int | None, Sequence[Prediction]] = field(default_factory=dict)
    typed: str = ""


_Compared = Mapping[str, Rows]


@dataclass(frozen=True)
class _Stage:
    """The scores after a stage, as bars."""

    number: int
    rows: Sequence[tuple[str, Figure]]


@dataclass(frozen=True)
class _Run:
    """What the template shows of a run."""

    name: str
    title: str
    tables: Tables
    stages: Sequence[_Stage]
    curves: Sequence[Chart]
    losses: Sequence[Chart]
    sections: Sequence[tuple[str, str, Sequence[Table], str, str]]
    answers: Sequence[Dataset]


class _Drawn:
    """A run and its charts, which are drawn once however often the page is made."""

    def __init__(self, name: str, run: RunFiles) -> None:
        self.name, self.run = name, run
        self.curves = [made for made in (summary_curves(run.report), dataset_curves(run.report)) if made is not None]
        self.losses = loss_curves(run.log, run.report.client)


def page(runs: Mapping[str, RunFiles]) -> str:
    """Return the page of one run, or of several with a comparison first.

    Args:
        runs: by the name to call them; that of a single one is not shown.
    """
    drawn = [_Drawn(name if len(runs) > 1 else "", run) for name, run in list(runs.items())[:MOST_RUNS]]
    comparisons = compare({name: run.report for name, run in runs.items()}) if len(runs) > 1 else []
    given = [(comparison.title, _compared(comparison), comparison_curves(comparison)) for comparison in comparisons]
    for limits in LIMITS:
        bare = _render(drawn, given, len(runs), limits, 0)
        left = MOST_BYTES - len(bare.encode())
        if left > 0:
            break
    budget = min(MOST_ANSWERS, left * 3 // 4)
    while budget > 1000 and any(one.run.predictions for one in drawn):
        full = _render(drawn, given, len(runs), limits, budget // len(drawn))
        if len(full.encode()) < MOST_BYTES:
            return full
        budget //= 2
    return bare


def _render(
    drawn: Sequence[_Drawn], compared: Sequence[tuple[str, _Compared, Chart | None]], count: int, limits: Limits, budget: int
) -> str:
    parts = [_run(one, limits, budget) for one in drawn]
    comparisons = [_comparison(*one, limits) for one in compared[: limits.rows]]
    if count == 1:
        report, run = drawn[0].run.report, parts[0]
        title, about = report.title, _about(report)
        links = [("scores", "Scores"), *([("loss", "Loss")] if run.losses else [])]
        links += [(id, name) for id, name, *_ in run.sections]
        links += [("answers", "Answers")] if run.answers else []
    else:
        title, about = f"{count} runs side by side", "Means and deviations are over runs that differ in the seed alone."
        links = [(f"compared{i}", comparison["title"]) for i, comparison in enumerate(comparisons)]
        links += [(f"scores{i}", run.title) for i, run in enumerate(parts)]  # what is inside opens what is closed
    style, script = _source("page.css"), _source("page.js")
    rendered = (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            about=about,
            links=links,
            comparisons=comparisons,
            runs=parts,
            runs_left_out=count - len(parts),
            version=__version__,
            style=style,
            script=script,
            style_sum=_sum(style),
            script_sum=_sum(script),
        )
    )
    return f"{rendered}\n"


def _run(drawn: _Drawn, limits: Limits, budget: int) -> _Run:
    report, tables = drawn.run.report, Tables(drawn.run.report, limits)
    chosen = f"Identity tokens are made by {report.encoder_choice}." if report.encoder_choice else ""
    typed = drawn.run.typed
    if len(typed) > MOST_TYPED:
        typed = f"{typed[:MOST_TYPED]}\n… the rest stands in the output folder"
    sections = [
        ("subspaces", "Subspaces", tables.subspaces(), "", ""),
        ("clients", "Clients and their data", tables.clients(), "", ""),
        ("cost", "Bytes and time", tables.cost(), "", ""),
        ("privacy", "Privacy", tables.privacy(), f"{privacy_statement(report.privacy)}." if report.privacy else "", ""),
        ("recipe", "Recipe", tables.recipe(), chosen, typed),
        ("machine", "Machine", tables.machine(), "", ""),
    ]
    return _Run(
        drawn.name,
        report.title,
        tables,
        _stages(report, tables),
        drawn.curves[: limits.rows],
        drawn.losses[: limits.rows],
        [section for section in sections if section[2] or section[4]],
        answers(drawn.run.predictions, budget) if budget else [],
    )


def _stages(report: Report, tables: Tables) -> list[_Stage]:
    if len(report.accuracy) * len(report.datasets) > MOST_BARS:
        return []
    found = []
    for stage in range(len(report.accuracy)):
        rows = [(str(row[0]), row[1]) for row in tables.after(stage).rows]
        found.append(_Stage(stage, [(name, figure) for name, figure in rows if isinstance(figure, Figure)]))
    return found


def _about(report: Report) -> str:
    """Which datasets arrive when, as far as it fits in a few lines."""
    stages = [[short_name(name)[:60] for name in names[:12]] for names in report.stages[:20]]
    shown = "; ".join(f"stage {i}: {', '.join(names)}" for i, names in enumerate(stages))
    cut = len(report.stages) > len(stages) or any(len(names) > 12 for names in report.stages)
    return f"{shown}; \u2026" if cut else f"{shown}."


def _compared(comparison: Comparison) -> _Compared:
    """The tables of a comparison by their captions."""
    tables = {"Mean ± standard deviation over the runs": summary_rows(comparison)}
    tables["Score after the last stage"] = final_rows(comparison)
    differences = difference_rows(comparison, {name: MEASURES[name] for name in PAIRED})
    if len(differences) > 1:
        tables[difference_title(comparison)] = differences
    return tables


def _comparison(title: str, tables: _Compared, curves: Chart | None, limits: Limits) -> dict[str, Any]:
    made = [
        Table(
            caption,
            rows[0][: limits.columns],
            [row[: limits.columns] for row in rows[1 : limits.rows + 1]],
            left_out=max(0, len(rows) - 1 - limits.rows),
            columns_left_out=max(0, len(rows[0]) - limits.columns),
        )
        for caption, rows in tables.items()
    ]
    return {"title": title, "tables": made, "charts": [] if curves is None else [curves]}


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("fcit_plugin.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_readable,
        trim_blocks=True,
        auto_reload=False,
    )
    made.tests["figure"] = lambda value: isinstance(value, Figure)
    made.filters["brief"] = lambda text: f"{text[:MOST_LETTERS]}…" if len(text) > MOST_LETTERS else text
    made.globals["size"] = page_charts
    return made


def _readable(value: Any) -> Any:
    """A text without what would turn the direction of reading, or mean nothing in HTML."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _source(name: str) -> Markup:
    """A file of the package itself, which goes into the page as it is."""
    source, _, _ = PackageLoader("fcit_plugin.evaluation", "templates").get_source(_environment(), name)
    return Markup(source)


def _sum(text: str) -> str:
    """How a content security policy names the inline text that it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
