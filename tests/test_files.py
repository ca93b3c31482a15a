"""Folders and files that are there whole or not at all."""

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from crashes import in_a_child, limit_file_size
from safetensors.numpy import save_file

from fcit_plugin import files
from fcit_plugin.cache import cache_folder
from fcit_plugin.errors import FcitError
from fcit_plugin.files import (
    append_lines,
    of_user,
    read_json,
    read_json_lines,
    read_object,
    read_text,
    write_json,
    write_rows,
)
from fcit_plugin.folders import whole_folder
from fcit_plugin.tensor_files import check_tensors, load_tensors


def test_a_folder_appears_when_its_block_ends_even_where_an_empty_one_stands(tmp_path):
    folder = tmp_path / "deep" / "model"
    folder.mkdir(parents=True)
    with whole_folder(folder) as partial:
        (partial / "weights").write_bytes(b"w")
        assert not any(folder.iterdir())
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert (folder / "weights").read_bytes() == b"w"


def test_the_folder_that_one_stands_in_is_filled_and_stays_the_same_one(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = os.stat(".").st_ino
    with whole_folder(Path(".")) as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "weights").write_bytes(b"w")
        assert partial.parent == tmp_path and not any(Path.cwd().iterdir())
    assert Path("deep/weights").read_bytes() == b"w" and os.stat(".").st_ino == before
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_behind_a_link_is_filled(tmp_path, there):
    (tmp_path / "real" / "model").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/model" if there else "real")
    folder = tmp_path / "link" if there else tmp_path / "link" / "new"
    with whole_folder(folder) as partial:
        (partial / "weights").touch()
    assert [path.name for path in folder.iterdir()] == ["weights"]


