"""What a stranger's code does wrong in a run is said with its package, file and line; its keys are like ours."""

import importlib
import json
import os
import re
import sys

import pytest
import tiny
from forked import command
from llamafactory.hparams import get_train_args
from runs import report_of, run_recipe
from strangers import line_of, method
from toy import Toy

from fcit_plugin import plugins
from fcit_plugin.arguments import FcitArguments, check_names
from fcit_plugin.commands.command import make_parser
from fcit_plugin.commands.compare import COMPARE
from fcit_plugin.compare.cell_state import prepare
from fcit_plugin.compare.grid_file import GridFile
from fcit_plugin.errors import FcitError, end_in_a_sentence

CODE = """
from flwr.serverapp.strategy import FedAvg
from fcit_plugin.continual.method import ContinualMethod
from fcit_plugin.continual.terms import GradientTerm
from fcit_plugin.federation.rules import ALL_NODES

class Term(GradientTerm):
    def add(self, weights):
        {in_client}

class Stranger(ContinualMethod):
    def terms(self, sent):
        return [Term()]

class Rule(FedAvg):
    def __init__(self):
        super().__init__(**ALL_NODES)
        self.rounds = 0

    def aggregate_train(self, server_round, replies):
        {in_server}
        return super().aggregate_train(server_round, replies)

    {more}

def rule(args):
    return Rule()

def fail(*_):
    {in_client}
"""
RULE = """
@hookimpl
def fcit_server_rules():
    return {"strange": ServerRule("somebody.code:rule")}
"""


@pytest.fixture
def stranger(install):
    """Installs a package with a method and a rule that do what is given; returns the file."""

    def add(in_client="pass", in_server="pass", more="", head=""):
        code = head + CODE.format(in_client=in_client, in_server=in_server, more=more)
        return install("somebody", method() + RULE, modules={"code": code}) / "code.py"

    return add


def test_a_part_that_cannot_be_loaded(stranger):
    place = line_of(stranger(head="import no_such_package\n"), "no_such_package")
    with pytest.raises(FcitError) as caught:
        FcitArguments(fcit_method="Stranger")
    assert str(caught.value) == (
        "`Stranger` of somebody 1.0 (somebody.code:Stranger) cannot be loaded: "
        f"ModuleNotFoundError: No module named 'no_such_package' ({place})."
    )


def failing(toy_keys=None):
    """A toy federation in which client 2 runs a function of the stranger's."""

    def wrap(app):
        def run(message, context):
            if context.node_id == 2:
                importlib.import_module("somebody.code").fail()
            return app(message, context)

        return run

    return Toy(wrap=wrap, **(toy_keys or {}))


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("undefined", "NameError"),
        ("None.weights", "AttributeError"),
        ("None + 1", "TypeError"),
        ("raise NotImplementedError", "NotImplementedError"),
        ("import no_such_package", "ModuleNotFoundError"),
    ],
)
def test_a_programmers_error_in_a_client_ends_the_run_at_once(stranger, code, error):
    file = stranger(in_client=code)
    place = str(file)
    toy = failing()
    with pytest.raises(FcitError) as caught:
        toy.round()
    assert str(caught.value).startswith(f"The plugin `somebody` of somebody 1.0 failed at {place}:")
    assert f" with {error}: " in str(caught.value)
    assert toy.heard.dropped == [] and toy.heard.ended == 0


def test_a_package_says_itself_that_it_cannot_use_a_clients_data(stranger):
    stranger(in_client="raise FcitError('its records name no speaker')", head="from fcit_plugin.errors import FcitError\n")
    toy = failing()
    toy.round()
    assert [(row["client"], row["reason"]) for row in toy.heard.dropped] == [(2, "its records name no speaker")]


@pytest.mark.parametrize("code", ["{}['x']", "int('x')", "1 / 0", "assert False"])
def test_any_other_error_of_a_package_ends_the_run_as_itself_and_names_the_package(stranger, code):
    file, toy = stranger(in_client=code), failing()
    with pytest.raises((KeyError, ValueError, ZeroDivisionError, AssertionError)) as caught:
        toy.round()
    assert plugins.blame(caught.value).startswith(f"The plugin `somebody` of somebody 1.0 failed at {file}:")
    assert toy.heard.dropped == [] and toy.heard.ended == 0


