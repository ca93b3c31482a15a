"""The examples: their READMEs have commands that there are, and what they print is what they show."""

import json
import re
import runpy
import shlex
import subprocess
import sys
import time

import pytest
from runs import ROOT, run_recipe

from fcit_plugin.commands import COMMANDS, THEIRS
from fcit_plugin.commands.command import make_parser
from fcit_plugin.recipe.read import read_yaml

EXAMPLES = ROOT / "examples"
RUN = runpy.run_path(str(EXAMPLES / "run.py"))
READMES = RUN["readmes"]()


def name_of(readme):
    return str(readme.parent.relative_to(EXAMPLES))


def commands(readme):
    """Each command of a README in one line."""
    text = "".join(step.commands for step in RUN["steps"](readme)).replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip()]


def test_every_example_with_commands_is_run_but_the_one_that_is_installed():
    with_commands = [path for path in EXAMPLES.rglob("README.md") if "```bash" in path.read_text()]
    assert sorted(with_commands) == sorted([*READMES, EXAMPLES / "fcit-mas" / "README.md"])
    assert len(READMES) == 3


@pytest.mark.parametrize("readme", READMES, ids=name_of)
def test_every_verb_of_a_readme_is_one_and_takes_its_flags(readme, monkeypatch, tmp_path):
    parser, verbs = make_parser(COMMANDS), {theirs.name for theirs in THEIRS}
    checked = 0
    for line in commands(readme):
        for call in re.findall(r"fcit-cli (.*?)(?= > | 2>&1| #|;|$)", line):
            words = shlex.split(re.sub(r"\S*\{\S*\}\S*", "file", call).replace("$", ""))
            if words[0] in verbs:
                recipe = readme.parent / words[1]
                assert recipe.suffix == ".yaml" and all("=" in word or word == "--dry-run" for word in words[2:])
                assert recipe.is_file() or f"--out {words[1]}" in " ".join(commands(readme)) or words[1] == "fcit.yaml"
            else:
                parser.parse_args(words)  # exits where it is none
            checked += 1
    assert checked >= 3


@pytest.mark.parametrize("readme", READMES, ids=name_of)
def test_what_a_readme_shows_below_commands_is_long_enough_to_say_something(readme):
    shown = [line for step in RUN["steps"](readme) for line in step.prints if line.strip() != "..."]
    assert len(shown) >= 5


STEP = RUN["Step"]


@pytest.mark.parametrize(
    ("shown", "printed", "missing"),
    [
        (["a 1", "b"], "x\na 2.5\ny\nb\n", []),
        (["b", "a"], "a\nb\n", ["a"]),
        (["a 1"], "b 1\n", ["a 1"]),
        (["...", "Last 81.64   Avg 7"], "Last 3   Avg -0.5\n", []),
        (["Stage 0 begins."], "[INFO|2026-11-29 08:51:02] fcit_plugin.engine.monitor:144 >> Stage 1 begins.\n", []),
    ],
)
def test_what_is_shown_has_to_be_printed_in_its_order(shown, printed, missing):
    assert RUN["not_printed"](STEP("", tuple(shown)), printed) == missing


def test_a_command_that_fails_ends_it_and_what_was_started_ends_with_it(tmp_path, monkeypatch):
    folder = tmp_path / "examples" / "one"
    folder.mkdir(parents=True)
    monkeypatch.setitem(RUN["run"].__globals__, "HERE", tmp_path / "examples")
    readme = folder / "README.md"
    readme.write_text(
        "```bash\nsleep 300 &\necho $! > ../pid; echo begun\n```\n\n```\nbegun\n```\n\n```bash\nfalse\necho no\n```\n"
    )
    with pytest.raises(RuntimeError, match="ended with 1") as caught:
        RUN["run"](readme, tmp_path / "there")
    assert "begun" in str(caught.value) and "no\n" not in str(caught.value)
    pid = (tmp_path / "there" / "pid").read_text().strip()
    for _ in range(100):  # one that has ended may wait to be waited for
        state = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True).stdout.strip()
        if state[:1] in ("", "Z"):
            return
        time.sleep(0.1)
    raise AssertionError(f"it goes on: {state}")


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    """What the hospitals' script writes."""
    folder = tmp_path_factory.mktemp("hospital")
    subprocess.run([sys.executable, EXAMPLES / "hospital" / "notes.py", "--out", folder / "data"], check=True)
    return folder


def test_the_notes_of_each_hospital_are_its_own_and_no_test_record_is_trained_on(notes):
    for name in ("ward", "triage", "dose", "discharge"):
        rows = json.loads((notes / "data" / f"{name}.json").read_text())
        tests = json.loads((notes / "data" / f"{name}_test.json").read_text())
        assert json.loads((notes / "data" / "server" / f"{name}_test.json").read_text()) == tests
        questions = [row["question"] for row in (*rows, *tests)]
        assert len(set(questions)) == len(questions)
        for hospital in ("north", "south", "east", "west"):
            own = json.loads((notes / "data" / hospital / f"{name}.json").read_text())
            assert own and own == [row for row in rows if row["hospital"] == hospital]


def init(readme, folder, monkeypatch, number):
    """Run one of a README's `fcit-cli init` in a folder; returns the recipe's keys."""
    monkeypatch.chdir(folder)
    (line,) = [line for line in commands(readme) if line.startswith("fcit-cli init")][number : number + 1]
    words = subprocess.run(["bash", "-c", f"printf '%s\\n' {line.removeprefix('fcit-cli')}"], capture_output=True, text=True)
    args = make_parser(COMMANDS).parse_args(words.stdout.split())
    args.command.run(args)
    return read_yaml(args.out)


def test_the_hospitals_recipes_are_taken_by_a_dry_run_and_each_hospital_is_a_client(notes, monkeypatch):
    readme = EXAMPLES / "hospital" / "README.md"
    first, later = (init(readme, notes, monkeypatch, number) for number in (0, 1))
    out = run_recipe({**first, "output_dir": "out", "fcit_dry_run": True, "fcit_identity_encoder": "embedding"})
    plan = json.loads((out / "fcit_dry_run.json").read_text())
    assert plan["steps"] > 0 and first["fcit_num_clients"] == 4
    assert (first["fcit_stages"], later["fcit_stages"]) == ([["ward"], ["triage"], ["dose"]], [["discharge"]])


@pytest.mark.slow
@pytest.mark.parametrize("readme", READMES, ids=name_of)
def test_the_commands_of_a_readme_print_what_it_shows(readme, tmp_path):
    printed = RUN["run"](readme, tmp_path / "there", timeout=1800)
    for step, text in zip(RUN["steps"](readme), printed, strict=True):
        assert RUN["not_printed"](step, text) == [], f"{step.commands}\nprinted:\n{text}"
