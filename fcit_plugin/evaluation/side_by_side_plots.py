"""Pictures of several runs side by side."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from os import PathLike

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .pictures import NothingToDraw, new_figure, save_figure, tick_names, ticks
from .plots import GRID, INK, plot_accuracy_matrices, short_name
from .report import Report
from .side_by_side import MEASURES, Comparison, Measure, Spread
from .styles import Style, styles

#: Measures are gray, so that no bar of one is taken for a method.
_GRAYS = ("#444444", "#bbbbbb")
#: Curves that are nearer to each other than this are one to the eye.
_ONE = 1.0
#: Points by which a line is wider, and its marker larger, for each one that is drawn over it; for so many at most.
_WIDER, _LARGER, _NESTED = 2.0, 3.0, 4


def plot_curves(comparison: Comparison, path: str | PathLike[str]) -> None:
    """Draw the mean score over the datasets seen so far after each stage, a line for each group.

    A curve that others are drawn over is wider than they, with larger markers, so that all are seen. A band goes one standard
    deviation to both sides where a group has several runs. A group that has but one stage where others have several (a bound
    trained on everything at once) is a level line.

    Raises:
        NothingToDraw: no run was evaluated.
    """
    curves = [(i, group.label, group.curve()) for i, group in enumerate(comparison.groups)]
    curves = [(i, label, curve) for i, label, curve in curves if any(curve)]
    if not curves:
        raise NothingToDraw("There is nothing to draw: no run was evaluated.")

    stages, top, looks = max(len(curve) for _, _, curve in curves), 0.0, _looks(comparison)
    figure, axes = new_figure(max(6.0, 2.5 + 0.6 * stages), 3.8)
    for i, label, curve in curves:
        at = [stage for stage, spread in enumerate(curve) if spread]
        mean, deviation = _means_and_deviations(curve)
        color, over = looks[i].color, _hidden_by(curves, i)
        if len(curve) == 1 < stages:
            ends = range(-1, stages + 1)  # beyond both sides of the picture
            axes.plot(
                ends,
                [mean[0]] * len(ends),
                color=color,
                marker=looks[i].marker,
                markerfacecolor=looks[i].face,
                linestyle=":",
                linewidth=1.8,
                label=_in_legend(label),
            )
            continue
        axes.plot(
            at,
            mean,
            color=color,
            marker=looks[i].marker,
            markerfacecolor=looks[i].face,
            linestyle=looks[i].line,
            markersize=5 + _LARGER * over,
            linewidth=1.8 + _WIDER * over,
            label=_in_legend(label),
        )
        top = max(top, *(mean + deviation))
        if deviation.any():
            low, high = np.maximum(mean - deviation, 0), mean + deviation
            axes.fill_between(at, low, high, color=color, alpha=0.18, linewidth=0)
    named, size = ticks(stages, (figure.get_figwidth() - 1.5) / stages, len(str(stages)), turned=False)
    axes.set_xticks(named, list(map(str, named)), size=size)
    axes.set_xlim(-0.25, stages - 0.75)
    axes.set_xlabel("stage")
    _finish(figure, axes, top, f"{comparison.setting}: mean score over the datasets seen, after each stage", path)


def plot_finals(comparison: Comparison, path: str | PathLike[str]) -> None:
    """Draw the score of each dataset after the last stage, a bar for each group, with its standard deviation.

    The untuned model's scores are gray bars.

    Raises:
        NothingToDraw: no run was evaluated after its last stage.
    """
    bars: list[tuple[str, list[Spread | None]]] = [
        (label, [Spread(scores[name], None) for name in comparison.datasets]) for label, scores in comparison.zero_shot.items()
    ]
    untuned = len(bars)
    bars += [(group.label, [group.final_score(name) for name in comparison.datasets]) for group in comparison.groups]
    bars = bars[:untuned] + [(label, finals) for label, finals in bars[untuned:] if any(finals)]
    if len(bars) == untuned:
        raise NothingToDraw("There is nothing to draw: no run was evaluated after its last stage.")

    places, top = np.arange(len(comparison.datasets)), 0.0
    looks = dict(zip((group.label for group in comparison.groups), _looks(comparison), strict=True))
    width = 0.84 / len(bars)
    figure, axes = new_figure(max(6.0, 1.5 + len(places) * max(0.7, 0.12 * len(bars))), 3.8)
    for i, (label, finals) in enumerate(bars):
        at = [j for j, spread in enumerate(finals) if spread]
        mean, deviation = _means_and_deviations(finals)
        top = max(top, *(mean + deviation))
        k = i - untuned
        look = Style("#999999", "") if k < 0 else looks[label]
        axes.bar(
            places[at] + (i - (len(bars) - 1) / 2) * width,
            mean,
            0.88 * width,
            color=look.bar_face,
            hatch=look.hatch,
            edgecolor=look.color,  # so that 0 is a line and not nothing
            linewidth=1.0,
            label=_in_legend(label),
            yerr=np.where(deviation > 0, deviation, np.nan),
            error_kw={"elinewidth": 1.0, "capsize": min(2.5, 12 * width), "ecolor": INK},
        )
    _name_places(figure, axes, tick_names(map(short_name, comparison.datasets)))
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(places) - 0.4)
    _finish(figure, axes, top, f"{comparison.setting}: score of each dataset after the last stage", path)


def plot_matrices(comparison: Comparison, path: str | PathLike[str]) -> None:
    """Draw the accuracy matrices of the groups one below the other, each the mean over its runs.

    Raises:
        NothingToDraw: no run was evaluated.
    """
    found = {group.label: group.matrix(comparison.datasets) for group in comparison.groups}
    means = {label: [[spread.mean if spread else None for spread in row] for row in rows] for label, rows in found.items()}
    plot_accuracy_matrices(means, comparison.datasets, path, f"{comparison.setting}: score of each dataset after each stage")


def plot_bars(comparison: Comparison, measures: Mapping[str, Measure], path: str | PathLike[str], title: str) -> None:
    """Draw measures from 0 to 100 of each group: groups across, a bar for each measure, with its standard deviation.

    Raises:
        NothingToDraw: no group has one of them.
    """
    found = {name: [group.spread(measure) for group in comparison.groups] for name, measure in measures.items()}
    found = {name: spreads for name, spreads in found.items() if any(spreads)}
    if not found:
        raise NothingToDraw(f"There is nothing to draw: no run has {' or '.join(measures)}.")
    at = [i for i in range(len(comparison.groups)) if any(spreads[i] for spreads in found.values())]
    width, top = 0.84 / len(found), 0.0
    figure, axes = new_figure(max(6.0, 1.5 + 0.6 * len(at)), 3.8)
    for j, (name, spreads) in enumerate(found.items()):
        places = [place for place, i in enumerate(at) if spreads[i]]
        mean, deviation = _means_and_deviations(spreads)
        top = max(top, *(mean + deviation))
        axes.bar(
            [place + (j - (len(found) - 1) / 2) * width for place in places],
            mean,
            0.88 * width,
            color=_GRAYS[j % len(_GRAYS)],
            edgecolor=_GRAYS[0],
            linewidth=1.0,
            label=_in_legend(name),
            yerr=np.where(deviation > 0, deviation, np.nan),
            error_kw={"elinewidth": 1.0, "capsize": 2.5, "ecolor": INK},
        )
    _name_places(figure, axes, tick_names(comparison.groups[i].label for i in at))
    axes.tick_params(axis="x", length=0)
    _finish(figure, axes, top, f"{comparison.setting}: {title}", path)


def plot_traffic(comparison: Comparison, path: str | PathLike[str]) -> None:
    """Draw Last of each group over the megabytes that traveled in one run, both ways together.

    Groups of which nothing traveled (bounds) are left out.

    Raises:
        NothingToDraw: nothing is left.
    """
    points = [
        (i, group.label, sent.mean, last)
        for i, group in enumerate(comparison.groups)
        if (sent := group.spread(_megabytes)) and sent.mean > 0 and (last := group.spread(MEASURES["Last"]))
    ]
    if not points:
        raise NothingToDraw("There is nothing to draw: no run that sent anything was evaluated.")
    figure, axes = new_figure(6.0, 3.8)
    top, looks = 0.0, _looks(comparison)
    for i, label, megabytes, last in points:
        (y,), (deviation,) = _means_and_deviations([last])
        color = looks[i].color
        axes.errorbar(
            megabytes,
            y,
            yerr=deviation or None,
            color=color,
            marker=looks[i].marker,
            markerfacecolor=looks[i].face,
            linestyle="none",
            markersize=7,
            capsize=2.5,
            label=_in_legend(label),
        )
        top = max(top, y + deviation)
    axes.set_xlim(0, 1.15 * max(megabytes for _, _, megabytes, _ in points))
    axes.set_xlabel("MB sent and received by clients in one run")
    _finish(figure, axes, top, f"{comparison.setting}: Last against traffic", path)


def _name_places(figure: Figure, axes: Axes, names: Sequence[str]) -> None:
    """Write slanted names below the places 0, 1, ..., of very many some."""
    named, size = ticks(len(names), (figure.get_figwidth() - 1.5) / len(names))
    axes.set_xticks(named, [names[i] for i in named], size=size, rotation=30, ha="right", rotation_mode="anchor")


def _in_legend(label: str) -> str:
    """The label of what is drawn: matplotlib leaves out of a legend what has none, or one that begins with an underscore."""
    return label if label and label[0] != "_" else f" {label}"


def _looks(comparison: Comparison) -> list[Style]:
    """How each group looks: by its method or bound, whatever else is in the picture."""
    firsts = [group.reports[0] for group in comparison.groups]
    return styles([report.reference or report.method for report in firsts])


def _hidden_by(curves: Sequence[tuple[int, str, Sequence[Spread | None]]], i: int) -> int:
    """How many of the curves that are drawn after a group's coincide with it."""
    own = next(curve for j, _, curve in curves if j == i)
    return min(sum(_coincide(own, curve) for j, _, curve in curves if j > i), _NESTED)


