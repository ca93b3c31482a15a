"""What a sentence about data points at is what is to be mended: the record, the file, the entry."""

import csv
import json
import os
from types import SimpleNamespace

import datasets
import pytest
from llamafactory.hparams import DataArguments

from fcit_plugin.data.catalogue import Catalogue
from fcit_plugin.data.named import ForTest
from fcit_plugin.data.raw_files import TrainFiles
from fcit_plugin.data.reading import refuse_empty, used_records
from fcit_plugin.data.slices import numbers_of, overlaps
from fcit_plugin.errors import FcitError
from fcit_plugin.scenario.task_records import clients_named

COUNT, BAD = 12, 8


def turns(answer="a"):
    return {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": answer}]}


def read(folder, use="sft", held_out=0.0, files=None, **entry):
    """What is said of a dataset by a run and by what reads its files alone."""
    for name, rows in (files or {}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(rows))
    info = {"file_name": "mine.json", "formatting": "sharegpt", **entry}
    (folder / "dataset_info.json").write_text(json.dumps({"mine": info}))
    catalogue, data_args = Catalogue(str(folder), held_out=held_out), DataArguments(dataset_dir=str(folder))
    parts = SimpleNamespace(cache_dir=None, hf_hub_token=None), data_args
    training = SimpleNamespace(seed=1, local_process_index=0, dataloader_num_workers=0)
    name = ForTest("mine") if use == "test" and held_out else "mine"
    found = []
    for look in (
        lambda: list(used_records(catalogue, name, use, *parts, training).kept),
        lambda: TrainFiles(catalogue, use=use).count("mine"),
    ):
        try:
            found.append(look())
        except FcitError as error:
            found.append(str(error))
    return found


SLICES = ["train[5:]", "train[-6:]", "train[50%:]", "train[5:10]", "train[:2]+train[7:]", "train", "all"]


@pytest.mark.parametrize("split", SLICES)
@pytest.mark.parametrize("parts", [1, 3])
def test_a_record_is_counted_from_the_beginning_of_its_file(split, parts, tmp_path, monkeypatch):
    monkeypatch.setattr("os.listdir", lambda folder, listdir=os.listdir: sorted(listdir(folder)))  # whose order is nobody's
    rows = [turns(None if number == BAD else "a") for number in range(COUNT)]
    each = COUNT // parts
    files = {f"mine/{part}.json": rows[part * each : (part + 1) * each] for part in range(parts)}
    if parts == 1:
        files = {"mine.json": rows}
    told = read(tmp_path, files=files, file_name="mine.json" if parts == 1 else "mine", split=split)
    place = "mine.json" if parts == 1 else f"mine/{BAD // each}.json"
    assert all(f"{place}, record {BAD % each}: turn 1 (gpt) is empty" in str(one) for one in told), told


@pytest.mark.parametrize("split", ["train[:0]", "train[:3%]", "train[40:]"])
def test_a_slice_that_takes_nothing_is_to_be_mended_and_no_file(split, tmp_path):
    for one in read(tmp_path, files={"mine.json": [turns()] * COUNT}, split=split):
        assert f"`split: {split}` in dataset_info.json, which takes none of its 12 records; correct it" in str(one)


@pytest.mark.parametrize("split", ["test", "validation[:5]", "train[:"])
def test_a_split_that_is_not_there_is_to_be_mended_and_no_file(split, tmp_path):
    for one in read(tmp_path, files={"mine.json": [turns()] * COUNT}, split=split):
        assert f"`split: {split}` in dataset_info.json, which cannot be read of its file (" in str(one)
        assert str(one).endswith("); correct it, or take it out.")


@pytest.mark.parametrize(
    ("split", "twice"),
    [
        ("train+train", True),
        ("train[:5]+train[3:]", True),
        ("train[:50%]+train[20%:]", True),
        ("train[:5]+train[7:]", False),
        ("train[:50%]+train[50%:]", False),
        ("train[5:]", False),
        ("train[:5]+test[:5]", False),
        ("nothing[", False),
    ],
)
def test_records_taken_twice_are_not_parted_into_training_and_test(split, twice, tmp_path):
    assert overlaps(split) is twice
    told = read(tmp_path, held_out=0.25, files={"mine.json": [turns()] * COUNT}, split=split)
    assert all(("takes records twice" in str(one)) is twice for one in told)


@pytest.mark.parametrize("split", [*SLICES, "train[1:3]+train[8:]+train[0:1]"])
def test_numbers_are_those_that_the_package_reads(split, tmp_path):
    rows = datasets.Dataset.from_dict({"number": list(range(COUNT))})
    rows.to_json(tmp_path / "mine.jsonl")
    taken = datasets.load_dataset("json", data_files=[str(tmp_path / "mine.jsonl")], split=split)["number"][:]
    assert numbers_of(split, COUNT).tolist() == taken


@pytest.mark.parametrize(("value", "words"), [(4, "its `output` is a number and no text"), ("", "it has no answer")])
def test_an_answer_that_is_no_text_is_said_to_be_that(value, words, tmp_path):
    rows = [{"instruction": "q", "input": "", "output": value}] * 3
    (tmp_path / "mine.json").write_text(json.dumps(rows))
    (tmp_path / "dataset_info.json").write_text(json.dumps({"mine_test": {"file_name": "mine.json"}}))
    with pytest.raises(FcitError, match=rf"`mine_test`: mine\.json, record 2: {words}"):
        refuse_empty(ForTest("mine"), Catalogue(str(tmp_path)), range(3), "answer", ["a", "b", ""])


@pytest.mark.parametrize("formatting", ["sharegpt", "openai"])
def test_a_pair_needs_a_question_last(formatting, tmp_path):
    tags = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}
    row = turns() | {side: {"from": "gpt", "value": side} for side in ("chosen", "rejected")}
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
    entry = {"formatting": formatting, "ranking": True, "columns": columns, "tags": tags}
    for one in read(tmp_path, "rm", files={"mine.json": [row] * 3}, **entry):
        assert "it has 2 turns: the last is no question that its two answers are to, and none of" in str(one)


def test_the_empty_one_of_a_column_of_sites_is_named(tmp_path):
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("instruction", "output", "site"), *(("q", "a", "" if i == 5 else i % 3) for i in range(9))]
        )
    entry = {"file_name": "mine.csv", "columns": {"prompt": "instruction", "response": "output"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"mine": entry}))
    values = TrainFiles(Catalogue(str(tmp_path))).column("mine", "site")
    with pytest.raises(FcitError, match=r"record 5 of the dataset mine, .* names no client in the column 'site' .* is empty"):
        clients_named("site", {"mine": values})
    with pytest.raises(FcitError, match=r"record 1 of the dataset mine, .* it has 1\.5; fix"):
        clients_named("site", {"mine": ["a", 1.5]})


def test_files_are_read_by_way_of_the_recipes_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "nobody")
    (tmp_path / "mine.json").write_text(json.dumps([turns()] * 3))
    (tmp_path / "dataset_info.json").write_text(json.dumps({"mine": {"file_name": "mine.json", "formatting": "sharegpt"}}))
    catalogue = Catalogue(str(tmp_path), cache_dir=str(tmp_path / "cache"))
    assert TrainFiles(catalogue).count("mine") == 3
    assert (tmp_path / "cache").is_dir() and not (tmp_path / "nobody").exists()
