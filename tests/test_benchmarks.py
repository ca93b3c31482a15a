"""The scripts in benchmarks/ run, in a tiny form, and print the figures that they are for. No time is asserted."""

import logging
import os
import re
import runpy
import subprocess
import sys

import pytest
from runs import ROOT

#: Script -> arguments of its tiny form, and what it must print.
TINY = {
    "activation": (["--sizes", "8x16", "--subspaces", "1", "4", "--repeats", "2"], r"8x16 +4 +prefill +[\d.]+ +[\d.]+ +2\.80"),
    "imports": (["--repeats", "1"], r"the plugin adds [\d.]+ ms[\s\S]*ratio with it [\d.]+"),
    "local_training": (["--steps", "1", "--repeats", "1"], r"fcit / plain: [\d.]+"),
    "parallel": (
        ["--repeats", "1", "max_steps=1", "fcit_clients_per_round=2"],
        r"two processes, one thread each : one process",
    ),
    "peers": (["--rounds", "1"], r"3 rounds: [\d.]+ of the peer's seconds"),
}


#: Script -> what its form ``--tiny`` must print.
RUNS = {
    "aggregation": r"replies +stream, MiB[\s\S]*\n +6 +[\d.-]+ +[\d.-]+ +",
    "memory": r"ratio to client 5\n[\s\S]*\n +10 +[\d.]+ +[\d.]+",
    "foreign": r"\| area [\s\S]*\| prompt \| 0\.\d{3} [\s\S]*prompt \| keeps 95 % \| 0",
    "network": r"SuperLink, MiB[\s\S]*\n +2 +[\d.]+ +[\d.]+ ",
    "poisoning": r"domination \{'score': [\s\S]*squatting \{'score': [\d.]+, 'subspaces': \d",
    "organizer": r"clients +subspaces[\s\S]*\n +200 +\d+ ",
    "routing": r"% right[\s\S]*\| prompt \| \d+\.\d \(\d+-\d+\)[\s\S]*embedding - prompt \| [+-]\d+\.\d \(",
    "scale": r"s a record, ratio\n[\s\S]*dry run of the 7B's recipe +3,200 +[\d.]+ ",
    "server_round": r"judging +[\d.]+ [\s\S]*server: [\d.]+ CPU s a round, [\d.]+ SHA-256 passes",
    "prompt_cost": r"share\n +1 +1 +[\d.e+]+ +[\d.e+]+ +[\d.]+%\n +2 +3 [\s\S]*\n +4 +\d ",
    "round_overhead": r"beyond training steps: [\d.]+ % of a round",
    "thresholds": r"beta 0\.3: [\s\S]*\n +prompt +\d+, \d+ % [\s\S]*beta 5: [\s\S]*two wordings",
    "turns": r"rule +one turn[\s\S]*\n +auto +100\.0 [\s\S]*\n +first, 0\.6 ",
    "traffic": r"up, kB a client and round +\d+[\s\S]*up with int8 +\d+",
}
#: What scripts share.
HELPERS = ("timing.py", "measure.py", "instructions.py", "routed.py")
#: Those that train clients or start processes, which takes half a minute and more.
SLOW = ("imports", "local_training", "memory", "network", "parallel", "peers", "round_overhead", "scale", "traffic")
#: Those without a tiny form that models in this repository would do for.
NOT_RUN = ("token_privacy",)


def all_of(names):
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in names]


@pytest.mark.parametrize("name", all_of(TINY))
def test_the_script_prints_its_figures(name):
    arguments, expected = TINY[name]
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(expected, done.stdout), done.stdout


@pytest.mark.parametrize("name", all_of(RUNS))
def test_the_script_of_whole_runs_prints_its_figures(name, monkeypatch, capsys):
    """In this process: a fresh one would spend most of its time on imports."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--tiny"])
    before = dict(os.environ)
    try:
        runpy.run_path(str(ROOT / "benchmarks" / f"{name}.py"), run_name="__main__")
    finally:  # LLaMA-Factory leaves marks in the environment
        os.environ.clear()
        os.environ.update(before)
        logging.disable(logging.NOTSET)
    shown = capsys.readouterr().out
    assert re.search(RUNS[name], shown), shown


def test_every_script_is_run():
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - {name.removesuffix(".py") for name in HELPERS}
    assert scripts == {*TINY, *RUNS, *NOT_RUN}


def test_the_documents_name_every_script():
    text = (ROOT / "docs" / "reference" / "performance.md").read_text()
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        assert path.name in HELPERS or f"benchmarks/{path.name}" in text, path.name
