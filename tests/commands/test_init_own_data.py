"""``fcit-cli init --data``: files of the user's own become a recipe that a dry run takes, or are refused in a sentence."""

import csv
import json
from pathlib import Path

import pytest
from drafted import init, planned, questions, theirs, write
from llamafactory_examples import COMMON

from fcit_plugin.drafts.own_data import OwnFile
from fcit_plugin.errors import FcitError

TURNS = [{"from": "human", "value": "Is it so?"}, {"from": "gpt", "value": "yes"}]
MESSAGES = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Is it so?"},
    {"role": "assistant", "content": "no"},
]
FORMS = {
    "alpaca": {"instruction": "Is it so?", "input": "1 > 2", "output": "no"},
    "alpaca without input": {"instruction": "Is it so?", "output": "no"},
    "prompt and response": {"prompt": "Is it so?", "response": "no", "site": "a"},
    "prompt and completion": {"prompt": "Is it so?", "completion": "no"},
    "question and answer": {"id": 3, "question": "Is it so?", "answer": "no", "system": "Be short."},
    "input and output": {"input": "Is it so?", "output": "no"},
    "text and label": {"text": "Is it so?", "label": "no"},
    "capitals": {"Question": "Is it so?", "ANSWER": "no", "Site": "a"},
    "a blank at the end": {"Prompt ": "Is it so?", "Completion": "no", "System": "Be short."},
    "alpaca in capitals": {"Instruction": "Is it so?", "Input": "1 > 2", "Output": "no"},
    "user and assistant": {"user": "Is it so?", "assistant": "no"},
    "problem and solution": {"problem": "Is it so?", "solution": "no"},
    "dialogue and summary": {"dialogue": "A: Is it so? B: No.", "summary": "no"},
    "article and highlights": {"article": "It is not so.", "highlights": "no", "id": "x"},
    "inputs and targets": {"inputs": "Is it so?", "targets": "no"},
    "q and a": {"q": "Is it so?", "a": "no"},
    "turns in capitals": {"Messages": MESSAGES},
    "pairs in capitals": {"Prompt": "Is it so?", "Chosen": "yes", "Rejected": "no"},
    "sharegpt": {"conversations": TURNS},
    "sharegpt twice": {"conversations": TURNS * 2},
    "openai": {"messages": MESSAGES},
    "pairs": {"prompt": "Is it so?", "chosen": "yes", "rejected": "no"},
    "pairs of turns": {"conversations": TURNS[:1], "chosen": TURNS[1], "rejected": {"from": "gpt", "value": "no"}},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_usual_form_of_records_is_found_out(form, here):
    keys = init("--data", write("my data.json", [FORMS[form]] * 40))
    assert keys["fcit_local_stage"] == ("dpo" if "pairs" in form else "sft")
    assert keys["fcit_stages"] == [["my_data"]]
    (entry,) = json.loads(Path("fcit_data/dataset_info.json").read_text()).values()
    read = {*entry["columns"].values()}
    assert read <= FORMS[form].keys()
    assert FORMS[form].keys() - read <= {"id", "site", "Site"}
    assert planned(keys)["left_out"] == {}


#: Columns, and which of them are the question and the answer; None where no names tell.
BESIDE_OTHERS = {
    "problem solution source": ("problem", "solution"),
    "source article summary": ("article", "summary"),
    "article label highlights": ("article", "highlights"),
    "user dialogue summary": ("dialogue", "summary"),
    "user problem solution": ("problem", "solution"),
    "Answer question answer": ("question", "answer"),
    "text label note": ("text", "label"),
    "user assistant a": ("user", "assistant"),
    "question A B C D correct": None,
    "user message answer": None,
    "a b c": None,
    "q b": None,
}


@pytest.mark.parametrize("names", BESIDE_OTHERS)
def test_a_name_that_may_mean_something_else_is_taken_last_or_with_its_other_half(names, here):
    path = write("mine.json", [{name: f"{name} {i}" for name in names.split()} for i in range(9)])
    if (wanted := BESIDE_OTHERS[names]) is None:
        with pytest.raises(FcitError, match="--columns prompt=NAME response=NAME"):
            OwnFile(Path(path))
    else:
        assert OwnFile(Path(path)).entry["columns"] == dict(zip(("prompt", "response"), wanted, strict=True))


@pytest.mark.parametrize(
    ("rows", "remedy"),
    [
        ([{"question": "a", "answer": "b", "kto_tag": "yes"}] * 9, "correct the file, or name other columns"),
        ([{"conversations": [TURNS[0], TURNS[0]]}] * 9, "correct the file, or name other columns"),
        ([{"text": "a", "label": 1}] * 9, r"write that column as texts \(names, no numbers\), or name other columns"),
    ],
)
def test_where_no_record_can_be_used_it_is_said_what_would_help(rows, remedy, here):
    given = {"kto_tag": "kto_tag"} if "kto_tag" in rows[0] else {}
    with pytest.raises(FcitError, match=rf"none of the 9 records can be used; {remedy}"):
        OwnFile(Path(write("mine.json", rows)), given)


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "parquet"])
def test_every_kind_of_file_is_read(kind, here):
    path, rows = Path(f"mine.{kind}"), questions()
    if kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "parquet":
        from datasets import Dataset

        Dataset.from_list(rows).to_parquet(path)
    else:
        path.write_text(json.dumps(rows) if kind == "json" else "\n".join(map(json.dumps, rows)))
    assert planned(init("--data", path))["steps"] > 0


