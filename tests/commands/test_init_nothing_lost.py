"""``fcit-cli init``: nothing that a user gives is passed over, and nothing that is there already is lost."""

import json
import re
from pathlib import Path

import pytest
from drafted import init, planned, questions, theirs, write
from PIL import Image
from test_init_own_data import MESSAGES, TURNS

from fcit_plugin.errors import FcitError

CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "more", "arguments": "{}"}}]}
RESULT = {"role": "tool", "content": "no"}
PARTS = {
    "system of some": {"question": "Is it?", "answer": "no", "system": "Be short."},
    "tools": {"conversations": TURNS, "tools": "[]", "system": "Use tools."},
    "history": {"instruction": "Is it?", "output": "no", "history": [["Was it?", "yes"]]},
    "tools that are called": {"messages": [*MESSAGES[:2], CALL, RESULT, MESSAGES[2]], "tools": "[]"},
    "a call for an answer": {"messages": [*MESSAGES[:2], CALL]},
}


@pytest.mark.parametrize("form", PARTS)
def test_what_a_record_has_beside_question_and_answer_is_shown_to_the_model(form, here, capsys):
    keys = init("--data", write("mine.json", [PARTS[form]] * 40))
    entry = json.loads(Path("fcit_data/dataset_info.json").read_text())["mine"]
    assert {*entry["columns"].values()} == {*PARTS[form]}
    assert "no model is shown" not in capsys.readouterr().out
    assert planned(keys)["left_out"] == {}


def test_columns_that_no_model_is_shown_are_told(here, capsys):
    init("--data", write("mine.json", questions(id=3, tools=[{"a": 1}], site="a")))
    assert "Of mine.json no model is shown id, tools;" in capsys.readouterr().out


ODD = [None, 5, "text", [], [5], ["a", "b"], [["a"]], {}, {"value": "a"}, [{"from": 1, "value": 2}], [{}]]


@pytest.mark.parametrize("words", [(), ("--columns", "messages=messages"), ("--site-column", "messages")])
@pytest.mark.parametrize("value", ODD, ids=str)
def test_a_column_of_conversations_that_holds_something_else_ends_in_a_sentence_or_is_not_used(value, words, here):
    write("mine.json", [{"messages": value, "other": 1}] * 9)
    with pytest.raises(ValueError, match=r"mine|messages|--data") as caught:  # a sentence, of ours or of LLaMA-Factory
        init("--data", "mine.json", *words)
    assert "\n" not in str(caught.value)
    assert not Path("fcit_data").exists(), "nothing is left of what was refused"


@pytest.mark.parametrize(
    ("columns", "stage"), [(["chosen=good", "rejected=bad"], "dpo"), (["response=good", "kto_tag=liked"], "kto")]
)
def test_columns_of_preferences_have_the_names_that_are_given(columns, stage, here):
    rows = [{**row, "good": "yes", "bad": "no", "liked": True} for row in questions()]
    keys = init("--data", write("mine.json", rows), "--columns", "prompt=question", *columns)
    assert keys["fcit_local_stage"] == stage and planned(keys)["steps"] > 0


FLAGS = {
    "--columns": (["promt=question"], "did you mean `prompt`"),
    "--test": (["1.5"], "--test 1.5"),
    "--stages": ([","], "A stage has no dataset"),
    "--clients-per-round": ([9], "--clients-per-round 9: there are 4 clients"),
}


@pytest.mark.parametrize("flag", FLAGS)
def test_a_value_that_would_be_passed_over_is_refused(flag, here):
    words, message = FLAGS[flag]
    with pytest.raises(FcitError, match=re.escape(message)):
        init("--data", write("mine.json", questions()), flag, *words)
    if flag == "--clients-per-round":
        with pytest.raises(FcitError, match="there are 10 clients"):
            init(flag, 11)


@pytest.mark.parametrize(
    ("sites", "words", "message"),
    [
        ([["a", "b"], ["a", "b"]], ("--clients", 3), "names 2 clients and --clients says 3"),
        ([["a", "b"], ["a"]], (), "gives the client b no record of second"),
        ([["a", None], ["a", "b"]], (), "record 1 of the dataset first, .* names no client .* which is empty"),
        ([[1, 2], ["1", "2"]], (), "has numbers and texts"),
        ([["a", ["b"]], ["a", "b"]], (), "--site-column|names no client|first"),
    ],
)
def test_sites_that_cannot_be_clients_are_named(sites, words, message, here):
    for name, values in zip(("first", "second"), sites, strict=True):
        write(f"{name}.json", [{**row, "ward": values[i % len(values)]} for i, row in enumerate(questions())])
    with pytest.raises(ValueError, match=message):
        init("--data", "first.json", "second.json", "--site-column", "ward", *words)


def test_a_column_of_sites_is_offered_where_all_files_have_it(here, capsys):
    write("a.json", questions(site="x"))
    init("--data", "a.json", write("b.json", questions()))
    assert "--site-column" not in capsys.readouterr().out


def test_entries_of_the_users_own_are_not_overwritten_unasked(here):
    Path("fcit_data").mkdir()
    own = write("fcit_data/dataset_info.json", {"mine": {"file_name": "a.json"}})
    with pytest.raises(FcitError, match=r"fcit_data/dataset_info\.json is there already"):
        init("--data", write("mine.json", questions()))
    with pytest.raises(FcitError, match="--template"):
        init("--data", "mine.json", "--model", "some/model", "--overwrite")
    assert json.loads(Path(own).read_text()) == {"mine": {"file_name": "a.json"}}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with a picture, and a file of records that show it."""
    folder = tmp_path_factory.mktemp("pictures")
    Image.new("RGB", (16, 16), "red").save(folder / "red.png")
    row = {"prompt": "<image>Name the color.", "response": "red", "images": ["red.png"]}
    for name in ("color", "letter"):
        write(folder / f"{name}.json", [row] * 32)
    return folder


def test_images_in_two_folders_are_refused(pictures, here):
    Path("other").mkdir()
    Path("other/more.json").write_text((pictures / "color.json").read_text())
    with pytest.raises(FcitError, match="put the files into one"):
        init("--data", pictures / "letter.json", "other/more.json")
    keys = init("--data", write("text.json", questions()), pictures / "color.json", "--model", "fcit-mini")
    assert keys["media_dir"] == str(pictures), "also where the first file has none"


def test_data_take_the_place_of_datasets_that_a_recipe_does_not_name(text_model, their_data, here):
    recipe = theirs(text_model, their_data, dataset="absent")
    assert init("--from", recipe, "--data", write("mine.json", questions()))["fcit_stages"] == [["mine"]]


@pytest.mark.parametrize(
    "changes", [{"max_steps": "100"}, {"num_train_epochs": [3]}, {"val_size": "a"}, {"seed": "x"}, {"max_samples": "y"}]
)
def test_values_of_another_type_are_named(changes, text_model, their_data, here):
    with pytest.raises(FcitError, match=f"`{next(iter(changes))}`"):
        init("--from", theirs(text_model, their_data, **changes))


@pytest.mark.parametrize("dataset", [5, {"color": 1}])
def test_a_dataset_that_is_no_name_is_named(dataset, text_model, their_data, here):
    with pytest.raises(FcitError, match="`dataset`"):
        init("--from", theirs(text_model, their_data, dataset=dataset))
