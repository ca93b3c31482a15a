"""Curves as inline SVG: where their points, ticks and labels lie; the template draws them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from matplotlib.ticker import MaxNLocator

from .matrix import AccuracyMatrix
from .report import Report
from .side_by_side import Comparison

#: Size of a chart, and where the axes' area begins and ends.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 220, 44, 348, 12, 182
#: Curves in one chart, points of one curve, and of one whose points are marked.
MOST_CURVES, MOST_POINTS, MOST_MARKS = 10, 120, 40
#: Colors, each with a pattern of its own: curves that coincide are both seen, by every kind of eye.
COLORS = 10

Point = tuple[float, float]


@dataclass(frozen=True)
class Tick:
    """A label at a place of an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Curve:
    """One line.

    Attributes:
        name: What it is of.
        line: Its points as SVG has them.
        color: The number of its color and pattern, below :data:`COLORS`.
        marks: x, y and a sentence of each point; none where there are too many to be told apart.
    """

    name: str
    line: str
    color: int
    marks: list[tuple[float, float, str]]


@dataclass(frozen=True)
class Chart:
    """Curves over one axis.

    Attributes:
        title: What is drawn.
        x: Name of the axis across.
        curves: In the order of their colors.
        across: Ticks.
        up: Ticks.
        left_out: How many curves more there are.
    """

    title: str
    x: str
    curves: list[Curve]
    across: list[Tick]
    up: list[Tick]
    left_out: int = 0


def chart(
    title: str,
    x: str,
    series: Mapping[str, Sequence[Point]],
    *,
    low: float | None = None,
    high: float | None = None,
    colors: Mapping[str, int] | None = None,
) -> Chart | None:
    """Return the curves of some series, None without a point.

    Args:
        title: what is drawn.
        x: name of the axis across.
        series: points (x, y) by name; those whose y is not finite are left out.
        low: where the axis begins at the latest.
        high: where it ends at the earliest.
        colors: numbers of colors by name; None for one after the other.
    """
    known = [name for name, points in series.items() if any(math.isfinite(y) for _, y in points)]
    if not known:
        return None
    shown = {name: _thinned([point for point in series[name] if math.isfinite(point[1])]) for name in known[:MOST_CURVES]}
    xs = [point[0] for points in shown.values() for point in points]
    ys = [point[1] for points in shown.values() for point in points]
    ys += [value for value in (low, high) if value is not None]
    whole = all(float(value).is_integer() for value in xs)
    across = _ticks(min(xs), max(xs), whole=whole)
    up = _ticks(min(ys), max(ys))
    bottom, top = min(*up, *ys), max(*up, *ys)
    begin, end = min(xs), max(xs)

    def place(point: Point) -> Point:
        right = 0.5 if end == begin else (point[0] - begin) / (end - begin)
        height = 0.5 if top == bottom else (point[1] - bottom) / (top - bottom)
        return round(LEFT + 8 + right * (RIGHT - LEFT - 16), 1), round(BOTTOM - height * (BOTTOM - TOP), 1)

    curves = []
    for number, (name, points) in enumerate(shown.items()):
        places = [place(point) for point in points]
        marks = [(*at, f"{name}, {x} {a:g}: {b:.4g}") for at, (a, b) in zip(places, points, strict=True)]
        line = " ".join(f"{a:g},{b:g}" for a, b in places)
        curves.append(
            Curve(name, line, (number if colors is None else colors[name]) % COLORS, marks if len(marks) <= 40 else [])
        )
    return Chart(
        title,
        x,
        curves,
        [Tick(place((value, bottom))[0], f"{value:g}") for value in across if begin <= value <= end],
        [Tick(place((begin, value))[1], f"{value:g}") for value in up],
        len(known) - len(shown),
    )


def summary_curves(report: Report) -> Chart | None:
    """Return Last, Avg and Forgetting as they would be if the run had ended after each stage."""
    series: dict[str, list[Point]] = {"Last": [], "Avg": [], "Forgetting": []}
    matrix = AccuracyMatrix()
    for stage, row in enumerate(report.accuracy):
        matrix.add(stage, {str(i): score for i, score in enumerate(row) if score is not None})
        if any(score is not None for score in row):
            values = matrix.last, matrix.avg, matrix.forgetting
            for points, value in zip(series.values(), values, strict=True):
                points.append((stage, value))
    return chart("Last, Avg and Forgetting, had the run ended after each stage", "stage", series, low=0, high=100)


def dataset_curves(report: Report) -> Chart | None:
    """Return the score of each dataset over the stages."""
    series = {
        name: [(stage, row[i]) for stage, row in enumerate(report.accuracy) if row[i] is not None]
        for i, name in enumerate(report.datasets)
    }
    return chart("Score of each dataset", "stage", series, low=0, high=100)  # type: ignore[arg-type]  # None is left out


def loss_curves(log: Sequence[Mapping[str, object]], called: Callable[[int], str] = "client {}".format) -> list[Chart]:
    """Return the training loss of each client, a chart for each stage.

    Args:
        log: lines of the trainer's log.
        called: what a client is called, by its number.
    """
    stages: dict[int, dict[int, list[Point]]] = {}
    for line in log:
        client = line.get("client")
        if isinstance(line.get("loss"), float) and isinstance(client, int):
            points = stages.setdefault(int(line["stage"]), {}).setdefault(client, [])  # type: ignore[call-overload]
            points.append((len(points), line["loss"]))  # type: ignore[arg-type]
    charts = []
    every = sorted({client for clients in stages.values() for client in clients})
    colors = {called(client): number for number, client in enumerate(every)}
    for stage, clients in sorted(stages.items()):
        by_number = {called(client): points for client, points in sorted(clients.items())}
        made = chart(f"Loss in stage {stage}", "logged step of the client", by_number, low=0, colors=colors)
        charts += [] if made is None else [made]
    return charts


def comparison_curves(comparison: Comparison) -> Chart | None:
    """Return the mean score over the datasets seen, stage by stage, a curve for each group of runs."""
    series = {
        group.label: [(stage, spread.mean) for stage, spread in enumerate(group.curve()) if spread is not None]
        for group in comparison.groups
    }
    return chart("Mean score over the datasets seen", "stage", series, low=0, high=100)


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Few points of many: means of as many neighbors each."""
    size = -(-len(points) // MOST_POINTS)
    if size <= 1:
        return list(points)
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    return [(part[0][0], fmean(y for _, y in part)) for part in parts]


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    if low == high:
        return [low]
    values = MaxNLocator(nbins=5, integer=whole).tick_values(low, high)
    return [float(value) for value in values]
