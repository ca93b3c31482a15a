"""What only a later record has, behind more than a batch of others without it, is read as it stands."""

import json
from types import SimpleNamespace

import pytest
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from llamafactory.hparams import DataArguments, get_train_args
from llamafactory.model import load_tokenizer
from PIL import Image

from fcit_plugin.data.catalogue import Catalogue
from fcit_plugin.data.pipeline import Pipeline
from fcit_plugin.data.reading import used_records
from fcit_plugin.data.telling_order import telling_order

FIRST, COUNT = 1002, 1007
MODEL_ARGS = SimpleNamespace(cache_dir=None, hf_hub_token=None)
TOOLS = json.dumps([{"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}])
#: What a column is for, how it is empty in the first records, and what a later one has.
LATE = {
    "images": (("images", None, ["red.png"]), ("images", [], ["red.png"]), ("images", None, "red.png")),
    "videos": (("videos", [], ["red.png"]),),
    "audios": (("audios", None, ["red.png"]),),
    "system": (("system", None, "Be brief."),),
    "tools": (("tools", None, TOOLS),),
    "history": (("history", None, [["q", "a"]]), ("history", [], [["q", "a"]])),
    "query": (("query", None, "more"),),
}
CASES = [(*case, workers) for cases in LATE.values() for case in cases for workers in (None, 2)]


def rows_of(column, empty, late, has):
    text = "<image>what is it" if column == "images" else "what is it"
    rows = [{"q": f"{number}", "a": f"a{number}", "x": empty} for number in range(COUNT)]
    for number in has:
        rows[number] |= {"q": f"{text} {number}", "x": late}
    return rows


def made_of(folder, rows, column, workers=None, file="mine.json"):
    if rows is not None:
        (folder / file).write_text(json.dumps(rows))
    Image.new("RGB", (8, 8), "red").save(folder / "red.png")
    entry = {"file_name": file, "columns": {"prompt": "q", "response": "a", column: "x"}}
    (folder / "dataset_info.json").write_text(json.dumps({"mine": entry}))
    data_args = DataArguments(dataset_dir=str(folder), media_dir=str(folder), preprocessing_num_workers=workers)
    training = SimpleNamespace(seed=1, local_process_index=0, dataloader_num_workers=0)
    return used_records(Catalogue(str(folder), media_dir=str(folder)), "mine", "sft", MODEL_ARGS, data_args, training).rows


@pytest.mark.parametrize(("column", "empty", "late", "workers"), CASES)
def test_each_column_may_be_empty_in_all_but_late_records(column, empty, late, workers, tmp_path):
    rows = made_of(tmp_path, rows_of(column, empty, late, (FIRST, COUNT - 1)), column, workers)
    assert [response[0]["content"] for response in rows["_response"]] == [f"a{number}" for number in range(COUNT)]
    found = [json.dumps(rows[number], default=str) for number in range(COUNT)]
    plain = made_of(tmp_path, rows_of(column, empty, late, range(COUNT)), column, file="all.json")
    assert [found[number] for number in (FIRST, COUNT - 1)] == [
        json.dumps(plain[number], default=str) for number in (FIRST, COUNT - 1)
    ]
    assert len(set(rows.column_names)) == 7


@pytest.mark.parametrize("embedded", [False, True])
def test_records_are_tokenized_in_their_order(embedded, llava_recipe, tmp_path):
    rows = rows_of("images", None, ["red.png"], (FIRST,))
    for number, row in enumerate(rows):
        row["q"] += " color" * (number % 9)
    if embedded:
        image = {"bytes": _png(tmp_path), "path": None}
        features = Features({"q": Value("string"), "a": Value("string"), "x": List(ImageFeature())})
        given = [row | {"x": [image] if row["x"] else None} for row in rows]
        Dataset.from_list(given, features=features).to_parquet(tmp_path / "mine.parquet")
    made_of(tmp_path, None if embedded else rows, "images", file="mine.parquet" if embedded else "mine.json")
    keys = {"dataset_dir": str(tmp_path), "media_dir": str(tmp_path), "fcit_stages": ["mine"]}
    model_args, data_args, training_args, *_ = get_train_args(llava_recipe(**keys))
    catalogue = Catalogue(str(tmp_path), media_dir=str(tmp_path))
    split = Pipeline(model_args, data_args, training_args, load_tokenizer(model_args), catalogue).train("mine")
    assert [len(images) for images in split.images] == [int(number == FIRST) for number in range(COUNT)]
    assert [bool(images) for images in split.features["images"]] == [number == FIRST for number in range(COUNT)]
    assert [turns[0] for turns in split.instructions][:FIRST] == [row["q"] for row in rows[:FIRST]]
    lengths = [len(ids) for ids in split.features["input_ids"]]
    assert [length - lengths[0] for length in lengths[:FIRST]] == [number % 9 for number in range(FIRST)]


def _png(folder):
    Image.new("RGB", (8, 8), "red").save(folder / "one.png")
    return (folder / "one.png").read_bytes()


def test_records_that_tell_at_once_keep_their_order():
    some = Dataset.from_dict({"a": ["x"] * COUNT, "b": [None] * COUNT, "c": [[1]] + [[]] * (COUNT - 1)})
    assert telling_order(some) is None
    late = some.add_column("d", [[]] * (COUNT - 1) + [[1]])
    assert telling_order(late).tolist() == [COUNT - 1, *range(COUNT - 1)]
    assert telling_order(late, ["a", "b"]) is None
