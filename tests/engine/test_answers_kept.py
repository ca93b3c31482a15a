"""``predictions/``: what a run keeps of its answers, against its own scores and against being stopped."""

import json
import shutil
from statistics import fmean

import pytest
from crashes import die, in_a_child
from runs import run_recipe
from transformers import AutoTokenizer

from fcit_plugin.evaluation.page_answers import answers
from fcit_plugin.state.checkpoints import Checkpoints
from fcit_plugin.state.predictions import read_predictions


@pytest.fixture(scope="module")
def run(text_keys, tmp_path_factory):
    return run_recipe(text_keys | {"output_dir": str(tmp_path_factory.mktemp("answers") / "run"), "save_total_limit": 0})


def test_scores_of_the_report_are_those_of_the_answers(run, text_keys, text_data):
    report, found = json.loads((run / "fcit_report.json").read_text()), read_predictions(run)
    assert list(found) == [None, 0, 1]
    for stage, rows in found.items():
        for restricted in (False, True):
            scores: dict[str, list[float]] = {}
            for row in rows:
                if row["restricted"] is restricted:
                    scores.setdefault(row["dataset"], []).append(row["score"])
            if stage is None:
                expected = {} if restricted else report["zero_shot"]
            else:
                matrix = report["accuracy_restricted" if restricted else "accuracy"][stage]
                expected = {name: x for name, x in zip(report["datasets"], matrix, strict=True) if x is not None}
            assert {name: fmean(values) for name, values in scores.items()} == pytest.approx(expected)
    for row in found[1]:
        record = json.loads((text_data / f"{row['dataset']}_test.json").read_text())[row["record"]]
        assert row["label"] == record["answer"]
        assert record["text"].replace("<image>", "").strip() in row["prompt"]
        assert row["subspace"] == row["weights"].index(max(row["weights"]))
        assert sum(row["weights"]) == pytest.approx(1, abs=1e-4)
    assert all(row["subspace"] is None and row["weights"] == [] for row in found[None])


def test_prompts_are_those_of_llamafactory(run, text_model, text_keys):
    (row, *_) = read_predictions(run)[0]
    tokenizer = AutoTokenizer.from_pretrained(text_model)
    ids = tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=False) == row["prompt"]


def test_after_a_stop_the_answers_are_rewritten_and_those_of_later_stages_taken_away(run, text_keys, tmp_path):
    before = read_predictions(run)
    stopped = tmp_path / "stopped"
    shutil.copytree(run, stopped)
    for commit in Checkpoints(stopped).commits()[3:]:  # two rounds a stage: the second stage has begun
        shutil.rmtree(commit)
    (stopped / "fcit_report.json").unlink()
    shutil.copy(stopped / "predictions" / "stage-1.jsonl", stopped / "predictions" / "stage-7.jsonl")
    (stopped / "predictions" / "stage-1.jsonl").write_text("{ half a line")
    keys = text_keys | {"output_dir": str(stopped), "save_total_limit": 0}
    run_recipe(keys | {"resume_from_checkpoint": True, "overwrite_output_dir": True})
    assert read_predictions(stopped) == before

    elsewhere = tmp_path / "elsewhere"
    commit = Checkpoints(run).commits()[3]
    run_recipe(keys | {"output_dir": str(elsewhere), "resume_from_checkpoint": str(commit)})
    assert read_predictions(elsewhere) == before


def test_the_key_says_how_many_and_beginning_anew_leaves_none_of_the_old(run, text_keys, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    shutil.copytree(run / "predictions", few / "predictions")
    keys = text_keys | {"output_dir": str(few), "fcit_num_rounds": 1, "max_steps": 1, "overwrite_output_dir": True}
    run_recipe(keys | {"fcit_save_predictions": 2})
    found = read_predictions(few)
    assert {(row["dataset"], row["record"]) for row in found[1]} == {(n, i) for n in ("color", "letter") for i in (0, 1)}
    run_recipe(keys | {"fcit_save_predictions": 0})
    assert read_predictions(few) == {} and not (few / "predictions").exists()


@pytest.mark.parametrize("alone", [False, True], ids=["there", "where its commits alone were copied to"])
@pytest.mark.parametrize("number", [2, 4])  # the ends of the stages
def test_a_run_that_is_killed_between_answers_and_commit_ends_with_all_of_them(
    run, text_keys, tmp_path, monkeypatch, number, alone
):
    killed = tmp_path / "killed"
    keys = text_keys | {"output_dir": str(killed), "save_total_limit": 0}
    commit = Checkpoints.commit

    def dying(self, at, write):
        if at == number:
            die()
        commit(self, at, write)

    def work():
        Checkpoints.commit = dying  # in the child
        run_recipe(keys)

    assert in_a_child(work) is None
    assert list(read_predictions(killed)) == [None, *range(number // 2)], "the stage's answers were written"
    assert [path.name for path in Checkpoints(killed).commits()][-1] == f"round-000{number - 1}"
    if alone:
        elsewhere = tmp_path / "elsewhere"
        shutil.copytree(killed / "checkpoints", elsewhere / "checkpoints")
        keys["output_dir"] = str(elsewhere)
    goes_on = run_recipe(keys)
    found = read_predictions(goes_on)
    assert found == read_predictions(run)
    shown = {
        data.name: {tuple(reply.after for reply in record.replies) for record in data.records} for data in answers(found, 10**6)
    }
    assert shown == {"color": {("untuned", "stage 0", "stage 1")}, "letter": {("untuned", "stage 1")}}
