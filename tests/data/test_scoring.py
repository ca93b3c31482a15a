"""By which metrics a dataset is scored, and what is refused before anything is loaded or trained."""

import json
import shutil
from pathlib import Path

import pytest
from runs import report_of, run_recipe

from fcit_plugin.data.catalogue import Catalogue
from fcit_plugin.data.scoring import Scoring
from fcit_plugin.evaluation.captions import COCO_PARTS


def entries(train=(), test=()):
    """A ``dataset_info.json`` of one dataset ``a``."""
    return {"a": {"file_name": "a.json", **dict(train)}, "a_test": {"file_name": "b.json", **dict(test)}}


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        ({}, {}, Scoring("exact_match", ())),
        ({"fcit_metric": "anls"}, {}, Scoring("anls", ())),
        ({"fcit_metric": "anls"}, {"fcit_metric": "vqa"}, Scoring("vqa", ())),
        ({}, {"fcit_metric": "iou", "fcit_also": ["exact_match", "substring"]}, Scoring("iou", ("exact_match", "substring"))),
        ({}, {"fcit_metric": "caption"}, Scoring("rouge_l", ())),
        ({}, {"fcit_metric": "coco_cider"}, Scoring("coco_cider", ())),
    ],
)
def test_the_entries_name_the_metrics_and_that_of_the_test_records_goes_first(train, test, expected):
    assert Catalogue(entries(train, test)).metrics("a") == expected


def test_caption_is_what_the_recipe_says_and_the_parts_of_coco_stand_beside_it():
    info = entries(test={"fcit_metric": "caption", "fcit_also": ["rouge_l"]})
    assert Catalogue(info, caption_metric="anls").metrics("a") == Scoring("anls", ("rouge_l",))
    parts = tuple(f"coco_{part}" for part in COCO_PARTS)
    assert Catalogue(info, caption_metric="coco").metrics("a") == Scoring("coco", ("rouge_l", *parts))
    assert Catalogue({}, caption_metric="coco").metrics("fcit_flickr30k") == Scoring("coco", parts)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ({"fcit_metric": "exactmatch"}, "dataset `a`: The metric 'exactmatch' is unknown; did you mean 'exact_match'"),
        ({"fcit_also": ["sub_string"]}, "dataset `a`: The metric 'sub_string' is unknown; did you mean 'substring'"),
        (
            {"fcit_also": "substring"},
            "dataset a_test in dataset_info.json is not of its form, at `fcit_also`",
        ),
    ],
)
def test_unknown_metrics_are_refused(test, message):
    with pytest.raises(ValueError, match=message):
        Catalogue(entries(test=test)).check_metrics(["a"])


@pytest.fixture
def scored_by(text_data, tmp_path):
    """Makes a copy of the tiny tasks whose entry ``letter_test`` has further keys."""

    def make(**keys):
        folder = shutil.copytree(text_data, tmp_path / "data")
        info = json.loads((folder / "dataset_info.json").read_text())
        info["letter_test"] |= keys
        (folder / "dataset_info.json").write_text(json.dumps(info))
        return folder

    return make


def test_an_unknown_metric_ends_a_run_before_the_model_is_loaded(text_recipe, scored_by):
    keys = text_recipe(dataset_dir=str(scored_by(fcit_metric="bleu")), model_name_or_path="/no/such/model")
    with pytest.raises(ValueError, match="dataset `letter`: The metric 'bleu' is unknown"):
        run_recipe(keys)


def test_answers_that_a_metric_cannot_read_end_a_run_before_the_training(text_recipe, scored_by):
    keys = text_recipe(dataset_dir=str(scored_by(fcit_also=["iou"])), fcit_zero_shot=False)
    with pytest.raises(ValueError, match=r"The dataset letter cannot be scored by iou: .* is not a box of four numbers"):
        run_recipe(keys)
    assert not list(Path(keys["output_dir"]).rglob("*.safetensors"))


def test_several_peoples_answers_come_from_a_column(text_recipe, scored_by):
    folder = scored_by(fcit_metric="vqa", fcit_also=["exact_match"], fcit_references="answers")
    rows = json.loads((folder / "letter_test.json").read_text())
    people = [[row["answer"]] * 2 + ["other"] * 8 for row in rows]
    rows = [{**row, "answers": answers} for row, answers in zip(rows, people, strict=True)]
    (folder / "letter_test.json").write_text(json.dumps(rows))
    keys = text_recipe(dataset_dir=str(folder), fcit_stages=[["letter"]], fcit_eval_restricted=False, num_train_epochs=6.0)
    report = report_of(run_recipe(keys))
    # of ten people two agree with an answer: (2 x 1/3 + 8 x 2/3) / 10
    right = report["scores_other"][0]["letter"]["exact_match"]
    assert right > 0
    assert report["accuracy"] == [[pytest.approx(0.6 * right)]]


def test_coco_scores_without_java_end_a_run_before_the_training(text_recipe, scored_by, monkeypatch, tmp_path):
    pytest.importorskip("pycocoevalcap")
    keys = text_recipe(dataset_dir=str(scored_by(fcit_metric="caption")), fcit_caption_metric="coco")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"The dataset letter cannot be scored by coco: .* no `java` on the PATH"):
        run_recipe(keys)
