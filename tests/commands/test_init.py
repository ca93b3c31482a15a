"""``fcit-cli init``: whatever the user has becomes a recipe that a dry run takes, or is refused in a sentence."""

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import llamafactory_examples as examples
import pytest
import yaml
from llamafactory_examples import COMMON, EVALUATED, EXAMPLES
from PIL import Image
from runs import ROOT, fresh_process, run_recipe

from fcit_plugin.commands import COMMANDS
from fcit_plugin.commands.command import make_parser
from fcit_plugin.drafts.draft import section_of
from fcit_plugin.errors import FcitError
from fcit_plugin.plugins import registry

NUMBERS = [(i, 7 * i % 40) for i in range(40)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*words):
    """The keys that it writes to fcit.yaml."""
    args = make_parser(COMMANDS).parse_args(["init", *map(str, words)])
    args.command.run(args)
    return yaml.safe_load((args.out or Path("fcit.yaml")).read_text())


def planned(keys, folder="out"):
    """What a dry run plans by these keys."""
    return json.loads((run_recipe({**keys, "output_dir": folder, "fcit_dry_run": True}) / "fcit_dry_run.json").read_text())


def questions(count=40, **more):
    """Records with a question and an answer."""
    return [{"question": f"Is {i} more than {n}?", "answer": "yes" if i > n else "no", **more} for i, n in NUMBERS[:count]]


def write(path, rows):
    """Writes records as JSON."""
    Path(path).write_text(json.dumps(rows))
    return path


# a method


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Records of two tasks with pictures, which every method but those for text can be trained on."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, question in (("color", "Name the color."), ("letter", "Which letter belongs to it?")):
        rows = []
        for color in ("red", "green", "blue", "gray") * 8:
            Image.new("RGB", (16, 16), color).save(folder / f"{color}.png")
            rows.append({"prompt": f"<image>{question}", "response": color[0], "images": [f"{color}.png"]})
        write(folder / f"{name}.json", rows)
    return folder


def of_text(name):
    return registry("methods")[name].load().makes_up_records()


@pytest.mark.parametrize("name", registry("methods"))
def test_a_recipe_of_every_method_has_its_own_keys_with_their_help_and_is_taken_by_a_dry_run(name, pictures, here):
    files = [Path(f"{task}.json") if of_text(name) else pictures / f"{task}.json" for task in ("color", "letter")]
    if of_text(name):
        with pytest.raises(FcitError, match=rf"`fcit_method: {name}` .* are of text alone"):
            init("--method", name, "--data", pictures / "color.json")
        for path in files:
            write(path, [{"prompt": f"Name color {i}.", "response": "red"} for i in range(40)])
    keys = init("--method", name, "--data", *files, "--clients", 2)
    text, options = Path("fcit.yaml").read_text(), registry("methods")[name].options
    assert keys["fcit_method"] == name
    for item in fields(options) if options is not None else ():
        (line,) = [line for line in text.splitlines() if line.removeprefix("# ").startswith(f"{item.name}: ")]
        assert line.endswith(f"# {item.metadata['help']}")
        assert keys.get(item.name) == item.default
    assert planned(keys)["steps"] > 0


@pytest.mark.parametrize("name", registry("methods"))
def test_without_data_it_is_the_embedded_benchmark(name, here):
    if of_text(name):
        with pytest.raises(FcitError, match="give --data FILE with text"):
            init("--method", name)
        return
    keys = init("--method", name, "--rounds", 2)
    assert (keys["model_name_or_path"], keys["fcit_setting"], keys["fcit_num_rounds"]) == ("fcit-mini", "task_hom", 2)


def test_an_unknown_method_gets_the_nearest(here):
    with pytest.raises(FcitError, match="did you mean `disco`"):
        init("--method", "disko")
    assert not Path("fcit.yaml").exists()


# a recipe of LLaMA-Factory's


@pytest.fixture(scope="module")
def their_data(tmp_path_factory):
    return examples.data(tmp_path_factory.mktemp("theirs") / "data")


def theirs(model, data, stage="sft", **keys):
    """A recipe as LLaMA-Factory's examples have it, on a tiny model."""
    names = "color,letter" if stage in ("sft", "pt", "rm", "ppo") else stage
    base = {"model_name_or_path": str(model), "template": "vicuna", "stage": stage, "dataset": names, "dataset_dir": str(data)}
    found = {**base, "output_dir": "saves/theirs", **COMMON, **keys}
    Path("theirs.yaml").write_text(yaml.safe_dump({key: value for key, value in found.items() if value != "absent"}))
    return "theirs.yaml"


#: Examples whose keys are refused where they are typed, and can be left out where a recipe is converted.
LEFT_OUT = {"use_kt", "ray_num_workers", "tokenized_path", "pissa_init", "use_v1_kernels"}


