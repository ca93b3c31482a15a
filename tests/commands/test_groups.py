"""The verbs of ``fcit-cli``: each stands in a group, is helped with, completed, and found when it is misspelt."""

import ast
import importlib
import inspect
import pkgutil
import re
import shutil
import subprocess
from collections import Counter

import pytest

from fcit_plugin import commands
from fcit_plugin.cli import main, usage
from fcit_plugin.commands import COMMANDS, GROUPS, THEIRS
from fcit_plugin.commands.command import Command

VERBS = [verb for group in GROUPS for verb in group.verbs]


def run(monkeypatch, *arguments):
    """What fcit-cli ends with."""
    monkeypatch.setattr("sys.argv", ["fcit-cli", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_every_verb_that_a_module_has_is_in_exactly_one_group():
    found = {}
    for module in pkgutil.iter_modules(commands.__path__):
        for value in vars(importlib.import_module(f"{commands.__name__}.{module.name}")).values():
            if isinstance(value, Command):
                found[value.name] = value
    grouped = Counter(verb.name for verb in VERBS)
    assert found.keys() <= grouped.keys()
    assert [name for name, count in grouped.items() if count > 1] == []
    assert {verb.name for verb in THEIRS}.isdisjoint(verb.name.split()[0] for verb in COMMANDS)


def test_every_verb_of_llamafactory_is_in_a_group():
    """Its launcher knows a verb by comparing with its name; `help` is ours, and `eval` raises that it is deprecated."""
    from llamafactory import launcher

    compared = [node for node in ast.walk(ast.parse(inspect.getsource(launcher))) if isinstance(node, ast.Compare)]
    names = {
        node.comparators[0].value
        for node in compared
        if isinstance(node.left, ast.Name) and node.left.id == "command" and isinstance(node.comparators[0], ast.Constant)
    }
    assert {"train", "api"} <= names
    assert names - {"help", "eval"} == {verb.name for verb in THEIRS}


def test_samples_of_the_projects_own_come_last_and_init_first():
    assert VERBS[0].name == "init"
    builders = {
        "data mini",
        "data text",
        "data hard",
        "data standin",
        "data real",
        "data reasoning",
        "model smollm2",
        "model smollm2-vl",
    }
    assert {verb.name for verb in GROUPS[-1].verbs} == builders


def test_the_help_has_every_group_and_verb_in_lines_of_a_terminal():
    shown = usage()
    flat = " ".join(shown.split())
    for group in GROUPS:
        assert f"\n{group.title}:\n" in shown
        for verb in group.verbs:
            assert f"fcit-cli {verb.name}" in flat and " ".join(verb.help.split()) in flat
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize("verb", COMMANDS, ids=lambda verb: verb.name)
def test_every_verb_says_what_its_arguments_are(verb, monkeypatch, capsys):
    assert run(monkeypatch, *verb.name.split(), "--help") == 0
    assert verb.help[1:] in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("verb", [*COMMANDS, *THEIRS], ids=lambda verb: verb.name)
def test_a_misspelt_verb_gets_the_nearest(verb, monkeypatch, capsys):
    *first, last = verb.name.split()
    typed = [*first, last[0] + last[2] + last[1] + last[3:] if len(last) > 3 else last + "x"]
    assert typed != verb.name.split()
    assert run(monkeypatch, *typed) == 2
    assert f"did you mean `fcit-cli {verb.name}`?" in capsys.readouterr().err


def test_what_is_like_no_verb_is_not_guessed(monkeypatch, capsys):
    assert run(monkeypatch, "qqqqqq") == 2
    assert capsys.readouterr().err == "fcit-cli: there is no verb `qqqqqq`. `fcit-cli help` lists all of them.\n"


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_is_the_plugins(flag, monkeypatch, capsys):
    from fcit_plugin import __version__

    monkeypatch.setattr("sys.argv", ["fcit-cli", flag])
    main()
    assert capsys.readouterr().out == f"fcit-plugin {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_is_a_script_with_every_verb(shell, monkeypatch, capsys, tmp_path):
    assert not run(monkeypatch, "completion", shell)
    script = capsys.readouterr().out
    for verb in VERBS:
        assert re.search(rf"\b{re.escape(verb.name.split()[-1])}\b", script), verb.name


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize(
    ("words", "found"),
    [(["re"], {"recipes", "report"}), (["data", "v"], {"verify"}), (["init", "--me"], {"--method"}), (["tra"], {"train"})],
)
def test_bash_completes_verbs_and_flags(words, found, monkeypatch, capsys, tmp_path):
    run(monkeypatch, "completion", "bash")
    (tmp_path / "script").write_text(capsys.readouterr().out)
    line = " ".join(f"'{word}'" for word in ["fcit-cli", *words])
    asks = f"source ./script; COMP_WORDS=({line}); COMP_CWORD={len(words)}; "
    asks += 'name=$(complete -p fcit-cli | grep -o "\\-F [^ ]*" | cut -c4-); $name; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", asks], cwd=tmp_path, capture_output=True, text=True)
    assert found <= set(done.stdout.split()), done.stderr
