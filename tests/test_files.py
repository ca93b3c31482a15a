"""Folders and files that are there whole or not at all."""

import json

import pytest

from fcit_plugin.files import whole_folder, write_json


def test_a_folder_appears_when_its_block_ends_even_where_an_empty_one_stands(tmp_path):
    folder = tmp_path / "deep" / "model"
    folder.mkdir(parents=True)
    with whole_folder(folder) as partial:
        (partial / "weights").write_bytes(b"w")
        assert not any(folder.iterdir())
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert (folder / "weights").read_bytes() == b"w"


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
