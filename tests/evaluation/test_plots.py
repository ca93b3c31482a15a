"""The pictures: what is drawn, and that nothing global is touched. How they look was judged by eye."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread

from fcit_plugin.evaluation.matrix import AccuracyMatrix
from fcit_plugin.evaluation.plots import plot_accuracy_matrix, plot_partition, plot_subspaces, plot_training_loss

LOG = [{"step": 10 * t + i, "stage": t, "loss": 2.0 - i / 10} for t in range(3) for i in range(10)]


def matrix():
    made = AccuracyMatrix()
    made.add(0, {"fcit_a": 12.34})
    made.add(1, {"fcit_a": 0.0, "fcit_b": 100.0})
    return made


def assignments():
    triples = [("x", 0), ("x", 0), ("y", 2), ("x", 2)]
    return [{"stage": 0, "round": i, "client": i, "subspace": k, "task": task} for i, (task, k) in enumerate(triples)]


def partition(num_clients=3):
    return [
        {"task": "a", "dataset": "fcit_a", "records": [10, 0, 1234][:num_clients] + [1] * (num_clients - 3)},
        {"task": "b+c", "dataset": "b", "records": [5] * num_clients},
        {"task": "b+c", "dataset": "c", "records": [0] * num_clients},
    ]


def cells(figure):
    return {tuple(text.get_position()): text.get_text() for text in figure.axes[0].texts}


def test_matrix_has_a_number_in_each_evaluated_cell_only(tmp_path, figures):
    plot_accuracy_matrix(matrix(), tmp_path / "m.png", "Title")
    assert cells(figures[0]) == {(0, 0): "12.3", (0, 1): "0.0", (1, 1): "100.0"}
    assert [label.get_text() for label in figures[0].axes[0].get_xticklabels()] == ["a", "b"]
    assert [label.get_text() for label in figures[0].axes[0].get_yticklabels()] == ["stage 0", "stage 1"]
    assert figures[0].get_suptitle() == "Title"


def test_subspaces_counts_assignments(tmp_path, figures):
    plot_subspaces(assignments(), tmp_path / "s.png")
    assert cells(figures[0]) == {(0, 0): "2", (2, 0): "1", (2, 1): "1"}
    assert [label.get_text() for label in figures[0].axes[0].get_yticklabels()] == ["x", "y"]
    assert [label.get_text() for label in figures[0].axes[0].get_xticklabels()] == ["0", "1", "2"]


def test_partition_has_a_number_for_each_client_that_has_records(tmp_path, figures):
    plot_partition(partition(), tmp_path / "p.png")
    assert cells(figures[0]) == {(0, 0): "10", (0, 2): "1234", (1, 0): "5", (1, 1): "5", (1, 2): "5"}
    assert [label.get_text() for label in figures[0].axes[0].get_xticklabels()] == ["a", "b+c: b", "b+c: c"]
    assert [label.get_text() for label in figures[0].axes[0].get_yticklabels()] == ["0", "1", "2"]


def test_clients_that_joined_later_have_nothing_of_earlier_tasks(tmp_path, figures):
    rows = [{"task": "a", "dataset": "a", "records": [5, 7]}, {"task": "b", "dataset": "b", "records": [1, 2, 3]}]
    plot_partition(rows, tmp_path / "p.png")
    assert set(cells(figures[0]).values()) == {"5", "7", "1", "2", "3"}


def test_the_partition_of_very_many_clients_is_colors_in_a_picture_of_bounded_size(tmp_path, figures):
    plot_partition(partition(5000), tmp_path / "p.png")
    assert cells(figures[0]) == {}
    assert len(figures[0].axes[0].get_yticks()) < 25
    assert imread(tmp_path / "p.png").shape[0] < 3000


def test_loss_marks_the_stages_and_smooths_within_them(tmp_path, figures):
    plot_training_loss(LOG[::-1], tmp_path / "l.png")
    axes = figures[0].axes[0]
    assert [text.get_text() for text in axes.texts] == ["stage 0", "stage 1", "stage 2"]
    assert [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2] == [0, 10, 20]
    smooth = [line for line in axes.lines if line.get_label() == "running mean"]
    assert [line.get_xdata().tolist() for line in smooth] == [list(range(a, a + 10)) for a in (0, 10, 20)]
    assert smooth[1].get_ydata()[4] == pytest.approx(1.6)
    assert smooth[1].get_ydata()[0] == pytest.approx((2.0 + 1.9) / 2)


def test_loss_that_is_not_finite_leaves_a_gap(tmp_path, figures):
    log = [{"step": i, "stage": 0, "loss": float("nan") if i in (4, 5, 6) else 1.0} for i in range(10)]
    plot_training_loss(log, tmp_path / "l.png")
    smooth = next(line for line in figures[0].axes[0].lines if line.get_label() == "running mean")
    assert np.flatnonzero(np.isnan(smooth.get_ydata())).tolist() == [5]
    assert np.nanmax(np.abs(smooth.get_ydata() - 1)) == 0


@pytest.mark.parametrize("log", [[], LOG[:1], LOG[:2], [{"step": 0, "stage": 0, "loss": float("nan")}]])
def test_even_a_short_log_gives_a_picture(tmp_path, log):
    plot_training_loss(log, tmp_path / "l.png")
    assert imread(tmp_path / "l.png").std() > 0


def test_an_empty_table_is_refused(tmp_path):
    for draw, empty in ((plot_accuracy_matrix, AccuracyMatrix()), (plot_subspaces, []), (plot_partition, [])):
        with pytest.raises(ValueError, match="nothing to draw"):
            draw(empty, tmp_path / "p.png")


def test_global_state_is_left_alone_and_the_same_input_gives_the_same_file(tmp_path):
    before, backend = mpl.rcParams.copy(), mpl.rcParams._get("backend")
    for name in ("one.png", "two.png"):
        plot_accuracy_matrix(matrix(), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert mpl.rcParams.copy() == before
    assert mpl.rcParams._get("backend") is backend
    assert mpl._pylab_helpers.Gcf.get_all_fig_managers() == []


def test_nothing_drawn_reaches_the_edge_of_the_picture(tmp_path):
    wide = AccuracyMatrix()
    wide.add(0, {f"fcit_data_set_with_a_long_name_{i}": 10.0 * i for i in range(9)})
    plot_accuracy_matrix(wide, tmp_path / "m.png", "A title")
    plot_accuracy_matrix(matrix(), tmp_path / "n.png", "A title that is much longer than two columns are wide")
    plot_training_loss(LOG, tmp_path / "l.png")
    for name in ("m.png", "n.png", "l.png"):
        image = imread(tmp_path / name)
        assert image[[0, -1]].min() == image[:, [0, -1]].min() == 1