@pytest.mark.parametrize("more", [{}, pytest.param(EVALUATED, marks=pytest.mark.thorough)], ids=["", "evaluated"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.names[0])
def test_every_example_of_llamafactory_is_converted_or_refused(example, more, text_model, their_data, here, capsys):
    absent = dict.fromkeys(example.without, "absent")
    recipe = theirs(text_model, their_data, example.stage, **{**absent, **example.keys, **more})
    if example.refused and not LEFT_OUT & example.keys.keys():
        with pytest.raises(FcitError) as caught:
            init("--from", recipe, "--clients", 2)
        assert recipe in str(caught.value) and "\n" not in str(caught.value)
        return
    keys = init("--from", recipe, "--clients", 2)
    said = capsys.readouterr().out
    assert keys["stage"] == "fcit" and keys["fcit_local_stage"] == example.stage
    for key in ("model_name_or_path", "lora_rank", "lora_target", "cutoff_len", "dataset_dir", "learning_rate", "bf16"):
        assert keys.get(key) == yaml.safe_load(Path(recipe).read_text()).get(key)
    for key in yaml.safe_load(Path(recipe).read_text()).keys() - keys.keys():
        assert f"`{key}`" in said or key == "resume_from_checkpoint", f"{key} is gone without a word"
    assert planned(keys)["steps"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"finetuning_type": "full"}, "`finetuning_type: full`; clients train LoRA adapters"),
        ({"finetuning_type": "freeze"}, "`finetuning_type: freeze`"),
        ({"stage": "ppo"}, "`stage: ppo`, which clients cannot be trained with"),
        ({"stage": "pt"}, "`stage: pt`, which has no answers to score"),
        ({"stage": "fcit"}, "is a recipe of this plugin already"),
        ({"do_train": False}, "trains nothing"),
        ({"do_train": "absent"}, "trains nothing"),
        ({"adapter_name_or_path": "saves/a"}, "goes on from an adapter"),
        ({"dataset": "absent"}, "names no `dataset`"),
        ({"dataset": "nowhere"}, "Unknown dataset `nowhere`"),
        ({"deepspeed": "examples/deepspeed/ds_z9_config.json"}, "ds_z9_config.json`, which is not there"),
        ({"template": "vicunna"}, "the nearest one is `vicuna`"),
        ({"lora_rnk": 3}, "the nearest valid key is `lora_rank`"),
        ({"learning_rate": "fast"}, "`learning_rate`"),
        ({"packing": True, "cutoff_len": 100}, "multiple of 8"),
    ],
)
def test_what_is_no_lora_tuning_is_refused_in_a_sentence(changes, message, text_model, their_data, here):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        init("--from", theirs(text_model, their_data, **changes), "--clients", 2)
    assert "\n" not in str(caught.value)
    assert not Path("fcit.yaml").exists(), "nothing is written that a dry run would not take"


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "just words", "\0"])
def test_what_is_no_recipe_is_refused_in_a_sentence(text, here):
    Path("theirs.yaml").write_text(text)
    with pytest.raises(FcitError, match=r"theirs\.yaml"):
        init("--from", "theirs.yaml")
    with pytest.raises(FcitError, match=r"missing\.yaml"):
        init("--from", "missing.yaml")


def test_their_deepspeed_file_is_found_among_the_shipped_ones(text_model, their_data, here):
    keys = init("--from", theirs(text_model, their_data, deepspeed="examples/deepspeed/ds_z3_config.json"), "--clients", 2)
    assert Path(keys["deepspeed"]).is_file() and Path(keys["deepspeed"]).name == "ds_z3_config.json"


def test_passes_over_the_records_become_rounds_and_their_folder_stays(text_model, their_data, here, capsys):
    keys = init("--from", theirs(text_model, their_data), "--clients", 2, "--rounds", 4)
    assert (keys["num_train_epochs"], keys["fcit_num_rounds"], keys["output_dir"]) == (0.75, 4, "saves/theirs_fcit")
    assert "`num_train_epochs` was 3 and is 0.75" in capsys.readouterr().out


# files of one's own

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
    "sharegpt": {"conversations": TURNS},
    "sharegpt twice": {"conversations": TURNS * 2},
    "openai": {"messages": MESSAGES},
    "pairs": {"prompt": "Is it so?", "chosen": "yes", "rejected": "no"},
    "pairs of turns": {"conversations": TURNS[:1], "chosen": TURNS[1], "rejected": {"from": "gpt", "value": "no"}},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_usual_form_of_records_is_found_out(form, here):
    keys = init("--data", write("my data.json", [FORMS[form]] * 40))
    assert keys["fcit_local_stage"] == ("dpo" if "chosen" in FORMS[form] else "sft")
    assert keys["fcit_stages"] == [["my_data"]]
    assert planned(keys)["left_out"] == {}


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
        ([["a", None], ["a", "b"]], (), "record 1 of the dataset first names no client"),
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


