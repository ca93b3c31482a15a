"""How a run ends on a user's error: with one sentence where fcit is in play, as ever where it is not."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tiny
from forked import HINT, MARK, command

from fcit_plugin.errors import FcitError, sentence_of


@pytest.fixture
def misspelled(text_recipe, tmp_path):
    """A recipe with a misspelled key."""
    return str(tiny.write_recipe(tmp_path / "r.yaml", text_recipe(fcit_num_client=3)))


def caught(make):
    try:
        make()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_a_users_error_ends_with_one_sentence_and_exit_code_1(misspelled, tmp_path):
    ended = command(["train", misspelled], tmp_path)
    assert ended.code == 1
    (sentence,) = ended.sentences
    assert sentence == "Unknown key `fcit_num_client` in the recipe; the nearest valid key is `fcit_num_clients`."
    assert "Traceback" not in ended.stderr + ended.stdout
    assert ended.stderr.rstrip().endswith(HINT), "it is the last thing that is said"


def test_the_interpreter_itself_ends_alike(misspelled, process, tmp_path):
    shown = process(["llamafactory-cli", "train", misspelled], code=1).stdout
    assert shown.count(MARK) == 1 and "`fcit_num_clients`" in shown and "Traceback" not in shown
    assert not (tmp_path / "out").exists(), "nothing was begun"


@pytest.mark.parametrize("level", ["DEBUG", "debug"])
def test_verbosity_debug_brings_the_traceback_back(misspelled, tmp_path, level):
    ended = command(["train", misspelled], tmp_path, {"LLAMAFACTORY_VERBOSITY": level})
    assert ended.code == 1
    assert ended.sentences == []
    assert "Traceback (most recent call last)" in ended.stderr and "FcitError: Unknown key" in ended.stderr


def test_flags_in_place_of_a_recipe_end_alike(tmp_path):
    ended = command(["train", "--stage", "fcit", "--fcit_num_client", "3"], tmp_path)
    assert (ended.code, len(ended.sentences)) == (1, 1)
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("comment", ["", "# stage: fcit\n# fcit_beta: 1.0\n"])
def test_a_plain_run_shows_its_errors_as_ever(text_recipe, tmp_path, comment):
    keys = {k: v for k, v in text_recipe(stage="sft", template="vicunna").items() if not k.startswith("fcit_")}
    path = tiny.write_recipe(tmp_path / "plain.yaml", keys | {"dataset": "color"})
    path.write_text(comment + path.read_text())
    ended = command(["train", str(path)], tmp_path)
    assert ended.code == 1
    assert ended.sentences == []
    assert "Traceback (most recent call last)" in ended.stderr and "ValueError: Template vicunna" in ended.stderr


def test_a_plain_recipe_that_is_missing_ends_in_a_sentence_with_fcit_cli_only(tmp_path):
    ours = command(["train", "plain.yaml"], tmp_path, program="fcit_plugin.cli")
    assert ours.code == 1 and "Traceback" not in ours.stderr
    assert ["plain.yaml: No such file or directory" in sentence for sentence in ours.sentences] == [True]
    theirs = command(["train", "plain.yaml"], tmp_path)
    assert theirs.sentences == [] and "FileNotFoundError" in theirs.stderr


def test_of_several_processes_the_first_speaks_and_each_tells_torchrun(misspelled, tmp_path):
    for rank in ("0", "1"):
        told = tmp_path / f"rank{rank}.json"
        ended = command(["train", misspelled], tmp_path, {"RANK": rank, "TORCHELASTIC_ERROR_FILE": str(told)})
        assert ended.code == 1 and "Traceback" not in ended.stderr
        assert len(ended.sentences) == (rank == "0")
        message = json.loads(told.read_text())["message"]
        assert "`fcit_num_clients`" in message["message"] and int(message["extraInfo"]["timestamp"]) > 0


def test_the_sentence_is_said_where_torchrun_cannot_be_told(misspelled, tmp_path):
    ended = command(["train", misspelled], tmp_path, {"TORCHELASTIC_ERROR_FILE": "/dev/full"})
    assert (ended.code, len(ended.sentences)) == (1, 1) and "Traceback" not in ended.stderr


class TestSentence:
    def test_a_message_of_several_lines_becomes_one(self):
        def fail():
            raise FcitError("One line,\n  and\tanother.")

        assert sentence_of(caught(fail)) == "One line, and another."

    def test_the_file_of_an_operating_systems_error_is_named(self, tmp_path):
        path = tmp_path / "missing.json"
        assert sentence_of(caught(path.read_text)) == f"{path}: No such file or directory; check that path."

    @pytest.mark.parametrize("times", [1, 2])
    def test_whoever_stops_by_ctrl_c_gets_a_sentence_and_the_shells_exit_code(self, times, tmp_path):
        """Also where Ctrl-C comes again while it cleans up; it is how a site is stopped."""
        program = (
            "import os, signal, time, tqdm\nfrom fcit_plugin.errors import end_in_a_sentence\nend_in_a_sentence()\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background has it ignored
            "try:\n    os.kill(os.getpid(), signal.SIGINT); time.sleep(9)\n"
            f"finally:\n    {'os.kill(os.getpid(), signal.SIGINT); time.sleep(9)' if times == 2 else 'pass'}\n"
        )
        (tmp_path / "run.py").write_text(program)
        ended = subprocess.run([sys.executable, str(tmp_path / "run.py")], stderr=subprocess.PIPE, text=True, check=False)
        assert ended.returncode == -signal.SIGINT
        assert ended.stderr.startswith("fcit-plugin: Stopped by hand; ") and ended.stderr.count("\n") == 1

    def test_no_file_is_spoken_of_where_there_is_none(self):
        said = sentence_of(OSError(24, "Too many open files"))
        assert said == "The operating system says: Too many open files."
        assert "free some space" in sentence_of(OSError(28, "No space left on device"))

    def test_a_missing_package_is_named(self):
        assert "no_such_package" in sentence_of(caught(lambda: __import__("no_such_package")))

    def test_a_failed_child_has_said_it_itself(self):
        error = caught(lambda: subprocess.run(["false"], check=True))
        assert "its own message stands above" in sentence_of(error)

    def test_what_llamafactory_refuses_is_a_sentence_too(self):
        from llamafactory.data.parser import get_dataset_list

        assert "dataset_info.json" in sentence_of(caught(lambda: get_dataset_list(["none"], "no_such_folder")))

    @pytest.mark.parametrize(
        "make",
        [
            lambda: {}["key"],
            lambda: (_ for _ in ()).throw(ValueError("somebody else's")),
            lambda: None + 1,
            lambda: [].pop(),
            lambda: (lambda a, b: 0)(*"ab", "c"),
            lambda: np.zeros(2) + np.zeros(3),  # ValueErrors that nobody wrote a sentence for
            lambda: dict([(1, 2, 3)]),
            lambda: (lambda pair: [a for a, b in [pair]])((1, 2, 3)),
        ],
    )
    def test_a_programmers_error_keeps_its_traceback(self, make):
        assert sentence_of(caught(make)) is None

    def test_the_hook_leaves_them_to_the_one_before(self, monkeypatch):
        from fcit_plugin import errors

        seen = []
        monkeypatch.setattr("sys.excepthook", lambda *args: seen.append(args))
        errors.end_in_a_sentence()
        errors.end_in_a_sentence()
        error = caught(lambda: {}["key"])
        errors.sys.excepthook(type(error), error, error.__traceback__)
        assert seen == [(KeyError, error, error.__traceback__)]


class TestInPlay:
    @pytest.mark.parametrize(
        ("given", "ours"),
        [
            (["--stage", "fcit"], True),
            (["--stage=fcit_client"], True),
            (["--fcit_beta", "1"], True),
            (["--stage", "sft", "--output_dir", "saves/fcit_mini"], False),
            ({"stage": "fcit"}, True),
            ({"stage": "sft", "fcit_beta": 1}, True),
            ({"stage": "sft", "model_name_or_path": "fcit-mini"}, False),
            ({"stage": "sft", "adapter_name_or_path": "saves/fcit_mini/disco"}, False),
            ({}, False),
            ([], False),
        ],
    )
    def test_by_stage_and_keys(self, given, ours, monkeypatch):
        from fcit_plugin.recipe.watch import watch

        monkeypatch.setattr("sys.excepthook", print)
        assert watch(given) is ours

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-16-le", "cp1252"])
    @pytest.mark.parametrize("key", ["stage: fcit", "fcit_num_clients: 3"])
    def test_a_recipe_in_whatever_encoding_and_what_cannot_be_read_is_a_sentence(self, key, encoding, tmp_path, monkeypatch):
        from omegaconf import OmegaConf

        from fcit_plugin.recipe.read import read_recipe
        from fcit_plugin.recipe.watch import watch

        monkeypatch.setattr("sys.excepthook", print)
        text = f"model_name_or_path: modèle\n{key}\n"
        mark = "\ufeff" if encoding in ("utf-16-be", "utf-16-le") else ""
        recipe = tmp_path / "r.yaml"
        recipe.write_text(mark + text, encoding=encoding)
        assert watch([str(recipe)])
        if encoding == "utf-8-sig":
            assert read_recipe(lambda: OmegaConf.load(recipe), [str(recipe)])["model_name_or_path"] == "modèle"
            return
        with pytest.raises(FcitError, match=r"The recipe .*r\.yaml cannot be read: .* in UTF-8\.$"):
            read_recipe(lambda: OmegaConf.load(recipe), [str(recipe)])

    @pytest.mark.parametrize("as_list", [False, True])
    def test_by_an_fcit_folder(self, text_run, tmp_path, monkeypatch, as_list):
        from fcit_plugin.recipe.watch import watch

        monkeypatch.setattr("sys.excepthook", print)
        folder = str(text_run)
        assert watch({"adapter_name_or_path": [folder, "other"] if as_list else f"other,{folder}"})
        assert watch(["--adapter_name_or_path", folder, "--template", "vicuna"])
        recipe = tmp_path / "chat.yaml"
        recipe.write_text(f"adapter_name_or_path: {folder}\ntemplate: vicuna\n")
        assert watch([str(recipe)])
        assert not watch({"adapter_name_or_path": os.path.dirname(folder)})

    @pytest.mark.parametrize("name", ["my run", "a run, of mine", "run", " two  blanks", "a\tb"])
    def test_by_an_fcit_folder_of_any_name(self, name, text_run, tmp_path, monkeypatch):
        from fcit_plugin.recipe.watch import watch

        monkeypatch.setattr("sys.excepthook", print)
        folder = tmp_path / name
        folder.symlink_to(text_run)
        if "," not in name:  # a comma stands between adapters, in LLaMA-Factory too
            assert watch({"adapter_name_or_path": f"{folder}"})
            assert watch(["--template", "vicuna", "--adapter_name_or_path", str(folder), "--top_p", "0.5"])
            assert watch([f"adapter_name_or_path={folder}", "template=vicuna"])
        recipe = tmp_path / "a recipe.yaml"
        for text in (f'adapter_name_or_path: "{folder}"\n', f"adapter_name_or_path:\n- {folder}\n"):
            recipe.write_text(text)
            assert watch([str(recipe)]) is ("," not in name)


def test_a_sentence_does_nothing_to_a_terminal():
    said = str(FcitError("client \x1b[2J\x07\u202eevil\r is\tleft\nout: é 🇩🇪 \N{ZERO WIDTH NON-JOINER}"))
    assert said == "client \\x1b[2J\\x07\\u202eevil\\r is left out: é 🇩🇪 \N{ZERO WIDTH NON-JOINER}"