def test_a_programmers_error_in_a_rule_is_nobodys_failure(stranger):
    place = line_of(stranger(in_server="undefined"), "undefined")
    with pytest.raises(NameError) as caught:
        Toy(fcit_server_rule="strange").round()
    blamed = plugins.blame(caught.value)
    assert blamed == f"The plugin `somebody` of somebody 1.0 failed at {place} with NameError: name 'undefined' is not defined."


def test_nobody_is_blamed_for_an_error_that_is_not_theirs(stranger):
    stranger()
    with pytest.raises(AttributeError, match="'object' object has no attribute 'token'") as caught:
        Toy(fcit_server_rule="strange", local=object()).round()
    assert plugins.blame(caught.value) is None


COUNTS = "self.rounds += 1"
STATE = """def state(self):
        return {"rounds": np.array(self.rounds)}

    def load_state(self, arrays):
        self.rounds = int(arrays["rounds"])
"""


@pytest.mark.parametrize("value", ["self.rounds + 1", "'a'", "(1.0,)", "[1.0]", "{'a': 1.0}", "{1}", "object()"])
def test_a_rule_that_remembers_what_is_not_kept_is_refused(stranger, value):
    stranger(in_server=f"self.rounds = {value}")
    with pytest.raises(FcitError, match=r"somebody.code.Rule remembers `rounds`, .* give the rule `state\(\)`"):
        Toy(fcit_server_rule="strange").round()


def test_a_rule_that_says_what_it_remembers_counts_on(stranger):
    stranger(in_server=COUNTS, more=STATE, head="import numpy as np\n")
    toy = Toy(fcit_server_rule="strange")
    state = toy.round(toy.round())
    assert {owner: state.rules[f"{owner}/rounds"].item() for owner in (0, 1, "shared")} == {0: 2, 1: 2, "shared": 2}


def test_a_missing_package_is_said_with_who_asks_for_it(stranger, capsys, monkeypatch):
    place = line_of(stranger(in_client="import no_such_package  # in the client"), "def fail").rpartition(":")[0]
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    end_in_a_sentence(plugins.blame)
    plugins.manager()
    try:
        importlib.import_module("somebody.code").fail()
    except ImportError:
        sys.excepthook(*sys.exc_info())
    shown = capsys.readouterr().err
    assert f"fcit-plugin: The plugin `somebody` of somebody 1.0 failed at {place}:" in shown and "Traceback" not in shown


def test_a_run_ends_with_the_package_the_file_and_the_line(stranger, text_recipe, tmp_path):
    file = stranger(in_client="undefined", in_server="undefined")
    line = file.read_text().splitlines().index("        undefined") + 1
    keys = text_recipe(fcit_method="Stranger", fcit_server_rule="strange")
    ended = command(["train", str(tiny.write_recipe(tmp_path / "r.yaml", keys))], tmp_path)
    assert ended.code == 1 and "Traceback" not in ended.stderr
    (sentence,) = ended.sentences
    assert (
        sentence
        == f"The plugin `somebody` of somebody 1.0 failed at {file}:{line} with NameError: name 'undefined' is not defined."
    )
    assert "left out" not in ended.stdout + ended.stderr, "no client is blamed"

    keys |= {"fcit_method": "sequential", "output_dir": str(tmp_path / "other")}
    ended = command(["train", str(tiny.write_recipe(tmp_path / "r.yaml", keys))], tmp_path)
    line = len(file.read_text().partition("server_round, replies):")[0].splitlines()) + 1
    assert ended.code == 1 and "Traceback" in ended.stderr, "where a rule was called from helps"
    assert ended.sentences[-1].startswith(f"The plugin `somebody` of somebody 1.0 failed at {file}:{line} with NameError: ")


