"""What test records are scored against: their answer, their box, or the captions of their image."""

import json

import pytest
import tiny
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer

from fcit_plugin.data.catalogue import Catalogue
from fcit_plugin.data.pipeline import Pipeline
from fcit_plugin.evaluation.metrics import score

GROUNDING = "instructions/Grounding/test_6000.json"
FLICKR = "instructions/Flickr30k-cap/val_brief.json"
CAPTIONS = "instructions/Flickr30k-cap/val_coco_type.json"


def read(path):
    return json.loads(path.read_text())


@pytest.fixture
def load_test(llava_model, image_data, tmp_path):
    """Reads the test records of a dataset with the tiny LLaVA's processor."""

    def load(root, name, **changes):
        keys = tiny.recipe(llava_model, image_data, tmp_path / "out", stage="sft", dataset="color", **changes)
        keys = {key: value for key, value in keys.items() if not key.startswith("fcit_")}
        model_args, data_args, training_args, *_ = get_train_args(keys)
        catalogue = Catalogue(data_args.dataset_dir, str(root), data_args.media_dir)
        return Pipeline(model_args, data_args, training_args, load_tokenizer(model_args), catalogue).test(name)

    return load


@pytest.fixture
def copy(small_mini, tmp_path):
    """A root with the test files of the captions and boxes, to be changed, and the images."""
    for file in (GROUNDING, FLICKR, CAPTIONS):
        (tmp_path / "root" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / file).write_text((small_mini / file).read_text())
    (tmp_path / "root" / "datasets").symlink_to(small_mini / "datasets")
    return tmp_path / "root"


def test_captions_are_those_of_the_records_image_in_whatever_order_the_file_has(copy, load_test):
    coco, rows = read(copy / CAPTIONS), read(copy / FLICKR)
    expected = [[n["caption"] for n in coco["annotations"] if n["image_id"] == row["question_id"]] for row in rows]
    # the released file counts images from 1, questions are named otherwise here, and nothing is in order
    for image in coco["images"]:
        image["id"] += 1
    for note in coco["annotations"]:
        note["image_id"] += 1
    coco["images"].reverse()
    (copy / CAPTIONS).write_text(json.dumps(coco))
    (copy / FLICKR).write_text(json.dumps([row | {"question_id": f"q{len(rows) - i}"} for i, row in enumerate(rows)]))
    split = load_test(copy, "fcit_flickr30k")
    assert split.answers == expected and all(len(captions) == 5 for captions in expected)
    assert score("rouge_l", [captions[-1] for captions in expected], split.answers) == 100


def test_boxes_are_four_numbers_even_where_the_file_has_texts(copy, load_test):
    rows = read(copy / GROUNDING)
    assert load_test(copy, "fcit_grounding").answers == [row["answer_bbox"] for row in rows]
    texts = [row | {"answer_bbox": str(row["answer_bbox"]), "answer": "see box"} for row in rows]
    (copy / GROUNDING).write_text(json.dumps(texts))
    split = load_test(copy, "fcit_grounding")
    assert split.answers == [row["answer_bbox"] for row in rows]
    assert split.head(2).answers == split.answers[:2] and len(split.head(2)) == 2
    assert score("iou", [row["answer"] for row in rows], split.answers) == 100


def test_without_an_answer_the_reference_serves(copy, load_test):
    rows = [{k: v for k, v in row.items() if k != "answer"} for row in read(copy / GROUNDING)]
    (copy / GROUNDING).write_text(json.dumps(rows))
    assert load_test(copy, "fcit_grounding").answers == [row["answer_bbox"] for row in rows]


@pytest.mark.parametrize("max_samples", [None, 2])
def test_a_record_without_reference_is_refused_by_file_and_index(copy, load_test, max_samples):
    coco, rows = read(copy / CAPTIONS), read(copy / FLICKR)
    coco["annotations"] = [n for n in coco["annotations"] if n["image_id"] != rows[1]["question_id"]]
    (copy / CAPTIONS).write_text(json.dumps(coco))
    with pytest.raises(ValueError, match=f"`fcit_flickr30k_test` cannot be scored: {FLICKR}, record 1: {CAPTIONS} has no"):
        load_test(copy, "fcit_flickr30k", max_samples=max_samples)


def test_a_bad_box_is_refused_by_file_and_index(copy, load_test):
    rows = read(copy / GROUNDING)
    rows[2]["answer_bbox"] = [0.5, 0.5, 0.6, 1.6]
    (copy / GROUNDING).write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=f"{GROUNDING}, record 2: .*not within 0 and 1"):
        load_test(copy, "fcit_grounding")


def test_a_caption_file_that_is_not_there_is_named(copy, load_test):
    (copy / CAPTIONS).unlink()
    with pytest.raises(ValueError, match=f"{CAPTIONS}: the file is not there; .*data download"):
        load_test(copy, "fcit_flickr30k")


def test_a_data_set_of_ones_own_may_have_references_too(image_data, tmp_path, load_test):
    folder = tmp_path / "own"
    folder.mkdir()
    rows = [{"image": "red.png", "text": "say something", "answer": "x"}, {"image": "blue.png", "text": "say it"}]
    (folder / "own.json").write_text(json.dumps(rows))
    coco = {
        "images": [{"id": 1, "file_name": "blue.png"}, {"id": 2, "file_name": "red.png"}],
        "annotations": [{"image_id": i, "caption": text} for i, text in ((2, "a red one"), (1, "a blue one"), (2, "red"))],
    }
    (folder / "captions.json").write_text(json.dumps(coco))
    entry = {
        "file_name": "own.json",
        "formatting": "fcit",
        "columns": {"prompt": "text", "response": "answer", "images": "image"},
    }

    def write(**more):
        (folder / "dataset_info.json").write_text(json.dumps({"own_test": entry | more}))

    keys = {"dataset_dir": str(folder), "media_dir": str(image_data / "datasets")}
    write(fcit_references="captions.json")
    assert load_test("unused", "own", **keys).answers == [["a red one", "red"], ["a blue one"]]
    write()
    with pytest.raises(ValueError, match=r"Dataset `own_test`: own\.json, record 1: it has no answer"):
        load_test("unused", "own", **keys)
