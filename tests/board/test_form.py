"""What was filled in becomes a recipe, and the recipe a command: pure, without gradio or a model."""

import subprocess
from dataclasses import fields
from types import SimpleNamespace

import pytest
import yaml

from fcit_plugin.arguments.joined import part_keys
from fcit_plugin.arguments.option import Options, option
from fcit_plugin.board.command import RECIPE, command
from fcit_plugin.board.form import OTHERS, own_keys, recipe_of, widgets
from fcit_plugin.board.texts import locales
from fcit_plugin.board.widgets import AXES, Widget
from fcit_plugin.engine.session import WRITTEN
from fcit_plugin.errors import FcitError
from fcit_plugin.hookspecs import hookimpl
from fcit_plugin.parts import KINDS
from fcit_plugin.plugins import registry
from fcit_plugin.recipe.ordinary import check_whole

#: As LLaMA Board's own tab makes them.
TRAINING = {
    "stage": "sft",
    "do_train": True,
    "model_name_or_path": "fcit-mini-text",
    "finetuning_type": "lora",
    "template": "vicuna",
    "dataset_dir": "elsewhere",
    "output_dir": "elsewhere",
    "learning_rate": 5e-05,
    "num_train_epochs": 3.0,
    "lora_rank": 8,
    "lora_target": "all",
    "plot_loss": True,
    "save_steps": 100,
    "preprocessing_num_workers": 16,
    "include_num_input_tokens_seen": True,
    "report_to": "none",
}
CHOICES = [str(KINDS[kind][0]) for kind in AXES]


def filled_in(**changes):
    return {**OTHERS, **{key: widget.value for key, widget in widgets().items()}, "fcit_stages": "a b,c", **changes}


def keys_of(training=TRAINING, **changes):
    return recipe_of({**training}, filled_in(**changes), "saves/x").keys


def test_what_stands_in_the_form_at_first_is_a_recipe():
    draft = recipe_of(TRAINING, filled_in(), "saves/x")
    expected = {
        "stage": "fcit",
        "fcit_local_stage": "sft",
        "output_dir": "saves/x",
        "dataset_dir": "data",
        "learning_rate": 5e-05,
        "fcit_setting": "custom",
        "fcit_stages": [["a"], ["b", "c"]],
        "fcit_num_clients": 4,
        "fcit_method": "disco",
        "val_size": 0.1,
    }
    assert {key: draft.keys.get(key) for key in expected} == expected
    assert not {"dataset", "plot_loss", "save_steps", "fcit_beta", "fcit_engine"} & draft.keys.keys()
    assert draft.said == [f"`stage: sft` is now {draft.said[0].partition(' is now ')[2]}"]
    assert yaml.safe_load(draft.text("A run.")) == draft.keys


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"fcit_num_clients": 7.0}, {"fcit_num_clients": 7}),
        ({"fcit_beta": 0.5}, {"fcit_beta": 0.5}),
        ({"fcit_beta": None}, {"fcit_beta": None}),
        ({"fcit_partition": "natural", "fcit_partition_column": " site "}, {"fcit_partition_column": "site"}),
        ({"fcit_eval_samples": None}, {"fcit_eval_samples": None}),
        ({"fcit_test": 20.0}, {"val_size": 20}),
        ({"fcit_test": 0}, {"val_size": None}),
        ({"max_new_tokens": 5.0}, {"max_new_tokens": 5}),
        ({"fcit_engine": "parallel", "fcit_clients_per_device": 2}, {"fcit_engine": "parallel", "fcit_clients_per_device": 2}),
        ({"fcit_setting": "task_hom"}, {"fcit_setting": "task_hom", "fcit_stages": None, "val_size": None}),
        ({"fcit_server_rule": "fedavg", "fcit_server_momentum": 0.3}, {"fcit_server_rule": None, "fcit_server_momentum": None}),
        ({"fcit_server_rule": "fedavgm", "fcit_server_momentum": 0.3}, {"fcit_server_momentum": 0.3}),
        ({"fcit_extra_args": '{"seed": 3, "fcit_num_rounds": null}'}, {"seed": 3, "fcit_num_rounds": None}),
    ],
)
def test_what_is_filled_in_is_what_the_recipe_says(changes, found):
    keys = keys_of(**changes)
    assert {key: keys.get(key) for key in found} == found


