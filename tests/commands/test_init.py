"""``fcit-cli init``: a recipe of every method, what is asked and what is written; a package."""

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from drafted import init, planned, questions, write
from PIL import Image
from runs import ROOT, fresh_process

from fcit_plugin.cli import main
from fcit_plugin.commands import COMMANDS
from fcit_plugin.commands.command import make_parser
from fcit_plugin.drafts.draft import section_of
from fcit_plugin.errors import FcitError
from fcit_plugin.plugins import registry

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


@pytest.mark.parametrize("answered", range(4))
def test_the_end_of_the_input_ends_it_as_an_interrupt_does(answered, here, monkeypatch, capsys):
    """Ctrl-D at any question: nothing is written, and nothing said."""
    asked(monkeypatch, ["", "a,b", "5", "2"])
    answers = iter(["", "a,b", "5", "2"][:answered])

    def answer(prompt):
        try:
            return next(answers)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", answer)
    files = [str(write("a.json", questions())), str(write("b.json", questions()))]
    before = sorted(Path().rglob("*"))
    monkeypatch.setattr("sys.argv", ["fcit-cli", "init", "--data", *files])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 130 and sorted(Path().rglob("*")) == before
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("terminal", "words"), [(False, ()), (True, ("--yes",)), (True, ("--model", "fcit-mini-text"))])
def test_nothing_is_asked_that_is_said_or_elsewhere_than_on_a_terminal(terminal, words, here, monkeypatch):
    more = ("--clients", 2, "--test", 4, "--stages", "a", "b") if "--model" in words else ()
    questions_asked = asked(monkeypatch, [], terminal)
    init("--data", write("a.json", questions()), write("b.json", questions()), *words, *more)
    assert questions_asked == []


@pytest.mark.parametrize("answer", ["many", "0", "-1", "nan"])
@pytest.mark.parametrize("words", [("--test", 4), ("--clients", 2)])
def test_an_answer_that_is_none_is_refused(answer, words, here, monkeypatch):
    asked(monkeypatch, ["", answer])
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
