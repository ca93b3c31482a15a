"""The accuracy matrix against numbers worked by hand."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcit_plugin.evaluation.matrix import AccuracyMatrix


def homogeneous():
    """a: 90 70 60, b: - 80 85, c: - - 50."""
    matrix = AccuracyMatrix()
    matrix.add(0, {"a": 90})
    matrix.add(1, {"a": 70, "b": 80})
    matrix.add(2, {"a": 60, "b": 85, "c": 50})
    return matrix


def heterogeneous():
    """First b and c are seen, a from stage 1, d in the last; a: - 40 50 30, b: 20 60 40 50, c: 80 70 75 80, d: - - - 10."""
    matrix = AccuracyMatrix(["a", "b", "c", "d"])
    matrix.add(0, {"b": 20, "c": 80})
    matrix.add(1, {"c": 70, "a": 40, "b": 60})
    matrix.add(2, {"a": 50, "b": 40, "c": 75})
    matrix.add(3, {"a": 30, "b": 50, "c": 80, "d": 10})
    return matrix


def test_rows_are_none_before_a_data_set_is_seen():
    assert homogeneous().rows == [[90, None, None], [70, 80, None], [60, 85, 50]]
    assert heterogeneous().rows[0] == [None, 20, 80, None]


def test_homogeneous_by_hand():
    matrix = homogeneous()
    assert matrix.last == pytest.approx((60 + 85 + 50) / 3)
    assert matrix.avg == pytest.approx((90 + 75 + 65) / 3)
    assert matrix.forgetting == pytest.approx((30 + 0) / 2)
    assert matrix.bwt == pytest.approx((-30 + 5) / 2)
    assert matrix.fwt({"a": 10, "b": 20, "c": 60}) == pytest.approx((80 + 60 - 10) / 3)


def test_heterogeneous_by_hand():
    matrix = heterogeneous()
    assert matrix.last == pytest.approx(42.5)
    assert matrix.avg == pytest.approx((50 + 170 / 3 + 55 + 42.5) / 4)
    assert matrix.forgetting == pytest.approx((20 + 10 + 0) / 3)
    assert matrix.bwt == pytest.approx((-10 + 30 + 0) / 3)
    assert matrix.fwt({"b": 5, "d": 20, "elsewhere": 1}) == pytest.approx((15 - 10) / 2)


def test_one_stage_forgets_nothing():
    matrix = AccuracyMatrix()
    matrix.add(0, {"a": 40, "b": 60})
    assert (matrix.last, matrix.avg, matrix.forgetting, matrix.bwt) == (50, 50, 0, 0)


def test_a_data_set_new_in_the_last_stage_does_not_dilute_forgetting():
    matrix = AccuracyMatrix()
    matrix.add(0, {"a": 90})
    matrix.add(1, {"a": 50, "b": 80, "c": 80, "d": 80})
    assert (matrix.forgetting, matrix.bwt) == (40, -40)


def test_a_stage_left_out_is_an_empty_row_that_counts_nowhere():
    matrix = AccuracyMatrix()
    matrix.add(0, {"a": 80})
    matrix.add(2, {"a": 40})
    assert matrix.rows == [[80], [None], [40]]
    assert (matrix.last, matrix.avg, matrix.forgetting) == (40, 60, 40)


def test_a_task_that_comes_back_is_measured_from_its_first_stage_and_its_best():
    matrix = AccuracyMatrix()
    matrix.add(0, {"a": 60})
    matrix.add(1, {"a": 20, "b": 70})
    matrix.add(2, {"a": 90, "b": 50})  # a is trained once more
    matrix.add(3, {"a": 80, "b": 40, "c": 30})
    assert matrix.forgetting == pytest.approx(((90 - 80) + (70 - 40)) / 2)
    assert matrix.bwt == pytest.approx(((80 - 60) + (40 - 70)) / 2)
    assert matrix.avg == pytest.approx((60 + 45 + 70 + 50) / 4)
    assert matrix.fwt({"a": 0, "b": 10, "c": 20}) == pytest.approx((60 + 60 + 10) / 3)


def test_stages_that_were_not_evaluated_move_the_first_score_to_a_later_stage():
    matrix = AccuracyMatrix()
    matrix.add(1, {"a": 50, "b": 70})  # stages 0 and 2 were not evaluated
    matrix.add(3, {"a": 40, "b": 75, "c": 10})
    assert matrix.rows == [[None] * 3, [50, 70, None], [None] * 3, [40, 75, 10]]
    assert matrix.last == pytest.approx(125 / 3)
    assert matrix.avg == pytest.approx((60 + 125 / 3) / 2)
    assert (matrix.forgetting, matrix.bwt) == ((10 + 0) / 2, (-10 + 5) / 2)
    assert matrix.fwt({"a": 20, "b": 20, "c": 20}) == pytest.approx((30 + 50 - 10) / 3)


def test_a_data_set_that_was_not_evaluated_after_the_last_stage_counts_in_avg_and_fwt_alone():
    matrix = AccuracyMatrix()
    matrix.add(0, {"a": 80, "b": 40})
    matrix.add(1, {"b": 30})
    assert (matrix.last, matrix.avg, matrix.forgetting, matrix.bwt) == (30, (60 + 30) / 2, 10, -10)
    assert matrix.fwt({"a": 10, "b": 20}) == (70 + 20) / 2


@given(
    st.integers(1, 5).flatmap(
        lambda width: st.lists(
            st.lists(st.none() | st.integers(0, 100), min_size=width, max_size=width), min_size=1, max_size=6
        )
    ),
    st.integers(0, 100),
)
def test_the_summaries_equal_their_formulas(rows, untuned):
    names = [f"d{i}" for i in range(len(rows[0]))]
    matrix = AccuracyMatrix.from_list(names, rows)
    a = np.array(rows, dtype=float)
    if np.isnan(a[-1]).all():
        return
    first = [next((t for t in range(len(a)) if not np.isnan(a[t, i])), None) for i in range(len(names))]
    old = [i for i in range(len(names)) if not np.isnan(a[-1, i]) and not np.isnan(a[:-1, i]).all()]
    seen = [row[~np.isnan(row)].mean() for row in a if not np.isnan(row).all()]
    assert matrix.last == pytest.approx(np.nanmean(a[-1]))
    assert matrix.avg == pytest.approx(sum(seen) / len(seen))
    assert matrix.forgetting == pytest.approx(np.mean([np.nanmax(a[:, i]) - a[-1, i] for i in old] or 0))
    assert matrix.bwt == pytest.approx(np.mean([a[-1, i] - a[first[i], i] for i in old] or 0))
    gains = [a[first[i], i] - untuned for i in range(len(names)) if first[i] is not None]
    assert matrix.fwt(dict.fromkeys(names, untuned)) == pytest.approx(np.mean(gains))
    assert matrix.forgetting >= 0 and matrix.forgetting >= -matrix.bwt - 1e-9


@pytest.mark.parametrize("summary", ["last", "avg", "forgetting", "bwt"])
def test_nothing_can_be_said_of_nothing(summary):
    empty, open_end = AccuracyMatrix(["a"]), homogeneous()
    open_end.add(3, {})
    for matrix in (empty, open_end):
        with pytest.raises(ValueError, match="no scores after the last stage"):
            getattr(matrix, summary)
    with pytest.raises(ValueError, match="No dataset has both"):
        homogeneous().fwt({"z": 1})


@pytest.mark.parametrize(
    ("stage", "scores", "words"),
    [
        (2, {"a": 1}, "already has 3 stages"),
        (-1, {}, "Stage -1"),
        (3, {"a": float("nan")}, "score of a after stage 3"),
    ],
)
def test_add_refuses(stage, scores, words):
    matrix = homogeneous()
    with pytest.raises(ValueError, match=words):
        matrix.add(stage, scores)
    assert matrix.rows == homogeneous().rows


def test_list_and_back():
    for matrix in (homogeneous(), heterogeneous()):
        again = AccuracyMatrix.from_list(matrix.datasets, matrix.to_list())
        assert (again.datasets, again.rows) == (matrix.datasets, matrix.rows)
        assert (again.avg, again.bwt) == (matrix.avg, matrix.bwt)
    with pytest.raises(ValueError, match="After stage 0 there are 2 scores, but 1 datasets"):
        AccuracyMatrix.from_list(["a"], [[1, 2]])


def test_csv(tmp_path):
    heterogeneous().to_csv(tmp_path / "matrix.csv")
    rows = list(csv.reader((tmp_path / "matrix.csv").open(newline="")))
    assert rows[0] == ["stage", "a", "b", "c", "d"]
    assert rows[1] == ["0", "", "20.0", "80.0", ""]
    assert [row[0] for row in rows[1:]] == ["0", "1", "2", "3"]
