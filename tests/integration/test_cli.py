"""The console script ``fcit-cli``."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny
from runs import fresh_process, report_of, weight_bytes


def test_fcit_cli_train_with_autoload_off_equals_llamafactory_cli_train(text_recipe, tmp_path):
    def train(program, env):
        keys = text_recipe(program, fcit_num_rounds=1)
        recipe = tiny.write_recipe(tmp_path / f"{program}.yaml", keys)
        fresh_process([program, "train", str(recipe), "fcit_eval_samples=4"], env)
        return tmp_path / program

    with ThreadPoolExecutor() as pool:
        ours = pool.submit(train, "fcit-cli", {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"})
        theirs = pool.submit(train, "llamafactory-cli", {})
    assert report_of(ours.result()) == report_of(theirs.result())
    assert weight_bytes(ours.result()) == weight_bytes(theirs.result())


@pytest.mark.parametrize("arguments", [[], ["help"], ["-h"], ["--help"]])
def test_usage_names_the_verbs(arguments, capsys, monkeypatch):
    from fcit_plugin.cli import main

    monkeypatch.setattr("sys.argv", ["fcit-cli", *arguments])
    main()
    shown = capsys.readouterr().out
    for part in ("fcit-cli data mini --out DIR", "fcit-cli model smollm2-vl --out DIR", "llamafactory-cli"):
        assert part in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data"], "required"),
        (["data", "mini"], "--out"),
        (["data", "smollm2-vl", "--out", "x"], "'smollm2-vl'"),
        (["model", "mini", "--out", "x"], "'mini'"),
        (["data", "nonsense", "--out", "x"], "nonsense"),
    ],
)
def test_a_wrong_verb_is_said_in_words(arguments, message, capsys, monkeypatch):
    from fcit_plugin.cli import main

    monkeypatch.setattr("sys.argv", ["fcit-cli", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code not in (0, None)
    assert message in capsys.readouterr().err


def test_other_commands_go_to_llamafactory(process):
    assert "LLaMA Factory, version" in process(["fcit-cli", "version"], {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}).stdout
