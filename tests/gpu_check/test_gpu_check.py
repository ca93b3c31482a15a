"""``fcit-cli gpu-check`` without a GPU: how checks end, what is told, and the checks themselves on the CPU."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from forked import command

from fcit_plugin.cli import main
from fcit_plugin.gpu_check.bench import Bench
from fcit_plugin.gpu_check.check import Check, NotHeldError, Outcome, hold
from fcit_plugin.gpu_check.checks import CHECKS
from fcit_plugin.gpu_check.results import check_alike, check_sound
from fcit_plugin.gpu_check.runner import OUTCOME, machine, make, make_all, table

BY_NAME = {check.name: check for check in CHECKS}
ON_CPU = [check for check in CHECKS if check.on_cpu is None]


def never(bench):
    """Stands for what a check does, which is done in another process."""
    raise AssertionError


CHECK = Check("some", "something", never, limit=0.4)
HELD = {"word": "held", "told": "7"}
#: What a check's process does, and how the check ends.
PROGRAMS = {
    "writes": (f"import sys; open(sys.argv[3] + '/{OUTCOME}', 'w').write('{json.dumps(HELD)}')", "held", "7"),
    "crashes": ("import os; print('last words', flush=True); os.abort()", "failed", "its process ended with -6"),
    "hangs": ("import time; print('last words', flush=True); time.sleep(99)", "failed", "not done after 2 s"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_check_that_crashes_or_hangs_is_a_row_like_any_other(name, tmp_path):
    code, word, told = PROGRAMS[name]
    outcome = make(CHECK, "cpu", tmp_path, program=[sys.executable, "-c", code])
    assert (outcome.word, outcome.told) == (word, told)
    assert outcome.log == ([] if word == "held" else ["last words"])


def test_a_check_that_hangs_leaves_no_process_behind_not_even_torchruns(tmp_path):
    sleeper = "import os, time; print(os.getpid(), flush=True); time.sleep(99)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {sleeper!r}], start_new_session=True)"
    outcome = make(CHECK, "cpu", tmp_path, program=[sys.executable, "-c", code])
    (pid,) = map(int, outcome.log)
    assert outcome.told == "not done after 2 s"
    ended = Path("/proc") / str(pid) / "cmdline"
    assert not ended.exists() or not ended.read_bytes(), "it is there no more, or nobody has taken notice of its end"


def test_what_is_left_when_the_time_is_over_is_skipped_and_said():
    told = []
    outcomes = make_all([CHECK, CHECK], "cpu", told.append, seconds=1)
    assert outcomes == told and {outcome.word for outcome in outcomes} == {"skipped"}
    assert all("no time was left" in outcome.told for outcome in outcomes)


def test_the_table_is_markdown_whatever_a_check_says():
    rows = table([Outcome(CHECK, "failed", "a | b\nc", 3.2)])
    assert rows[-1] == "| some | something | failed | 3 | a / b c |"
    assert len({row.count("|") for row in rows}) == 1
    assert any("CPU" in line for line in machine("cpu")) and any("torch 2" in line for line in machine("cpu"))


def test_names_of_checks_are_told_apart_and_each_says_what_it_asserts():
    assert len(BY_NAME) == len(CHECKS) >= 15
    assert all(check.asserts and check.run.__doc__ for check in CHECKS)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gpu-check"], "PyTorch finds no GPU here"),
        (["gpu-check", "bf61"], "There is no check 'bf61': did you mean `bf16`?"),
    ],
)
def test_without_a_gpu_or_with_a_wrong_name_it_ends_in_a_sentence(arguments, sentence, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["fcit-cli", *arguments])
    with pytest.raises(SystemExit, match=re.escape(sentence)):
        main()


def test_the_list_and_a_skipped_check_need_no_gpu(tmp_path):
    listed = command(["gpu-check", "--list"], tmp_path, program="fcit_plugin.cli").stdout.splitlines()
    assert [line.split()[0] for line in listed] == list(BY_NAME)
    ended = command(["gpu-check", "--device", "cpu", "fa2"], tmp_path, program="fcit_plugin.cli")
    assert ended.code == 0 and "| fa2 |" in ended.stdout and "0 held, 0 failed, 1 skipped." in ended.stdout


def test_what_does_not_hold_is_seen(text_run, tmp_path):
    with pytest.raises(NotHeldError, match="no"):
        hold(False, "no")
    assert "2 subspaces" in check_sound(text_run)
    assert check_alike(text_run, text_run, 0.0, scores=True) == "weights 0.0e+00 apart"
    other = tmp_path / "other"
    shutil.copytree(text_run, other)
    report = json.loads((other / "fcit_report.json").read_text())
    (other / "fcit_report.json").write_text(json.dumps(report | {"dropped": [{"client": 3}]}))
    with pytest.raises(NotHeldError, match="dropped"):
        check_sound(other)
    shutil.copy(text_run / "subspaces/1/adapter_model.safetensors", other / "subspaces/0/adapter_model.safetensors")
    with pytest.raises(NotHeldError, match="apart, more than"):
        check_alike(other, text_run, 1e-3)


def test_a_cheap_check_holds_on_the_cpu(tmp_path):
    assert "tokens/s" in BY_NAME["step"].run(Bench("cpu", tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("check", ON_CPU, ids=lambda check: check.name)
def test_every_check_that_a_cpu_can_make_holds_there(check, tmp_path):
    outcome = make(check, "cpu", tmp_path)
    assert outcome.word in ("held", "skipped"), "\n".join([outcome.told, *outcome.log])
