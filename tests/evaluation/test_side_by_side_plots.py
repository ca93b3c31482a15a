"""Pictures of runs side by side: what is drawn. How they look was judged by eye."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.image import imread
from test_side_by_side import report, runs, unevaluated

from fcit_plugin.evaluation.side_by_side import MEASURES, compare, side_by_side
from fcit_plugin.evaluation.side_by_side_plots import plot_bars, plot_curves, plot_finals, plot_matrices, plot_traffic


def named(handles):
    return {handle.get_label(): handle for handle in handles if not handle.get_label().startswith("_")}


def test_curves_are_the_mean_with_a_band_over_seeds(tmp_path, figures):
    plot_curves(compare(runs())[0], tmp_path / "c.png")
    axes = figures[0].axes[0]
    lines = named(axes.lines)
    assert {name: line.get_ydata().tolist() for name, line in lines.items()} == {"fedavg": [90, 40], "disco": [90, 75]}
    (band,) = axes.collections  # fedavg has one run
    assert band.get_datalim(axes.transData).extents.tolist() == [0, 70, 1, 94]
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == ["fedavg", "disco"]


def test_matrices_are_the_mean_scores_of_each_data_set_after_each_stage_one_group_below_the_other(tmp_path, figures):
    comparison = compare(runs())[0]
    plot_matrices(comparison, tmp_path / "m.png")
    axes = figures[0].axes[0]
    shown = {(round(text.get_position()[1]), round(text.get_position()[0])): float(text.get_text()) for text in axes.texts}
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["fedavg, stage 0", "fedavg, stage 1", "", "disco, stage 0", "disco, stage 1"]
    for group in comparison.groups:
        for stage in range(2):
            row = names.index(f"{group.label}, stage {stage}")
            for column, name in enumerate(comparison.datasets):
                scores = [report.accuracy[stage][report.datasets.index(name)] for report in group.reports]
                expected = None if None in scores else sum(scores) / len(scores)
                assert shown.get((row, column)) == (expected if expected is None else pytest.approx(expected, abs=0.05))


def test_bars_are_the_final_scores_with_their_deviation(tmp_path, figures):
    plot_finals(compare(runs())[0], tmp_path / "f.png")
    axes = figures[0].axes[0]
    heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in axes.containers if hasattr(bars, "patches")}
    assert heights == {
        "zero-shot": [10, 20],
        "fedavg": [10, 70],
        "disco": [pytest.approx(200 / 3), pytest.approx(250 / 3)],
    }
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]
    edges = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches)
    assert all(left[1] < right[0] for left, right in pairwise(edges)), "bars overlap"


def test_many_groups_with_long_names_differ_and_stay_inside_the_picture(tmp_path, figures):
    many = {str(i): report(f"method_{i}", fcit_key_with_a_long_name="x" * 12 * i) for i in range(9)}
    comparison = compare(many)[0]
    for draw, name in ((plot_curves, "c.png"), (plot_finals, "f.png")):
        draw(comparison, tmp_path / name)
        image = imread(tmp_path / name)
        assert image[[0, -1]].min() == image[:, [0, -1]].min() == 1
    lines = figures[0].axes[0].lines
    looks = {(line.get_color(), line.get_marker(), str(line._unscaled_dash_pattern)) for line in lines}  # as it was asked for
    assert len(looks) == 9


def test_the_same_runs_give_the_same_file(tmp_path):
    for name in ("one.png", "two.png"):
        plot_curves(compare(runs())[0], tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_scores_above_100_are_not_cut_off(tmp_path, figures):
    plot_curves(compare({"x": report(a=(90, 70), b=170)})[0], tmp_path / "c.png")
    plot_finals(compare({"x": report(a=(90, 70), b=170)})[0], tmp_path / "f.png")
    assert figures[0].axes[0].get_ylim()[1] > 120
    assert figures[1].axes[0].get_ylim()[1] > 170


def test_without_evaluation_there_is_nothing_to_draw(tmp_path):
    blank = unevaluated(report())
    for draw in (plot_curves, plot_finals):
        with pytest.raises(ValueError, match="nothing to draw: no run was evaluated"):
            draw(compare({"x": blank})[0], tmp_path / "p.png")
    assert not np.any(list(tmp_path.iterdir()))


def bound():
    """A run that has all data at once."""
    return replace(report("centralized", seed=1), accuracy=[[95.0, 85.0]], last=90.0, bytes_up=0, bytes_down=0)


def beside_a_bound():
    found = runs()
    return side_by_side("custom", {"disco": [found["d1"], found["d2"]], "fedavg": [found["f1"]], "centralized": [bound()]})


def test_groups_that_are_known_keep_their_order_and_their_zero_shot():
    comparison = beside_a_bound()
    assert [(group.label, len(group.reports)) for group in comparison.groups] == [
        ("disco", 2),
        ("fedavg", 1),
        ("centralized", 1),
    ]
    assert comparison.zero_shot == {"zero-shot": {"fcit_a": 10.0, "fcit_b": 20.0}}
    untuned = replace(report("zero_shot"), reference="zero_shot")
    assert side_by_side("custom", {"disco": [report()], "zero_shot": [untuned]}).zero_shot == {}


def test_a_bound_of_one_stage_is_a_level_line(tmp_path, figures):
    plot_curves(beside_a_bound(), tmp_path / "c.png")
    axes = figures[0].axes[0]
    lines = named(axes.lines)
    level, (left, right) = lines["centralized"], axes.get_xlim()
    assert {*level.get_ydata()} == {90.0} and min(level.get_xdata()) < left and max(level.get_xdata()) > right
    assert lines["fedavg"].get_ydata().tolist() == [90, 40]


def test_two_bounds_of_one_stage_are_told_apart_by_their_markers(tmp_path, figures):
    runs = {
        name: [replace(report(name), reference=name, accuracy=[[90.0, 90.0]])] for name in ("centralized", "centralized_equal")
    }
    plot_curves(side_by_side("custom", {"disco": [report()], **runs}), tmp_path / "c.png")
    lines = named(figures[0].axes[0].lines)
    assert lines["centralized"].get_marker() != lines["centralized_equal"].get_marker()


def test_bars_of_measures_stand_over_their_groups(tmp_path, figures):
    measures = {"Last": MEASURES["Last"], "x": lambda report: 30.0 if report.method == "disco" else None}
    plot_bars(beside_a_bound(), measures, tmp_path / "b.png", "two measures")
    axes = figures[0].axes[0]
    heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in axes.containers if hasattr(bars, "patches")}
    assert heights == {"Last": [77.5, 40, 90], "x": [30]}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["disco", "fedavg", "centralized"]
    with pytest.raises(ValueError, match="no run has y"):
        plot_bars(beside_a_bound(), {"y": lambda report: None}, tmp_path / "none.png", "nothing")


def test_traffic_is_what_traveled_both_ways_and_bounds_send_nothing(tmp_path, figures):
    plot_traffic(beside_a_bound(), tmp_path / "t.png")
    axes = figures[0].axes[0]
    points = {bars.get_label(): bars.lines[0].get_xydata().tolist() for bars in axes.containers}
    assert points == {"disco": [[3.5, 77.5]], "fedavg": [[3.5, 40]]}
    with pytest.raises(ValueError, match="no run that sent anything"):
        plot_traffic(side_by_side("custom", {"centralized": [bound()]}), tmp_path / "none.png")