@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        ([{"frage": "a", "antwort": "b"}], (), r"mine\.json has the columns frage, antwort.*--columns prompt=NAME"),
        ([{"question": "a", "antwort": "b"}], (), "hold the answer"),
        ([{"frage": "a", "antwort": "b"}], ("--columns", "prompt=frge"), "no column 'frge'"),
        ([{"question": "a", "answer": "b"}], ("--columns", "prompt"), "--columns takes WHAT=NAME"),
        ([], (), "mine.json"),
        ([{"question": "a", "answer": ""}] * 9, (), "record 0: it has no answer"),
        (
            [{"text": "a", "label": 1}] * 9,
            (),
            r"a number and no text, and none of the 9 .*; write that column as texts \(names",
        ),
        ([{"question": {"text": "a"}, "answer": "b"}] * 9, (), "its `question` is an object and no text; fix the record"),
        ([{"question": "a", "answer": "b"}] * 3, (), "4 clients cannot share"),
        ([{"question": "a", "answer": "b"}] * 9, ("--site-column", "site"), "has no column 'site'"),
        ([{"question": "a", "answer": "b"}] * 9, ("--stages", "other"), "--stages names 'other'"),
        ([{"question": "a", "answer": "b"}] * 9, ("--test", "0"), "--test 0"),
        ([{"question": "a", "answer": "b"}] * 9, ("--test", "x.json"), r"no file x\.json"),
        ([{"question": "a", "answer": "b"}] * 9, ("--model", "some/model"), "name one with --template"),
        ([{"question": "a", "answer": "b"}] * 9, ("--out", "x.json"), r"has to end in \.yaml"),
        (
            [{"question": "a", "answer": "b"}] * 9,
            ("--clients", "3", "--clients-per-round", "3", "--method", "x"),
            "no method 'x'",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_a_sentence(rows, words, message, here):
    with pytest.raises(FcitError, match=message) as caught:
        init("--data", write("mine.json", rows), *words)
    assert "\n" not in str(caught.value)
    assert not Path("fcit.yaml").exists()


@pytest.mark.parametrize("text", ["", "no json", '{"a": ', "\0\0"])
def test_a_file_that_cannot_be_read_is_named(text, here):
    Path("mine.json").write_text(text)
    with pytest.raises(FcitError, match=r"mine\.json \(--data\)"):
        init("--data", "mine.json")
    with pytest.raises(FcitError, match=r"There is no file missing\.json"):
        init("--data", "missing.json")


def test_sites_stages_and_tests_are_taken_as_they_are_given(here, capsys):
    for name in ("a", "b", "c", "tests"):
        write(f"{name}.json", [{**row, "site": ("north", "south", "west")[i % 3]} for i, row in enumerate(questions())])
    tests = ["tests.json"] * 3
    data = ("--data", "a.json", "b.json", "c.json", "--stages", "b", "a,c")
    keys = init(*data, "--site-column", "site", "--test", *tests, "--method", "ewc")
    assert keys["fcit_stages"] == [["b"], ["a", "c"]] and keys["fcit_num_clients"] == 3
    assert (keys["fcit_partition"], keys["fcit_partition_column"]) == ("natural", "site")
    assert "3 clients: north, south, west" in capsys.readouterr().out
    assert "val_size" not in keys and planned(keys)["answers"] > 0
    keys = init(*data, "--test", 5, "--clients", 2, "--overwrite")
    assert keys["val_size"] == 5
    assert "`--site-column site` makes a client of each value" in capsys.readouterr().out


def test_free_text_is_compared_by_its_words_and_labels_by_equality(here):
    write("free.json", [{"question": "What?", "answer": f"the story number {i} of many"} for i in range(40)])
    init("--data", write("labels.json", questions()), "free.json")
    info = json.loads(Path("fcit_data/dataset_info.json").read_text())
    assert "fcit_metric" not in info["labels"] and info["free"]["fcit_metric"] == "rouge_l"
    assert (Path("fcit_data") / info["free"]["file_name"]).resolve() == Path("free.json").resolve()


def test_a_file_in_another_folder_and_a_recipe_in_a_third(here):
    Path("data").mkdir()
    keys = init("--data", write("data/mine.json", questions()), "--out", "recipes/deep/mine.yaml")
    assert planned(keys)["steps"] > 0


def test_data_of_ones_own_take_the_place_of_those_of_a_recipe(text_model, their_data, here):
    recipe = theirs(text_model, their_data)
    keys = init("--from", recipe, "--data", write("mine.json", questions()))
    assert keys["fcit_stages"] == [["mine"]] and keys["lora_rank"] == COMMON["lora_rank"]
    assert planned(keys)["steps"] > 0


def test_the_column_of_a_site_is_told_of_however_it_is_capitalized(here, capsys):
    rows = [{"Question": f"Is {i} so?", "Answer": "no", "Hospital ": "ab"[i % 2], "Owner": ""} for i in range(40)]
    init("--data", write("mine.json", rows))
    told = capsys.readouterr().out
    assert "`--site-column 'Hospital '` makes a client of each value" in told
    assert "no model is shown" not in told


def test_a_file_of_another_encoding_is_to_be_saved_as_utf8(here):
    before = "question,answer\n" + "Was ist das?,ein Haus\n" * 100_000
    Path("mine.csv").write_bytes((before + "Köln,ja\n").encode("cp1252"))
    with pytest.raises(FcitError, match=rf"mine\.csv.* not UTF-8 text at byte {len(before) + 1}; save it as UTF-8"):
        init("--data", "mine.csv")


HISTORIES = {
    "pairs": ([["Is it?", "yes"]], True),
    "no turns yet": ([], True),
    "nothing": (None, True),
    "text": ("The patient had a fever.", False),
    "empty text": ("", False),
    "texts": (["Is it?", "yes"], False),
    "a turn": ([{"role": "user", "content": "Is it?"}], False),
    "three of them": ([["a", "b", "c"]], False),
    "a number": (3, False),
}


@pytest.mark.parametrize("what", HISTORIES)
@pytest.mark.parametrize("name", ["history", "History"])
def test_a_history_is_taken_for_earlier_turns_where_it_has_turns(what, name, here, capsys):
    value, is_history = HISTORIES[what]
    path = write("mine.json", [{**row, name: value} for row in questions()])
    keys = init("--data", path)
    (entry,) = json.loads(Path("fcit_data/dataset_info.json").read_text()).values()
    assert ("history" in entry["columns"]) is is_history
    assert (f"no model is shown {name}; --columns" in capsys.readouterr().out) is not is_history
    assert planned(keys)["left_out"] == {}
    if is_history:
        assert OwnFile(Path(path), {"history": name}).entry["columns"]["history"] == name
    else:
        with pytest.raises(FcitError, match=rf"column '{name}' of mine\.json \(--columns history\) holds no lists of pairs"):
            OwnFile(Path(path), {"history": name})


@pytest.mark.parametrize("media", ["images", "videos", "audios"])
def test_media_are_looked_for_beside_the_file_that_names_them(media, here):
    Path("there").mkdir()
    Path("there/a.bin").write_bytes(b"x")
    write("there/mine.json", [{**row, "shown": ["a.bin"]} for row in questions()])
    keys = init("--data", "there/mine.json", "--columns", f"{media}=shown", "--model", "fcit-mini-text")
    assert Path(keys["media_dir"]) == Path("there")
    (entry,) = json.loads(Path("fcit_data/dataset_info.json").read_text()).values()
    assert entry["columns"][media] == "shown"