def _coincide(one: Sequence[Spread | None], other: Sequence[Spread | None]) -> bool:
    """Whether two curves are one to the eye at three quarters of their stages or more."""
    gaps = [abs(a.mean - b.mean) for a, b in zip(one, other, strict=False) if a and b]
    return bool(gaps) and sum(gap < _ONE for gap in gaps) >= 0.75 * len(gaps)


def _megabytes(report: Report) -> float:
    return (report.bytes_up + report.bytes_down) / 1e6


def _means_and_deviations(spreads: Sequence[Spread | None]) -> tuple[np.ndarray, np.ndarray]:
    """Those of the n spreads that there are, float64 [n] each; a deviation that is not known is 0."""
    known = [spread for spread in spreads if spread]
    return np.array([spread.mean for spread in known]), np.array([spread.deviation or 0.0 for spread in known])


def _finish(figure: Figure, axes: Axes, top: float, title: str, path: str | PathLike[str]) -> None:
    axes.set_ylabel("score")
    axes.set_ylim(-1, 1.02 * max(100.0, top))  # a little below 0, so that what is drawn at 0 is seen
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    letters = 10 * figure.get_figwidth()
    labels = [textwrap.fill(label, int(letters) - 8) for label in labels]
    lines = [line for label in labels for line in label.splitlines()]
    rows = min(len(labels), math.ceil(len(labels) * (max(map(len, lines), default=0) + 8) / letters))
    figure.legend(handles, labels, loc="outside lower left", ncols=math.ceil(len(labels) / rows), frameon=False)
    figure.set_figheight(figure.get_figheight() + 0.22 * max(rows, len(lines) - len(labels) + rows))
    figure.suptitle(title, x=0.02, ha="left")
    save_figure(figure, path)