def test_a_refusal_of_a_key_that_is_none(install, text_recipe):
    install(
        "somebody",
        method(refuses="{'fp61': 'cannot'}"),
        modules={"code": CODE.format(in_client="pass", in_server="pass", more="")},
    )
    with pytest.raises(
        FcitError, match=r"`fcit_method: Stranger` of somebody 1.0 cannot go with `fp61`, .* nearest one is `fp16`"
    ):
        get_train_args(text_recipe(fcit_method="Stranger"))


def test_a_strangers_key_is_one_like_ours(stranger, text_recipe, tmp_path, capsys):
    """In the help, the spelling, the refusals, the report, when a run goes on, and in a grid."""
    stranger()
    shown = command(["train", "-h"], tmp_path)
    assert re.search(r"--fcit_own FCIT_OWN\b[^()]+A key of its own. \(Stranger: default 1.5\)", " ".join(shown.stdout.split()))
    with pytest.raises(FcitError, match="Unknown key `fcit_owm` in the recipe; the nearest valid key is `fcit_own`"):
        check_names(["fcit_owm"])
    with pytest.raises(FcitError, match="`fcit_own` belongs to `fcit_method` Stranger; the method is disco"):
        FcitArguments(fcit_own=2.0)
    with pytest.raises(FcitError, match="`fcit_own` takes a value of type float, got 'much'"):
        FcitArguments(fcit_method="Stranger", fcit_own="much")
    assert FcitArguments(fcit_method="Stranger").fcit_own == 1.5

    base = text_recipe(fcit_method="Stranger", fcit_num_rounds=1, fcit_zero_shot=False, fcit_eval_restricted=False)
    tiny.write_recipe(tmp_path / "base.yaml", base)
    rows = {"default": {}, "strong": {"fcit_own": 3.0}}
    grid_keys = {
        "base": "base.yaml",
        "output_dir": str(tmp_path / "cells"),
        "document": str(tmp_path / "grid.md"),
        "rows": rows,
    }
    path = tiny.write_recipe(tmp_path / "grid.yaml", grid_keys | {"settings": {"custom": {}}, "plots": []})
    strong = next(cell for cell in GridFile(path).cells if cell.row == "strong")
    prepare(strong)
    run_recipe(strong.keys)
    assert report_of(strong.folder)["arguments"]["fcit_own"] == 3.0
    with pytest.raises(FcitError, match=r"`fcit_own` was 3.0 and is 1.5"):
        run_recipe({key: value for key, value in strong.keys.items() if key != "fcit_own"})

    results = tmp_path / "results.jsonl"
    COMPARE.run(make_parser([COMPARE]).parse_args(["compare", str(path), "--report-only", "--to", str(results)]))
    assert json.loads(results.read_text())["report"]["arguments"]["fcit_own"] == 3.0
    assert "| strong | 1 |" in (tmp_path / "grid.md").read_text()
    rows["strong"]["fcit_own"] = 4.0
    tiny.write_recipe(path, grid_keys | {"settings": {"custom": {}}})
    COMPARE.run(make_parser([COMPARE]).parse_args(["compare", str(path), "--dry-run"]))
    assert re.search(r"strong/seed1 +made from other keys", capsys.readouterr().out)


def test_plugins_are_listed_with_who_registered_what(install, process, tmp_path):
    code = method() + "\n@hookimpl\ndef fcit_intercept_reply(request, reply):\n    return None\n"
    install("somebody", code)
    shown = process(["fcit-cli", "plugins"], {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), *sys.path])}).stdout
    assert re.search(r"^  Stranger +somebody 1.0 +fcit_own \(1.5\)$", shown, re.MULTILINE)
    assert re.search(r"^  ewc +fcit-plugin \S+ +fcit_ewc_lambda \(1000\), fcit_ewc_samples \(64\)$", shown, re.MULTILINE)
    assert "replies of clients are intercepted by somebody 1.0" in shown


def test_the_keys_load_neither_torch_nor_flower(process):
    code = "import sys, fcit_plugin.arguments as a; a.FcitArguments.joined(); print(*sys.modules)"
    assert not {"torch", "transformers", "flwr", "llamafactory"} & set(process(["python", "-c", code]).stdout.split())
