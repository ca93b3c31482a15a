"""Pictures of a run. Each function draws on its own figure and leaves matplotlib's global state alone."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .matrix import AccuracyMatrix
from .pictures import PAGE, SMALLEST, NothingToDraw, new_figure, save_figure, tick_names, ticks

INK, GRID, _BLUE = "#222222", "#d9d9d9", "#0072b2"
_COLORS = "Blues"  # one hue from light to dark: the same for every kind of eye


def plot_accuracy_matrix(matrix: AccuracyMatrix, path: str | PathLike[str], title: str = "Score after each stage") -> None:
    """Draw the accuracy matrix as a heat map, stages down, datasets across, blank where not evaluated.

    Raises:
        NothingToDraw: the matrix is empty.
    """
    rows = np.array(matrix.rows, dtype=np.float64)
    figure, _ = heat_map(
        rows,
        [f"stage {stage}" for stage in range(len(rows))],
        [short_name(dataset) for dataset in matrix.datasets],
        limits=(0, 100),
        form="{:.1f}",
        label="score",
        title=title,
    )
    save_figure(figure, path)


def plot_accuracy_matrices(
    matrices: Mapping[str, Sequence[Sequence[float | None]]], datasets: Sequence[str], path: str | PathLike[str], title: str
) -> None:
    """Draw accuracy matrices of several runs one below the other.

    Args:
        matrices: by the name of the run, scores [stages, datasets], None where not evaluated.
        datasets: their names.
        path: of the PNG file.
        title: of the picture.

    Raises:
        NothingToDraw: there is no matrix.
    """
    rows: list[Sequence[float | None]] = []
    names: list[str] = []
    for name, matrix in matrices.items():
        if rows:  # a gap
            rows.append([np.nan] * len(datasets))
            names.append("")
        rows += matrix
        names += [f"{name}, stage {stage}" if len(matrix) > 1 else name for stage in range(len(matrix))]
    cells = np.array(rows, np.float64).reshape(len(rows), -1)
    columns = [short_name(dataset) for dataset in datasets]
    figure, _ = heat_map(cells, names, columns, limits=(0, 100), form="{:.1f}", label="score", title=title, row_height=0.3)
    save_figure(figure, path)


def plot_subspaces(
    assignments: Sequence[Mapping[str, Any]], path: str | PathLike[str], title: str = "Which tasks went to which subspace"
) -> None:
    """Draw how often the clients of each task (down) were assigned to each subspace (across).

    Args:
        assignments: entries with the keys stage, round, client, subspace and task.
        path: of the PNG file.
        title: of the picture.

    Raises:
        NothingToDraw: there is no assignment.
    """
    tasks = list(dict.fromkeys(str(entry["task"]) for entry in assignments))
    counts = Counter((str(entry["task"]), entry["subspace"]) for entry in assignments)
    num_subspaces = 1 + max((entry["subspace"] for entry in assignments), default=-1)
    cells = np.array([[counts[task, k] or np.nan for k in range(num_subspaces)] for task in tasks], np.float64)
    figure, axes = heat_map(
        cells,
        [short_name(task) for task in tasks],
        [str(k) for k in range(num_subspaces)],
        limits=(0, max(counts.values(), default=0)),
        form="{:.0f}",
        label="clients assigned",
        title=title,
        slanted=False,
    )
    axes.set_xlabel("subspace")
    save_figure(figure, path)


def plot_partition(
    partition: Sequence[Mapping[str, Any]],
    path: str | PathLike[str],
    title: str = "Records of each client, task by task",
    clients: Sequence[str] = (),
    one: str = "client",
) -> None:
    """Draw how many records each client (down) has of each dataset of each task (across), 0 as blank.

    The colors grow with the square root of the number, so that small parts differ to the eye beside large ones. With more
    than 100 clients there are colors alone.

    Args:
        partition: entries with the keys task, dataset and records (one number per client).
        path: of the PNG file.
        title: of the picture.
        clients: their names, where they have some; of those without, the number.
        one: what one of them is.

    Raises:
        NothingToDraw: there is no entry, or no client.
    """
    cells = np.zeros((max((len(entry["records"]) for entry in partition), default=0), len(partition)))
    for column, entry in enumerate(partition):  # in a run that goes on from another one, clients may have joined
        cells[: len(entry["records"]), column] = entry["records"]
    many = len(cells) > 100
    figure, axes = heat_map(
        np.where(cells > 0, cells, np.nan),
        [short_name(clients[k]) if k < len(clients) else str(k) for k in range(len(cells))],
        _partition_names(partition),
        limits=(0, cells.max(initial=1)),
        form="" if many else "{:.0f}",
        label="records",
        title=title,
        row_height=12 / len(cells) if many else 0.24,
        power=0.5,
    )
    axes.set_ylabel(one)
    if many:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=20, integer=True))
    save_figure(figure, path)


def _partition_names(partition: Sequence[Mapping[str, Any]]) -> list[str]:
    """One name per column: the dataset, with its task where that is not the same."""
    names = [(short_name(entry["task"]), short_name(entry["dataset"])) for entry in partition]
    return [dataset if task == dataset else f"{task}: {dataset}" for task, dataset in names]


def plot_training_loss(log: Sequence[Mapping[str, Any]], path: str | PathLike[str]) -> None:
    """Write the picture of :func:`training_loss` to a PNG file."""
    save_figure(training_loss(log), path)


def training_loss(log: Sequence[Mapping[str, Any]], title: str = "Training loss") -> Figure:
    """Draw the loss over the global step: measured faint, a running mean strong, a line where a stage begins.

    Args:
        log: entries with the keys step, loss and stage; entries whose loss is not finite leave a gap.
        title: of the picture.
    """
    figure, axes = new_figure(9, 4)
    figure.suptitle(title, x=0.02, ha="left")
    if not log:  # a short run may end before its first log entry; that is no reason to lose its report
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no loss was logged", ha="center", color=INK)
        return figure

    log = sorted(log, key=lambda entry: entry["step"])
    step = np.array([entry["step"] for entry in log], np.float64)
    loss = np.array([entry["loss"] for entry in log], np.float64)
    loss[~np.isfinite(loss)] = np.nan
    stage = np.array([entry["stage"] for entry in log])

    axes.plot(step, loss, color=_BLUE, alpha=0.3, linewidth=0.8, label="measured")
    starts = [int(np.flatnonzero(stage == t)[0]) for t in dict.fromkeys(stage.tolist())]
    bounds = [step[i] for i in starts] + [step[-1]]
    ends_at, length = -np.inf, max(step[-1] - step[0], 1)
    for t, begin, end in zip(stage[starts], bounds[:-1], bounds[1:], strict=True):
        here = stage == t
        axes.plot(step[here], _smooth(loss[here]), color=_BLUE, linewidth=1.8, label="running mean")
        axes.axvline(begin, color=INK, linewidth=0.8 if len(starts) <= 40 else 0.2, linestyle=(0, (4, 3)))
        name = f"stage {t}" if len(starts) <= 10 else f"{t}"
        middle, half = (begin + end) / 2, 0.007 * (len(name) + 1) * length  # a letter has about 1.2 % of the width
        if middle - half >= ends_at:  # no name lies on the one before
            axes.text(middle, 1.02, name, transform=axes.get_xaxis_transform(), ha="center", va="bottom")
            ends_at = middle + half

    axes.set_xlabel("global step" if len(starts) <= 10 else "global step (numbers above: stage)")
    axes.set_ylabel("loss")
    axes.set_ylim(bottom=min(0.0, np.nanmin(loss, initial=0.0)))
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[:2], labels[:2], frameon=False, loc="lower right", bbox_to_anchor=(1, 1.08), ncols=2)
    return figure


def short_name(dataset: str) -> str:
    """Return a name for people: without the prefix `fcit_` that all our datasets share."""
    return dataset.removeprefix("fcit_")


def heat_map(
    cells: np.ndarray,
    row_names: Sequence[str],
    column_names: Sequence[str],
    *,
    limits: tuple[float, float],
    form: str,
    label: str,
    title: str,
    slanted: bool = True,
    row_height: float = 0.46,
    power: float = 1.0,
) -> tuple[Figure, Axes]:
    """Draw float64 [rows, columns] with each number in its cell; NaN cells stay blank.

    Args:
        cells: the numbers.
        row_names: at the left.
        column_names: below.
        limits: of the color scale.
        form: of the numbers; empty for none, and no names of the rows either.
        label: of the color scale.
        title: of the picture.
        slanted: turn the column names.
        row_height: inches.
        power: the color grows with this power of the number.

    Raises:
        NothingToDraw: there is no cell.
    """
    if not cells.size:
        raise NothingToDraw("There is nothing to draw: the table has no cells.")

    rows, columns = cells.shape
    row_names, column_names = tick_names(row_names), tick_names(column_names)
    beside = 1.8 + 0.09 * max(map(len, row_names))
    width = beside + 0.72 * columns
    room = (min(width, PAGE) - beside) / columns  # inches of a cell
    row_height = min(row_height, _TALLEST / rows)
    size = min(10 * min(1.0, room / 0.45), 72 * row_height / 1.2)
    height = 1.2 + row_height * max(rows, 4) + (0.055 * max(map(len, column_names)) if slanted else 0.2)
    figure, axes = new_figure(max(width, 1.0 + 0.1 * len(title)), height)
    figure.suptitle(textwrap.fill(title, int(10 * PAGE) - 10), x=0.02, ha="left")
    scale = PowerNorm(power, *limits)
    image = axes.imshow(np.ma.masked_invalid(cells), cmap=_COLORS, norm=scale, aspect="auto", interpolation="nearest")
    for (i, j), value in np.ndenumerate(cells):
        if form and np.isfinite(value) and size >= SMALLEST:
            dark = np.dot(image.to_rgba(value)[:3], (0.299, 0.587, 0.114)) < 0.5
            axes.text(j, i, form.format(value), ha="center", va="center", color="white" if dark else INK, size=size)

    turn: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    named, turn["size"] = ticks(columns, room, max(map(len, column_names)), slanted)
    axes.set_xticks(named, [column_names[j] for j in named], **turn)
    if form:  # too many rows for numbers are too many for names and lines: laying those out took half a minute
        named, letters = ticks(rows, row_height)
        axes.set_yticks(named, [row_names[i] for i in named], size=letters)
    for axis, count, inches in ((axes.xaxis, columns, room), (axes.yaxis, rows, row_height)):
        if form and inches > 0.1:  # of small cells lines would leave nothing
            axis.set_ticks(np.arange(1, count) - 0.5, minor=True)
            axis.grid(which="minor", color="white", linewidth=min(2.0, 72 * inches / 6))
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, label=label, fraction=0.05, pad=0.02)
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(nbins=5, integer=True)
    return figure, axes


#: Inches of the tallest table of cells.
_TALLEST = 24.0


def _smooth(values: np.ndarray) -> np.ndarray:
    """Centered running mean over about a twelfth of the values, ignoring NaN; shorter at both ends."""
    width = max(3, len(values) // 12) | 1
    window = np.ones(min(width, len(values)))
    known = np.isfinite(values)
    total = np.convolve(np.where(known, values, 0), window, mode="same")
    number = np.convolve(known.astype(np.float64), window, mode="same")
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)
