"""Every picture of a long run, or of many: of bounded size, with names that do not lie on each other, and looks that differ."""

from itertools import pairwise

import pytest
from reports import matrix_of, report_with

from fcit_plugin.evaluation import pictures
from fcit_plugin.evaluation.pictures import SMALLEST, ticks
from fcit_plugin.evaluation.plots import (
    plot_accuracy_matrices,
    plot_accuracy_matrix,
    plot_partition,
    plot_subspaces,
    plot_training_loss,
)
from fcit_plugin.evaluation.side_by_side import MEASURES, side_by_side
from fcit_plugin.evaluation.side_by_side_plots import plot_bars, plot_curves, plot_finals, plot_matrices, plot_traffic
from fcit_plugin.evaluation.styles import MARKERS, styles

STAGES, DATASETS, SUBSPACES, GROUPS, CLIENTS = 150, 50, 300, 40, 60
#: Pixels of the largest picture: what shows pictures has bounds, and matplotlib's own is 65,536.
LARGEST = 6000
#: In points all is where it is at 150, and a test takes a ninth of the time.
DPI = 50


def names(what, count):
    return [f"{what}_number_{i}" for i in range(count)]


def matrix(stages, datasets):
    return matrix_of(*(dict.fromkeys(names("dataset", min(stage + 1, datasets)), 50.0) for stage in range(stages)))


def compared(groups, stages, datasets):
    runs = {
        name: [report_with(matrix(stages, datasets), [names("dataset", 1)] * stages, arguments={"learning_rate": i})]
        for i, name in enumerate(names("variant", groups))
    }
    return side_by_side("custom", runs)


def assignments():
    return [{"stage": 0, "round": 0, "client": 0, "subspace": k, "task": f"task {k % DATASETS}"} for k in range(SUBSPACES)]


def loss(stages=STAGES):
    return [{"step": step, "stage": stage, "loss": 1.0} for stage in range(stages) for step in (2 * stage, 2 * stage + 1)]


def long_stage(stage):
    return [{"step": step, "stage": stage, "loss": 1.0} for step in range(2 * stage, 999)]


PICTURES = {
    "matrix": lambda path: plot_accuracy_matrix(matrix(STAGES, DATASETS), path),
    "matrices": lambda path: plot_accuracy_matrices(
        {name: [[1.0] * 9] * STAGES for name in names("method", 6)}, names("dataset", 9), path, "A title"
    ),
    "subspaces": lambda path: plot_subspaces(assignments(), path),
    "partition": lambda path: plot_partition(
        [{"task": name, "dataset": name, "records": [3] * CLIENTS} for name in names("dataset", STAGES)], path
    ),
    "loss": lambda path: plot_training_loss(loss(), path),
    "loss of uneven stages": lambda path: plot_training_loss(loss(8) + long_stage(8), path),
    "curves": lambda path: plot_curves(compared(3, STAGES, 2), path),
    "finals": lambda path: plot_finals(compared(3, DATASETS, DATASETS), path),
    "bars": lambda path: plot_bars(compared(GROUPS, 1, 1), {"Last": MEASURES["Last"]}, path, "Last"),
    "traffic": lambda path: plot_traffic(compared(GROUPS, 1, 1), path),
    "side by side": lambda path: plot_matrices(compared(GROUPS, 10, 3), path),
}  # fmt: skip


@pytest.mark.parametrize("draw", PICTURES.values(), ids=list(PICTURES))
def test_a_large_picture_is_readable(draw, tmp_path, figures, monkeypatch):
    made = pictures.PlainFigure
    monkeypatch.setattr(pictures, "PlainFigure", lambda **given: made(**given | {"dpi": DPI}))
    draw(tmp_path / "p.png")
    (figure,) = figures
    assert figure.get_figwidth() <= pictures.PAGE and figure.get_figheight() * 150 <= LARGEST
    renderer, axes = figure.canvas.get_renderer(), figure.axes[0]
    for labels, along in ((axes.get_xticklabels(), 0), (axes.get_yticklabels(), 1)):
        shown = [label for label in labels if label.get_text()]
        for label, other in pairwise(sorted(shown, key=lambda label: axes.transData.transform(label.get_position())[along])):
            here, there = (axes.transData.transform(each.get_position())[along] for each in (label, other))
            if along == 0 and not label.get_rotation():
                there, here = other.get_window_extent(renderer).x0, label.get_window_extent(renderer).x1
                assert there >= here, f"{label.get_text()} lies on {other.get_text()}"
            else:
                assert there - here >= label.get_size() * figure.dpi / 72, f"{label.get_text()} lies on {other.get_text()}"
    above = sorted(
        (text.get_window_extent(renderer) for text in axes.texts if text.get_text()), key=lambda box: (box.y0, box.x0)
    )
    assert all(right.x0 >= left.x1 or right.y0 > left.y0 for left, right in pairwise(above))
    for axis, cells in ((axes.xaxis, 0), (axes.yaxis, 1)):
        lines = axis.get_minorticklocs()
        if len(lines) > 1 and axis.get_minor_ticks()[0].gridline.get_visible():
            at = axes.transData.transform([[place, place] for place in lines[:2]])[:, cells]
            assert axis.get_minor_ticks()[0].gridline.get_linewidth() * figure.dpi / 72 <= abs(at[1] - at[0]) / 4


@pytest.mark.parametrize(("count", "room"), [(1, 5.0), (3, 0.72), (10, 0.2), (100, 0.08), (1000, 0.009), (10_000, 0.0009)])
def test_names_at_ticks_are_all_there_where_there_is_room_and_few_where_there_is_none(count, room):
    for turned in (True, False):
        named, size = ticks(count, room, 3, turned)
        assert SMALLEST <= size <= 10 and named[0] == 0
        assert named.step * room * 72 >= size * (1.5 if turned else 0.65 * 3 + 1.2) - 1e-6
    assert len(ticks(count, room)[0]) == count or room < 1.5 * SMALLEST / 72


@pytest.mark.parametrize("count", [2, 7, 8, 30, 49])
def test_so_many_variants_of_a_method_look_different(count):
    found = styles(["disco", *["ewc"] * 3, *["disco"] * (count - 1)])
    looks = [(style.color, style.marker, str(style.line), style.face) for style in found]
    assert len(set(looks)) == len(looks) == count + 3
    assert all(style.marker in MARKERS for style in found)
