"""A command line reaches each process of torchrun word by word, whatever stands in it: LLaMA-Factory splits it at blanks."""

import json
import subprocess
import sys

import pytest
from llamafactory import launcher

#: In a recipe's name or in a value: what a text that is split at blanks, formatted or read by a shell would not give back.
WORDS = (
    "May 3",
    "two  blanks",
    "a\tb",
    "a\nb",
    " around ",
    "'quoted'",
    '"',
    "{args}",
    "%s",
    "$HOME",
    "a;b",
    "*",
    "ä ö",
    "--x y",
)


@pytest.fixture
def torchrun(tmp_path, monkeypatch):
    """A torchrun in front of PATH that tells its own command line; gives what LLaMA-Factory's launcher hands to it."""
    program, told = tmp_path / "bin" / "torchrun", tmp_path / "told.json"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport json, sys\njson.dump(sys.argv[1:], open({str(told)!r}, 'w'))\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")

    def launch(*words, **env):
        for key, value in {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "2", **env}.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setattr(sys, "argv", ["llamafactory-cli", "train", *words])
        with pytest.raises(SystemExit) as ended:
            launcher.launch()
        assert ended.value.code == 0 and launcher.subprocess is subprocess, "LLaMA-Factory is left as it was"
        return json.loads(told.read_text())

    return launch


def recipe(folder, name="r.yaml"):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("stage: fcit\n")
    return str(path)


@pytest.mark.parametrize("env", [{}, {"RDZV_ID": "7"}], ids=["one try", "elastic"])
@pytest.mark.parametrize("word", WORDS)
def test_a_recipe_and_values_of_any_names_arrive_whole(word, env, torchrun, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # which is put back
    given = [recipe(tmp_path, f"{word}/{word}.yaml"), f"output_dir=saves/{word}", "--dry-run", f"fcit_method={word}", ""]
    command = torchrun(*given, **env)
    assert command[-len(given) - 1 :] == [launcher.__file__, *given]
    assert [part for part in command[: -len(given) - 1] if word in part] == []


def test_llamafactory_in_a_folder_with_a_blank_is_started_too(torchrun, tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "__file__", "/my env/llamafactory/launcher.py")
    assert torchrun(recipe(tmp_path))[-2:] == ["/my env/llamafactory/launcher.py", recipe(tmp_path)]


def test_what_is_none_of_ours_is_left_alone(torchrun, tmp_path):
    """And this is why it is needed: the day that LLaMA-Factory hands words on whole, this test fails, and the seam can go."""
    plain = tmp_path / "my plain.yaml"
    plain.write_text("stage: sft\n")
    assert torchrun(str(plain))[-2:] == str(plain).split()
