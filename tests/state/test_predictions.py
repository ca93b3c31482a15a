"""Answers on disk: bounded, written once, read back as they were."""

import json

import pytest

from fcit_plugin.errors import FcitError
from fcit_plugin.evaluation.rows import Prediction
from fcit_plugin.state import predictions
from fcit_plugin.state.predictions import (
    clear_predictions,
    commit_predictions,
    forget_predictions,
    read_predictions,
    restore_predictions,
    take_predictions,
    write_predictions,
)


def prediction(**changes) -> Prediction:
    row = Prediction(
        prompt="name red",
        predict="red",
        label="red",
        dataset="color",
        record=0,
        restricted=False,
        subspace=0,
        weights=[1.0],
        score=100.0,
    )
    return {**row, **changes}


@pytest.mark.parametrize("text", ["two\nlines\r\n", "\u2028 \x85 \x00 \x1b[31m", "</script>", "\U0001f600", "\ud800 half", ""])
def test_any_answer_comes_back_in_its_line(tmp_path, text):
    rows = [prediction(predict=text), prediction(record=1)]
    assert write_predictions(tmp_path, 0, rows) == 0
    (found,) = read_predictions(tmp_path).values()
    assert [row["predict"] for row in found] == [text.encode(errors="replace").decode(), "red"]
    lines = (tmp_path / "predictions" / "stage-0.jsonl").read_bytes().split(b"\n")
    assert [set(json.loads(line)) for line in lines[:2]] == [set(Prediction.__annotations__)] * 2


def test_files_stay_below_their_bound_and_every_dataset_has_its_share(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "MOST_BYTES", 20_000)
    rows = [
        prediction(dataset=name, record=i, predict="x" * size) for name, size in (("a", 9_000), ("b", 10)) for i in range(5)
    ]
    rows.insert(0, prediction(dataset="b", record=9, predict="x" * 1_000_001))
    left_out = write_predictions(tmp_path, 3, rows)
    found = read_predictions(tmp_path)[3]
    assert [(row["dataset"], row["record"]) for row in found] == [("a", 0), *(("b", i) for i in range(5))]
    assert left_out == 5
    assert (tmp_path / "predictions" / "stage-3.jsonl").stat().st_size <= 20_000


def test_a_file_that_is_too_large_is_refused_by_name(tmp_path):
    write_predictions(tmp_path, 0, [prediction()])
    with (tmp_path / "predictions" / "stage-0.jsonl").open("ab") as file:
        file.truncate(predictions.MOST_BYTES + 1)
    with pytest.raises(FcitError, match=r"stage-0\.jsonl has 16,777,217 bytes"):
        read_predictions(tmp_path)


def test_stages_are_read_in_order_forgotten_and_taken_over(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for stage in (10, 2, None, 0):
        write_predictions(one, stage, [prediction(record=stage or 0)])
    (one / "predictions" / "notes.txt").write_text("not ours")
    assert list(read_predictions(one)) == [None, 0, 2, 10]
    write_predictions(other, 0, [prediction(predict="its own")])
    take_predictions(other, one, 10)
    assert list(read_predictions(other)) == [None, 0, 2]
    assert read_predictions(other)[0][0]["predict"] == "its own"
    forget_predictions(one, 2)
    assert list(read_predictions(one)) == [None, 0]
    clear_predictions(one)
    assert read_predictions(one) == {} == read_predictions(tmp_path / "nowhere")


def test_a_commit_holds_what_was_answered_before_its_stage_and_gives_it_back(tmp_path):
    run, commit = tmp_path / "run", tmp_path / "run" / "checkpoints" / "round-0004"
    for stage in (None, 0, 1, 2):
        write_predictions(run, stage, [prediction(record=stage or 0)])
    commit_predictions(run, commit, 2)
    kept = read_predictions(commit)
    assert list(kept) == [None, 0, 1]
    write_predictions(run, 1, [prediction(predict="changed")])
    assert read_predictions(commit) == kept, "a file of the run's is none of the commit's"
    for folder in (run, tmp_path / "elsewhere"):
        restore_predictions(folder, commit, 2)
        assert read_predictions(folder) == kept


def test_a_commit_without_answers_is_one_of_a_run_that_keeps_them_beside_it(tmp_path):
    commit = tmp_path / "run" / "checkpoints" / "round-0004"
    commit.mkdir(parents=True)
    for stage in (None, 0, 1, 2):
        write_predictions(tmp_path / "run", stage, [prediction(record=stage or 0)])
    restore_predictions(tmp_path / "elsewhere", commit, 2)
    restore_predictions(tmp_path / "run", commit, 2)
    assert list(read_predictions(tmp_path / "run")) == list(read_predictions(tmp_path / "elsewhere")) == [None, 0, 1]


@pytest.mark.parametrize("stages", [1, 15, 16, 200])
def test_all_files_of_a_run_together_stay_below_a_bound_however_many_stages_it_has(stages, tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "MOST_BYTES", 2**14)
    monkeypatch.setattr(predictions, "MOST_OF_RUN", 2**18)
    rows = [prediction(dataset=name, record=i) for name in "ab" for i in range(60)]
    for stage in (None, *range(stages)):
        write_predictions(tmp_path, stage, rows, stages)
    commit_predictions(tmp_path, tmp_path / "commit", stages)
    files = [*(tmp_path / "commit" / "predictions").iterdir()]
    sizes = [path.stat().st_size for path in files]
    assert len(files) == stages + 1 and sum(sizes) <= 2**18
    assert (min(sizes) > 0.95 * 2**14) == (stages < 16), "few stages lose nothing"
    assert {row["dataset"] for row in read_predictions(tmp_path)[0]} == {"a", "b"}
