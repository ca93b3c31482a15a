"""A CSV file with something else than commas between its columns, as spreadsheets of many countries write them."""

import json

import pytest

from fcit_plugin.data.catalogue import Catalogue
from fcit_plugin.data.raw_records import files_of, read_raw
from fcit_plugin.drafts.own_data import OwnFile
from fcit_plugin.errors import FcitError

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
ROWS = [("question", "answer"), *((f"what is {i}", f"it is {i}") for i in range(9))]


def catalogue_of(tmp_path, text, encoding="utf-8", **columns):
    """A dataset of one CSV file, and that file."""
    path = tmp_path / "mine.csv"
    path.write_text(text, encoding=encoding)
    (tmp_path / "dataset_info.json").write_text(json.dumps({"mine": {"file_name": "mine.csv", "columns": columns}}))
    return Catalogue(str(tmp_path)), path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
@pytest.mark.parametrize("sign", SEPARATORS)
def test_it_is_said_what_stands_between_the_columns(sign, encoding, tmp_path):
    text = "\n".join(map(sign.join, [("Größe", "answer"), *ROWS[1:]]))
    catalogue, path = catalogue_of(tmp_path, text, encoding, prompt="Größe", response="answer")
    for read in (lambda: files_of(catalogue, "mine"), lambda: OwnFile(path)):
        with pytest.raises(FcitError, match=rf"mine\.csv.* has {SEPARATORS[sign]} between its columns.*save it with commas"):
            read()


@pytest.mark.parametrize("sign", [";", "|"])  # a column's name with a tab is refused as such
def test_a_sign_in_a_column_of_a_file_with_commas_is_none_between_columns(sign, tmp_path):
    text = "\n".join(map(",".join, [(f"a{sign}b", "answer"), *ROWS[1:]]))
    catalogue, path = catalogue_of(tmp_path, text, prompt=f"a{sign}b", response="answer")
    assert read_raw(files_of(catalogue, "mine")).column_names == [f"a{sign}b", "answer"]
    assert OwnFile(path, {"prompt": f"a{sign}b", "response": "answer"}).count == 9


def test_one_column_that_is_asked_for_by_its_whole_name_is_read(tmp_path):
    catalogue, _ = catalogue_of(tmp_path, "a;b\nwhat\nwhat else\n", prompt="a;b")
    assert read_raw(files_of(catalogue, "mine"))["a;b"][:] == ["what", "what else"]


def test_a_quoted_name_is_asked_for_without_its_quotes(tmp_path):
    catalogue, _ = catalogue_of(tmp_path, '"a;b"\nwhat\nwhat else\n', prompt="a;b")
    assert read_raw(files_of(catalogue, "mine"))["a;b"][:] == ["what", "what else"]


def test_blank_lines_before_the_names_of_the_columns_hide_nothing(tmp_path):
    _, path = catalogue_of(tmp_path, "\n\n" + "\n".join(map(";".join, ROWS)))
    with pytest.raises(FcitError, match="semicolons between its columns"):
        OwnFile(path)


@pytest.mark.parametrize("sign", [",", *SEPARATORS])
def test_utf16_is_said_to_be_that(sign, tmp_path):
    _, path = catalogue_of(tmp_path, "\n".join(map(sign.join, ROWS)), "utf-16")
    with pytest.raises(FcitError, match=r"mine\.csv.* is UTF-16; save it as UTF-8, with commas"):
        OwnFile(path)