# asking


def asked(monkeypatch, answers, terminal=True):
    """What is asked, with answers in turn."""
    questions = []

    def answer(prompt):
        questions.append(prompt)
        return answers[len(questions) - 1] if len(questions) <= len(answers) else ""

    monkeypatch.setattr("builtins.input", answer)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
    return questions


def test_a_terminal_is_asked_for_what_flags_do_not_say(here, monkeypatch):
    questions_asked = asked(monkeypatch, ["", "a,b", "5", "2"])
    keys = init("--data", write("a.json", questions()), write("b.json", questions()))
    assert len(questions_asked) == 4 and "[a b]" in questions_asked[1]
    assert (keys["fcit_stages"], keys["val_size"], keys["fcit_num_clients"]) == ([["a", "b"]], 5, 2)


@pytest.mark.parametrize(("terminal", "words"), [(False, ()), (True, ("--yes",)), (True, ("--model", "fcit-mini-text"))])
def test_nothing_is_asked_that_is_said_or_elsewhere_than_on_a_terminal(terminal, words, here, monkeypatch):
    more = ("--clients", 2, "--test", 4, "--stages", "a", "b") if "--model" in words else ()
    questions_asked = asked(monkeypatch, [], terminal)
    init("--data", write("a.json", questions()), write("b.json", questions()), *words, *more)
    assert questions_asked == []


@pytest.mark.parametrize("answer", ["many", "0", "-1", "nan"])
@pytest.mark.parametrize(("words", "before"), [(("--test", 4), [""]), (("--clients", 2), [""])])
def test_an_answer_that_is_none_is_refused(answer, words, before, here, monkeypatch):
    asked(monkeypatch, [*before, answer])
    with pytest.raises(FcitError, match="number"):
        init("--data", write("a.json", questions()), *words)


# what is written


def test_nothing_is_overwritten_unasked(here):
    keys = init("--data", write("mine.json", questions()))
    with pytest.raises(FcitError, match=r"fcit\.yaml is there already"):
        init("--data", "mine.json", "--clients", 2)
    assert yaml.safe_load(Path("fcit.yaml").read_text()) == keys
    assert init("--data", "mine.json", "--clients", 2, "--overwrite")["fcit_num_clients"] == 2


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("fcit_*.yaml")), ids=lambda path: path.stem)
def test_a_key_has_the_section_that_the_shipped_recipes_have_it_in(path):
    section, wrong = "", []
    for line in path.read_text().splitlines():
        if line.startswith("### "):
            section = line.split()[1].rstrip(":")
        elif ":" in line and not line.startswith(("#", " ")):
            key = line.partition(":")[0]
            if section_of(key) != section:
                wrong.append(f"{key}: {section_of(key)} instead of {section}")
    assert path.stem == "fcit_export" or wrong == []


@pytest.mark.thorough
def test_two_commands_lead_from_a_file_to_a_report(here):
    write("my.json", questions())
    fresh_process(["fcit-cli", "init", "--data", "my.json", "--rounds", "1", "--clients", "2"])
    shown = fresh_process(["fcit-cli", "train", "fcit.yaml"]).stdout
    assert "stage 0" in shown and Path("saves/fcit/fcit_report.json").is_file()


# a package


def test_a_package_is_installed_registered_and_passes_its_tests(here):
    init_package("gentle-pull")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", "site", "./fcit-gentle-pull"], check=True, capture_output=True)
    env = {"PYTHONPATH": os.pathsep.join([str(here / "site"), str(ROOT)])}
    done = fresh_process(["python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "fcit-gentle-pull"], env)
    assert "3 passed" in done.stdout
    assert "fcit_gentle_pull_strength (0.01)" in fresh_process(["fcit-cli", "plugins"], env).stdout


def init_package(name, *words):
    args = make_parser(COMMANDS).parse_args(["init", "--plugin", name, *words])
    args.command.run(args)


@pytest.mark.parametrize(("name", "message"), [("Bad Name", "small letters"), ("ewc", "there is a method ewc already")])
def test_a_name_that_cannot_be_is_refused(name, message, here):
    with pytest.raises(FcitError, match=message):
        init_package(name)


@pytest.mark.parametrize("words", [("--method", "ewc"), ("--from", "x.yaml"), ("--clients", "2"), ("--overwrite",)])
def test_flags_of_a_recipe_are_refused_where_a_package_is_written(words, here):
    with pytest.raises(FcitError, match=f"which {words[0]} would be about"):
        init_package("gentle-pull", *words)


def test_a_folder_that_holds_something_stays_as_it_is(here):
    init_package("pull")
    with pytest.raises(FcitError, match="is not empty"):
        init_package("pull")
