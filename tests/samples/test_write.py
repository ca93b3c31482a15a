"""The verbs that write datasets write again what they wrote, and over nothing of anybody else's."""

import json

import numpy as np
import pytest
from PIL import Image

from fcit_plugin.errors import FcitError
from fcit_plugin.samples.text import write_text_tasks
from fcit_plugin.samples.write import Example, write_all, write_lists


def _image(number):
    return Example(str(number), Image.fromarray(np.full((2, 2, 3), number, np.uint8)), "What?", str(number))


def _images(out, count=3):
    write_all(out, {"mine": ([_image(i) for i in range(count)], [_image(9)])})


def _texts(out, count=20):
    write_text_tasks(out, train=count, test=2)


def _lists(out, count=3):
    write_lists(out, {"some": {"file_name": "some.json"}}, {"some": [{"instruction": "a", "output": "b"}] * count})


#: What writes, and a file of it with its training records.
WRITERS = {
    "images": (_images, "instructions/mine/train.json", "mine"),
    "texts": (_texts, "text_last.json", "text_last"),
    "lists": (_lists, "some.json", "some"),
}


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_was_written_is_written_again(writer, tmp_path):
    write, file, _ = WRITERS[writer]
    write(tmp_path, 20)
    (tmp_path / "note.txt").write_text("mine")
    write(tmp_path, 25)
    assert len(json.loads((tmp_path / file).read_text())) == 25 and (tmp_path / "note.txt").read_text() == "mine"


def _entry_beside(folder, writer):
    (folder / "dataset_info.json").write_text(json.dumps({"own": {"file_name": "own.json"}}))


def _entry_added(folder, writer):
    WRITERS[writer][0](folder)
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**info, "own": {"file_name": "own.json"}}))


def _entry_changed(folder, writer):
    WRITERS[writer][0](folder)
    info = json.loads((folder / "dataset_info.json").read_text())
    info[WRITERS[writer][2]]["fcit_metric"] = "rouge_l"
    (folder / "dataset_info.json").write_text(json.dumps(info))


def _file_alone(folder, writer):
    path = folder / WRITERS[writer][1]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")


def _no_json(folder, writer):
    (folder / "dataset_info.json").write_text("{")


def _nowhere(folder, writer):
    (folder / "dataset_info.json").symlink_to(folder / "gone" / "dataset_info.json")


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("put", [_entry_beside, _entry_added, _entry_changed, _file_alone, _no_json, _nowhere])
def test_nothing_of_anybody_elses_is_written_over(put, writer, tmp_path):
    put(tmp_path, writer)
    before = everything(tmp_path)
    with pytest.raises(FcitError, match=r"dataset_info\.json|give another folder") as caught:
        WRITERS[writer][0](tmp_path)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert everything(tmp_path) == before


@pytest.mark.parametrize(("first", "second"), [(a, b) for a in WRITERS for b in WRITERS if a != b])
def test_two_of_them_do_not_share_a_folder(first, second, tmp_path):
    WRITERS[first][0](tmp_path)
    before = everything(tmp_path)
    with pytest.raises(FcitError, match="is not of this command"):
        WRITERS[second][0](tmp_path)
    assert everything(tmp_path) == before