def test_what_came_into_the_folder_in_the_meantime_is_left_alone(tmp_path):
    (tmp_path / "model").mkdir()

    def write() -> None:
        with whole_folder(tmp_path / "model") as partial:
            (partial / "weights").touch()
            (tmp_path / "model" / "weights").write_text("mine")

    with pytest.raises(FcitError, match="model is not empty"):
        write()
    assert (tmp_path / "model" / "weights").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_can_be_replaced_and_stays_where_the_block_fails(tmp_path):
    folder = tmp_path / "model"
    for number in (1, 2):
        with whole_folder(folder, replace=True) as partial:
            (partial / str(number)).touch()
    with pytest.raises(ZeroDivisionError), whole_folder(folder, replace=True) as partial:
        1 / 0  # noqa: B018
    assert [path.name for path in folder.iterdir()] == ["2"] and [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_block_that_fails_leaves_nothing(tmp_path):
    def work():
        with whole_folder(tmp_path / "model") as partial:
            (partial / "weights").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert not any(tmp_path.iterdir())


def test_what_a_killed_writer_left_is_not_taken_over(tmp_path):
    with whole_folder(tmp_path / "model") as partial:
        place = partial
    place.mkdir()
    (place / "half").touch()
    (tmp_path / "model").rmdir()
    with whole_folder(tmp_path / "model") as partial:
        (partial / "whole").touch()
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["whole"]


def test_a_folder_with_something_in_it_is_refused_before_the_work_and_left_alone(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("x")
    with pytest.raises(ValueError, match="model is not empty; name a new folder"), whole_folder(tmp_path / "model"):
        pytest.fail("the block was entered")
    assert (tmp_path / "model" / "mine").read_text() == "x"


def test_json_keeps_letters_and_makes_its_folder(tmp_path):
    write_json(tmp_path / "a" / "b.json", [{"frage": "wie groß?"}])
    text = (tmp_path / "a" / "b.json").read_text(encoding="utf-8")
    assert "groß" in text and json.loads(text) == [{"frage": "wie groß?"}]


def test_rows_come_back_from_the_csv_file(tmp_path):
    rows = [["a", "b, c"], ["ä\n", '"'], [1.5, None]]
    write_rows(tmp_path / "deep" / "t.csv", rows)
    with open(tmp_path / "deep" / "t.csv", encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["a", "b, c"], ["ä\n", '"'], ["1.5", ""]]


#: what reads a file, what is in it (None: it is not there), and what the sentence says
UNREADABLE = [
    (read_json, None, "cannot be read (No such file or directory); restore it from a backup or copy it again."),
    (read_text, b"a\xff", "is not UTF-8 text (byte 1); restore it from a backup or copy it again."),
    (
        read_json,
        b'{"a": ',
        "is not valid JSON (Expecting value: line 1 column 7 (char 6)); restore it from a backup or copy it again.",
    ),
    (read_json, b'["\xff"]', "is not valid JSON ("),
    (read_object, b"[1]", "does not hold a JSON object; restore it from a backup or copy it again."),
    (lambda path: read_object(path, ("a", "b", "c"), "fetch it again"), b'{"b": 1}', "lacks a, c; fetch it again."),
    (read_json_lines, b'{"a": 1}\n\n{"b"', ", line 3 is not valid JSON ("),
    (check_tensors, None, "is missing or corrupt: "),
    (load_tensors, b"x" * 99, "is missing or corrupt: "),
]


@pytest.mark.parametrize(("read", "content", "says"), UNREADABLE)
def test_what_cannot_be_read_is_named_in_one_sentence(tmp_path, read, content, says):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FcitError) as caught:
        read(path)
    assert str(caught.value).replace(f"{path} ", str(path)).startswith(f"{path}{says}")
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_lines_are_numbered_and_split_nowhere_but_at_line_ends(tmp_path):
    (tmp_path / "x.jsonl").write_bytes('{"a": "\u2028ä"}\r\n\n[2]'.encode())
    assert read_json_lines(tmp_path / "x.jsonl") == {1: {"a": "\u2028ä"}, 3: [2]}


def test_tensors_come_back_as_they_were_saved(tmp_path):
    saved = {"a": np.array([1.5, -0.0], np.float32), "b": np.array(7, np.int64)}
    save_file(saved, tmp_path / "x.safetensors")
    check_tensors(tmp_path / "x.safetensors")
    for framework in ("np", "pt"):
        found = {key: np.asarray(value) for key, value in load_tensors(tmp_path / "x.safetensors", framework).items()}
        assert {key: (value.tobytes(), value.dtype) for key, value in found.items()} == {
            key: (value.tobytes(), value.dtype) for key, value in saved.items()
        }


@pytest.mark.parametrize("before", ["", "one\n", "one\n" + "x" * 200_000 + "\n"], ids=["nothing", "a line", "a long line"])
@pytest.mark.parametrize("left", ["", "unfin", "y" * 150_000], ids=["whole", "unfinished", "long unfinished"])
def test_lines_are_added_whole_after_the_last_whole_one(before, left, tmp_path):
    path = tmp_path / "log"
    path.write_text(before + left)
    append_lines(path, "two\nthree\n")
    append_lines(path, "four\n")
    assert path.read_text() == before + "two\nthree\nfour\n"


def test_of_lines_that_do_not_fit_on_the_disk_nothing_is_left(tmp_path):
    path = tmp_path / "log"
    append_lines(path, "one\n")

    def full():
        limit_file_size(100)
        with pytest.raises(OSError, match="log"):
            append_lines(path, "x" * 200 + "\n")
        append_lines(path, "two\n")

    assert in_a_child(full) == 0
    assert path.read_text() == "one\ntwo\n"


def test_a_line_that_is_being_written_does_not_count_where_a_file_grows(tmp_path):
    path = tmp_path / "log"
    path.write_text('{"a": 1}\n{"a":')
    assert read_json_lines(path, grows=True) == {1: {"a": 1}}
    with pytest.raises(FcitError, match="line 2"):
        read_json_lines(path)


def test_a_home_that_is_not_there_ends_nobody_in_a_traceback(monkeypatch, tmp_path):
    """``Path.expanduser`` and ``Path.home`` raise a RuntimeError there: of `~nobody`, and of a user without a home."""
    assert of_user("~/x") == Path.home() / "x"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    assert [of_user(path) for path in ("~/x", "~no-such-user/x", Path("x"))] == [*map(Path, ("~/x", "~no-such-user/x", "x"))]
    monkeypatch.chdir(tmp_path)
    for given in (None, "~/x", "~no-such-user/x"):
        monkeypatch.setenv("FCIT_CACHE", given or "")
        with pytest.raises(OSError, match=r"no such home .* FCIT_CACHE"):
            cache_folder()
    assert not [*tmp_path.iterdir()], "a folder that is called ~"
    package = Path(files.__file__).parent
    using = [path for path in package.rglob("*.py") if re.search(r"\.expanduser\(\)|Path\.home\(", path.read_text())]
    assert using == []
