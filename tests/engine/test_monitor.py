"""The log of a run: bounded, the same whether the run stops or not, and read again however long the run was."""

import itertools
import json

import pytest
from transformers import TrainingArguments

from fcit_plugin.engine import monitor
from fcit_plugin.engine.monitor import Monitor
from fcit_plugin.federation.messages import ClientConfig
from fcit_plugin.files import LARGEST_JSON, read_lines_as
from fcit_plugin.state.forms import LogLine

ROUNDS, LINES, MOST = 12, 20, 50


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """Begins a run in a folder, or goes on with the log of a commit."""
    monkeypatch.setattr(monitor, "MOST_LINES", MOST)
    monkeypatch.setattr(monitor.time, "time", lambda: 1000.0)

    def begin(name, step=0, log=None):
        args = TrainingArguments(output_dir=str(tmp_path / name), use_cpu=True, report_to=[], disable_tqdm=True)
        return Monitor(args, ROUNDS * LINES, step, 0.0, log)

    return begin


def train(run, round):
    """One client's round, whose reply is kept on the way and taken up again."""
    mark = run.mark()
    config = ClientConfig("run", 0, round, 3, 0)
    for number in range(LINES):
        run.client_step(config, 1.0)
        run.client_log(config, {"loss": float(number)})
    kept = run.since(mark)
    assert [line["loss"] for line in kept["log"]] == [float(number) for number in range(LINES)]


def logged(folder):
    return read_lines_as(LogLine, folder / "trainer_log.jsonl")


def test_a_long_log_is_thinned_at_commits_alone_and_alike_in_a_run_that_stops(begun, tmp_path):
    whole, stopped = begun("whole"), begun("stopped")
    for round in range(ROUNDS):
        for run in (whole, stopped):
            train(run, round)
            run.write_log(tmp_path / f"commit{round}")
        stopped = begun("stopped", stopped.step, logged(tmp_path / f"commit{round}"))
        assert len(whole.log) <= MOST
        assert logged(tmp_path / "whole") == logged(tmp_path / "stopped") == logged(tmp_path / f"commit{round}") == whole.log
    steps = [line["current_steps"] for line in whole.log]
    assert steps == sorted(set(steps)) and steps[-1] == ROUNDS * LINES, "the last line is what is looked at"
    assert {line["round"] for line in whole.log} == set(range(ROUNDS)), "none of the run is gone"
    gaps = [later - before for before, later in itertools.pairwise(steps)]
    assert max(gaps) <= 2 * ROUNDS * LINES / (MOST / 2), "no part of the run has fewer lines than another"


def test_the_longest_log_that_is_written_can_be_read(begun):
    line = begun("run").note_log(ClientConfig("run", 10**6, 10**6, 10**6, 10**6, 10**6), {"loss": 1e-300 / 3}, 10**12)
    line |= {"lr": 1e-300 / 3, "epoch": 1e300 / 3, "percentage": 100 / 3, "elapsed_time": "x" * 30, "remaining_time": "x" * 30}
    assert len(json.dumps(line)) * 250_000 < LARGEST_JSON