@pytest.mark.parametrize(
    ("training", "changes", "named"),
    [
        ({}, {"fcit_stages": " "}, "fcit_stages"),
        ({}, {"fcit_extra_args": "{"}, "Further keys"),
        ({}, {"fcit_extra_args": "[1]"}, "Further keys"),
        ({"finetuning_type": "full"}, {}, "finetuning_type: lora"),
        ({"stage": "ppo"}, {}, "stage: ppo"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(training, changes, named):
    with pytest.raises(FcitError) as refused:
        keys_of({**TRAINING, **training}, **changes)
    assert named in str(refused.value)


def test_a_run_goes_on_from_the_chosen_checkpoint():
    assert keys_of({**TRAINING, "adapter_name_or_path": "saves/old"})["adapter_name_or_path"] == "saves/old"


@pytest.mark.parametrize("choice", CHOICES)
def test_each_part_has_its_own_keys_in_the_form_and_no_other(choice):
    kind = next(kind for kind in AXES if KINDS[kind][0] == choice)
    for name, part in registry(kind).items():
        own = {item.name for item in fields(part.options)} if part.options else set()
        shown = own_keys(choice, name)
        assert {key for key, (has, _) in shown.items() if has} == own
        defaults = {item.name: item.default for item in fields(part.options)} if part.options else {}
        assert {key: default for key, (has, default) in shown.items() if has} == defaults
        keys = keys_of(**{choice: name, **defaults})
        others = {key.name for key in part_keys().values() if key.kind == kind} - own
        assert not others & keys.keys()
        if choice == "fcit_method":  # all of its keys are shown, to be changed
            assert own <= keys.keys()


@pytest.mark.parametrize("method", registry("methods"))
def test_the_recipe_of_each_method_is_one_that_is_taken(method):
    keys = keys_of(fcit_method=method, fcit_setting="task_hom", **_defaults(method))
    check_whole({**keys, "model_name_or_path": "fcit-mini", "template": "llava"})


def _defaults(method):
    return {key: default for key, (has, default) in own_keys("fcit_method", method).items() if has}


def test_a_key_of_another_package_gets_a_widget_of_its_type(register):
    from dataclasses import dataclass

    @dataclass
    class Mine(Options):
        fcit_mine_share: float = option(0.5, "A share.", above=0)
        fcit_mine_whole: int = option(3, "A count.")
        fcit_mine_switch: bool = option(True, "A switch.")
        fcit_mine_name: str | None = option(None, "A name.")

    class Method:
        activation = "softmax"
        options = Mine

    register(SimpleNamespace(fcit_methods=hookimpl(lambda: {"mine": Method})))
    made = {key: (widget.kind, widget.value, widget.whole) for key, widget in widgets().items() if "mine" in key}
    assert made == {
        "fcit_mine_share": ("number", 0.5, False),
        "fcit_mine_whole": ("number", 3, True),
        "fcit_mine_switch": ("switch", True, False),
        "fcit_mine_name": ("text", None, False),
    }
    keys = keys_of(fcit_method="mine", fcit_mine_share=0.25, fcit_mine_switch=False, fcit_mine_name="")
    assert (keys["fcit_mine_share"], keys["fcit_mine_switch"], keys.get("fcit_mine_name")) == (0.25, False, None)
    assert {texts["info"] for texts in locales(widgets())["fcit_mine_share"].values()} == {"A share."}


@pytest.mark.parametrize(
    ("widget", "value", "expected"),
    [
        (Widget("a", "number", 1, "", whole=True), 3.0, 3),
        (Widget("a", "number", 1, "", whole=True), 3.5, 3.5),
        (Widget("a", "number", 1, ""), 3, 3.0),
        (Widget("a", "number", 1, ""), "", None),
        (Widget("a", "switch", True, ""), 0, False),
        (Widget("a", "text", "", ""), "  ", None),
        (Widget("a", "choice", "x", "", ("x",)), "x", "x"),
        (Widget("a", "choice", "x", "", ("x",)), None, None),
    ],
)
def test_a_widget_reads_what_a_browser_sends(widget, value, expected):
    found = widget.read(value)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("text", ["a: 1\n", "a: 1", "a: |\n  END_OF_RECIPE\nb: it's $HOME `date`\n", "END_OF_RECIPE\n"])
def test_the_command_writes_the_recipe_and_starts_it(tmp_path, text):
    """A shell runs what is shown, with a command of LLaMA-Factory's name that says how it was called."""
    path = tmp_path / "it's a run" / RECIPE
    (tmp_path / "llamafactory-cli").write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    (tmp_path / "llamafactory-cli").chmod(0o755)
    done = subprocess.run(
        ["bash", "-ec", command(text, path)], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == (f"train|{path}|", "")
    assert path.read_text() == (text if text.endswith("\n") else f"{text}\n")


def test_no_run_takes_the_boards_recipe_away():
    assert RECIPE not in WRITTEN
