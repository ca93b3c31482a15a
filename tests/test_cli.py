"""The console script ``fcit-cli``."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny
from runs import fresh_process, report_of, weight_bytes


def test_fcit_cli_train_with_autoload_off_equals_llamafactory_cli_train(text_recipe, tmp_path):
    def train(program, env):
        keys = text_recipe(program, fcit_num_rounds=1)
        recipe = tiny.write_recipe(tmp_path / f"{program}.yaml", keys)
        shown = fresh_process([program, "train", str(recipe), "fcit_eval_samples=4"], env).stdout
        assert "\r" not in shown and "Stage 1 round 0 ends: loss" in shown
        for meaningless in ("input_ids", "Model config", "examples/s", "Offline mode", "Process rank", "it/s]"):
            assert meaningless not in shown
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
    for part in ("fcit-cli data mini --out DIR [--seed N]", "fcit-cli model smollm2-vl --out DIR", "llamafactory-cli"):
        assert part in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data"], "required"),
        (["data", "mini"], "--out"),
        (["data", "smollm2-vl", "--out", "x"], "no verb `data smollm2-vl`"),
        (["model", "mini", "--out", "x"], "no verb `model mini`"),
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


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (1, 1)])
def test_a_verb_of_one_word_or_two_runs_with_its_arguments(result, code, monkeypatch):
    from fcit_plugin import cli
    from fcit_plugin.commands.command import Command

    seen = []

    def run(args):
        seen.append(args.names)
        return result

    one, two = (
        Command(name, "does something", lambda parser: parser.add_argument("names", nargs="+"), run)
        for name in ("one", "two words")
    )
    monkeypatch.setattr(cli, "COMMANDS", (*cli.COMMANDS, one, two))
    for arguments in (["one", "a", "b"], ["two", "words", "c"]):
        monkeypatch.setattr("sys.argv", ["fcit-cli", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert (caught.value.code or 0) == code
    assert seen == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("The file is bent."), "fcit-cli: The file is bent."),
        (ImportError("Install bend."), "fcit-cli: Install bend."),
        (FileNotFoundError(2, "No such file or directory", "here.json"), "fcit-cli: here.json: No such file or directory"),
    ],
)
def test_what_goes_wrong_is_one_line_without_traceback(error, message, monkeypatch):
    assert exit_of_a_verb_that_raises(error, monkeypatch) == message


def exit_of_a_verb_that_raises(error, monkeypatch):
    from fcit_plugin import cli
    from fcit_plugin.commands.command import Command

    def run(args):
        raise error

    monkeypatch.setattr(cli, "COMMANDS", (Command("fail", "fails", lambda parser: None, run),))
    monkeypatch.setattr("sys.argv", ["fcit-cli", "fail"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments",
    [["help"], ["--version"], ["nonsense"], ["recipes"], ["plugins"], ["report", "RUN"], ["data", "--help"], ["version"]],
)
def test_output_that_nobody_reads_ends_it_without_a_word(arguments, unbuffered, text_run):
    """As in ``fcit-cli help | true``: the pipe is closed before the first word."""
    given = [str(text_run) if word == "RUN" else word for word in arguments]
    for closed in ({"stdout"}, {"stdout", "stderr"}):
        ends = {stream: os.pipe() for stream in closed}
        for reading, _ in ends.values():
            os.close(reading)
        streams = {stream: writing for stream, (_, writing) in ends.items()}
        code = "import fcit_plugin.cli as cli; cli.main()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, *given],
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            **{"stderr": subprocess.PIPE, **streams},
        )
        for writing in streams.values():
            os.close(writing)
        said = process.communicate(timeout=120)[1]
        assert process.returncode in (2 if given == ["nonsense"] else 0, 141), (given, process.returncode)
        if given != ["nonsense"] and "stderr" not in closed:
            assert b"Error" not in said and b"Traceback" not in said and b"Exception ignored" not in said, said


def test_what_goes_wrong_is_said_also_where_nobody_reads_the_rest():
    reading, writing = os.pipe()
    os.close(reading)
    code = "import fcit_plugin.cli as cli; cli.main()"
    done = subprocess.run([sys.executable, "-c", code, "report", "/none"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.returncode == 1 and done.stderr.startswith("fcit-cli: /none does not exist;")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BrokenPipeError(32, "Broken pipe"), "fcit-cli: [Errno 32] Broken pipe"),  # of a site, say: both of ours are read
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_pipe_of_others_is_told_and_an_interrupt_is_not(error, code, monkeypatch):
    assert exit_of_a_verb_that_raises(error, monkeypatch) == code


def test_our_verbs_on_data_need_no_torch(process, small_mini, tmp_path):
    code = (
        "import sys, fcit_plugin.cli as c; print(c.usage())\n"
        f"for words in (['verify'], ['prepare', '--out', {str(tmp_path / 'out')!r}]):\n"
        f"    sys.argv = ['fcit-cli', 'data', *words, '--root', {str(small_mini)!r}]\n"
        "    try: c.main()\n"
        "    except SystemExit as done: assert not done.code, done.code\n"
        "assert not {'torch', 'llamafactory', 'datasets', 'transformers'} & set(sys.modules)"
    )
    assert "All green: 12 datasets" in process(["python", "-c", code]).stdout
