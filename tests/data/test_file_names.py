"""A data file is read by its name, or refused: no other file is read in its place."""

import json

import pytest
from datasets import load_dataset

from fcit_plugin.data.catalogue import Catalogue
from fcit_plugin.data.raw_files import TrainFiles
from fcit_plugin.drafts.own_data import OwnFile
from fcit_plugin.errors import FcitError

#: Names, each with another file that lies beside it.
NAMES = {
    "data[1].json": "data1.json",
    "only[1].json": None,
    "[2024] study/x.json": None,
    "train[!a].json": "trainb.json",
    "star*.json": "starry.json",
    "alone*.json": None,
    "what?.json": "whatx.json",
    "alone?.json": None,
    "a::b.json": "b.json",
    "{a,b}.json": "a.json",
    "!x.json": "x.json",
    "~x.json": "x.json",
    "x[y.json": None,
    "x]y.json": None,
    "#x%20.json": "x .json",
    "x@main.json": "x.json",
    ".hidden.json": None,
    "sub folder/x.json": None,
}


def place(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([{"question": f"what is {i}", "answer": text} for i in range(3)]))
    return path


def told(read):
    try:
        return read()
    except FcitError as error:
        return str(error)


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_read_or_refused_in_a_sentence(name, tmp_path):
    path, other = place(tmp_path, name, "right"), NAMES[name]
    if other is not None:
        place(tmp_path, other, "wrong")
    entry = {"columns": {"prompt": "question", "response": "answer"}}
    info = {"file": {"file_name": name, **entry}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    catalogue = Catalogue(str(tmp_path))
    try:
        honest = load_dataset("json", data_files=[str(path)], split="train")["answer"][:] == ["right"] * 3
    except Exception:  # the package datasets looks for whatever it takes the name for
        honest = False
    reads = [
        told(lambda: catalogue.check(["file"], with_test=False)),
        told(lambda: TrainFiles(catalogue).labels("file")),
        told(lambda: OwnFile(path).answers),
    ]
    if honest:
        assert reads == [None, ["right"] * 3, ["right"] * 3]
    else:
        assert all("rename that." in str(read) and path.name in str(read) for read in reads), reads


def test_a_file_of_a_folder_is_refused_as_well(tmp_path):
    place(tmp_path, "parts/part[1].json", "right"), place(tmp_path, "parts/part1.json", "wrong")
    (tmp_path / "dataset_info.json").write_text(json.dumps({"parts": {"file_name": "parts"}}))
    with pytest.raises(
        FcitError, match=r"part\[1\]\.json has \[ in its name or its folder's, .* of .*part1\.json; rename that"
    ):
        TrainFiles(Catalogue(str(tmp_path))).count("parts")
