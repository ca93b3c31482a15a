"""How far a run is, from its folder: finished, in the middle, before its first line, damaged; and what is shown of it."""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from reports import matrix_of, two_stages

from fcit_plugin.board.command import RECIPE
from fcit_plugin.board.load import load
from fcit_plugin.board.progress import MOST_POINTS, Look, look, mark
from fcit_plugin.board.run import OUTPUT, Run, Status, output_of
from fcit_plugin.board.show import add_stage, chat_keys, dataset_choices, last_lines, matrix, page_in_frame, status_line
from fcit_plugin.errors import FcitError

LINE = {
    "current_steps": 5,
    "total_steps": 20,
    "loss": 1.5,
    "lr": 0.1,
    "epoch": 1.0,
    "percentage": 25.0,
    "elapsed_time": "0:00:02",
    "remaining_time": "0:00:06",
    "stage": 1,
    "round": 2,
    "client": 3,
    "subspace": 0,
}


def write_log(folder, *lines, end="\n"):
    (folder / "trainer_log.jsonl").write_text("".join(json.dumps({**LINE, **line}) + "\n" for line in lines)[:-1] + end)


def test_nothing_is_seen_where_nothing_is(tmp_path):
    assert look(tmp_path / "none") == look(tmp_path) == Look()
    assert (Look().share, Look().table) == (0.0, ([""], []))


def test_a_line_that_is_being_written_does_not_count_yet(tmp_path):
    write_log(tmp_path, {}, {"current_steps": 6}, end="")
    found = look(tmp_path)
    assert found.losses == ((5, 1.5, 1),) and found.last["current_steps"] == 5 and found.share == 25.0
    before = mark(tmp_path)
    write_log(tmp_path, {}, {"current_steps": 6})
    assert mark(tmp_path) != before and look(tmp_path).last["current_steps"] == 6


def test_a_long_log_is_thinned_and_holds_no_infinite_points(tmp_path):
    write_log(tmp_path, *({"current_steps": i, "loss": None if i % 2 else float(i)} for i in range(4 * MOST_POINTS)))
    steps = [step for step, _, _ in look(tmp_path).losses]
    assert steps[0] == 0 and MOST_POINTS / 2 < len(steps) <= MOST_POINTS and all(step % 2 == 0 for step in steps)


@pytest.mark.parametrize("name", ["a" * 300, "x/" * 3000, "a\0b", "/proc/1/mem/x"])
def test_whatever_is_typed_for_an_output_folder_is_looked_at_or_refused_in_a_sentence(name, tmp_path):
    for ask in (look, mark, output_of):
        with contextlib.suppress(FcitError):
            ask(tmp_path / name)


def test_a_user_who_is_not_there_has_no_recipe():
    with pytest.raises(FcitError, match="nobody-of-that-name"):
        load("~nobody-of-that-name/recipe.yaml")


@pytest.mark.parametrize("line", ['{"loss": 1}', "[]", "{", '{"current_steps": 1, "stage": 0, "loss": 1, "percentage": "x"}'])
def test_a_damaged_log_is_named(tmp_path, line):
    (tmp_path / "trainer_log.jsonl").write_text(line + "\n")
    with pytest.raises(FcitError, match=r"trainer_log\.jsonl, line 1"):
        look(tmp_path)


def test_a_run_in_the_middle_is_seen_by_its_newest_whole_commit(text_run, tmp_path):
    """Its log and commits are there, its report is not; a commit that is half gone is passed over."""
    shutil.copytree(text_run / "checkpoints", tmp_path / "checkpoints")
    shutil.copy(text_run / "trainer_log.jsonl", tmp_path)
    done, found = look(text_run), look(tmp_path)
    assert (found.finished, found.page, found.stages, list(found.rounds)) == (False, None, 2, [2, 2])
    assert [*found.datasets] == [*done.datasets] == ["color", "letter"] and found.losses == done.losses
    (last, *_) = sorted((tmp_path / "checkpoints").iterdir(), reverse=True)
    (last / "progress.json").unlink()
    assert look(tmp_path).rows == [[done.rows[0][0]]]


def test_a_finished_run_is_seen_by_its_report(text_run):
    found, report = look(text_run), json.loads((text_run / "fcit_report.json").read_text())
    assert (found.finished, found.share, found.stages) == (True, 100.0, 2)
    assert [*found.rows] == report["accuracy"] and [*found.datasets] == report["datasets"]
    heads, rows = found.table
    assert heads == ["", "color", "letter"] and [row[0] for row in rows] == ["0", "1"] and rows[0][2] == ""
    assert "sandbox=" in page_in_frame(found.page) and "<script" not in page_in_frame(found.page)
    shown = matrix(found, "ru")
    assert "Оценка" in shown and f"{report['accuracy'][1][0]:.2f}" in shown


def test_stages_that_were_not_evaluated_have_no_row(tmp_path):
    two_stages(matrix=matrix_of({"fcit_a": 90.0}, {}, {"fcit_a": 10.0}), stages=[["fcit_a"]] * 3).write(tmp_path)
    assert [row[0] for row in look(tmp_path).table[1]] == ["0", "2"]


@pytest.mark.parametrize(
    ("status", "seen", "begins"),
    [
        (Status.NONE, Look(), "No run yet."),
        (Status.NONE, Look(last=LINE, stages=4), "Stage 1 of 4, round 2, client 3: step 5 of 20, 0:00:02 < 0:00:06."),
        (Status.NONE, Look(last=LINE, finished=True), "Finished."),
        (Status.RUNNING, Look(), "The run is loading."),
        (
            Status.RUNNING,
            Look(last={"current_steps": 2, "stage": 0, "loss": None}),
            "Stage 0 of ?, round -, client -: step 2 of -",
        ),
        (Status.RUNNING, Look(last=LINE, finished=True), "Finished."),
        (Status.STOPPING, Look(last=LINE, stages=4), "Stopping after this step"),
        (Status.STOPPED, Look(last=LINE, stages=4), "Stopped. Start goes on from here. Stage 1 of 4"),
        (Status.FAILED, Look(last=LINE), "The run ended with an error (exit code 3)"),
    ],
)
def test_what_a_run_is_doing_is_said(status, seen, begins):
    assert status_line(status, seen, "en", 3).startswith(begins)


def test_stages_are_put_together_of_chosen_datasets(text_data, tmp_path):
    stages, left = add_stage(" ", ["a"])
    assert (add_stage(stages, ["b", "c"]), left) == (("a b,c", []), [])
    users = ["color", "letter", "number"]
    found = dataset_choices(str(text_data))
    assert found[: len(users)] == users and "fcit_iconqa" in found and not [name for name in found if name.endswith("_test")]
    assert "letter" not in dataset_choices(str(text_data), "color,letter")
    assert dataset_choices(str(tmp_path)) == found[len(users) :]


def test_a_chat_with_a_run_has_what_the_run_had(text_run, text_keys):
    keys = chat_keys(text_run)
    same = ("model_name_or_path", "template", "default_system", "finetuning_type")
    assert {key: keys[key] for key in same} == {key: text_keys[key] for key in same}
    assert keys["adapter_name_or_path"] == str(text_run)


def test_a_log_is_shown_as_text_whatever_it_holds(tmp_path):
    assert output_of(tmp_path) == "" == last_lines("")
    (tmp_path / OUTPUT).write_bytes(b"x" * 30_000 + b"\n" + "\n".join(f"line {i} <b>" for i in range(100)).encode() + b"\xff")
    found = output_of(tmp_path)
    assert found.startswith("line 60") and len(found.splitlines()) == 40
    assert "<b>" not in last_lines(found) and "&lt;b&gt;" in last_lines(found)


PROGRAM = """#!/bin/bash
trap 'echo asked; exit 0' ABRT
echo "$1 $2 $LLAMABOARD_ENABLED $LLAMABOARD_WORKDIR"
case $(cat "$2") in
  fails) echo wrong; exit 3;;
  works) exit 0;;
  deaf) trap ':' ABRT;;
  loads) trap - ABRT;;
esac
echo ready
while true; do sleep 0.05; done
"""


@pytest.fixture
def run(tmp_path):
    """The board's run, of a program that does what its recipe says."""
    (tmp_path / "program").write_text(PROGRAM)
    (tmp_path / "program").chmod(0o755)
    made = Run(str(tmp_path / "program"))
    yield made
    while made.running:
        made.stop()
        made.exit_code  # noqa: B018 - waits


def wait_for(text, folder):
    until = time.monotonic() + 20
    while text not in output_of(folder):
        assert time.monotonic() < until, output_of(folder)
        time.sleep(0.02)


@pytest.mark.parametrize(("recipe", "status"), [("fails", Status.FAILED), ("works", Status.FINISHED)])
def test_a_run_is_started_and_its_end_is_told(run, tmp_path, recipe, status):
    folder = tmp_path / "a run"
    assert run.status(folder) is Status.NONE and not run.running
    run.start(recipe, folder)
    assert run.exit_code == {"fails": 3, "works": 0}[recipe]
    assert run.status(folder) is status and run.status(tmp_path) is Status.NONE
    assert output_of(folder).splitlines()[0] == f"train {folder / RECIPE} 1 {folder}"
    run.stop()
    assert run.status(folder) is status


def test_a_run_is_asked_to_stop_and_may_be_started_again(run, tmp_path):
    folder = tmp_path / "a run"
    for _ in range(2):
        run.start("waits", folder)
        wait_for("ready", folder)
        assert run.status(folder) is Status.RUNNING
        with pytest.raises(FcitError, match=r"a run is at work; press Abort"):
            run.start("works", tmp_path)
        run.stop()
        assert run.exit_code == 0 and run.status(folder) is Status.STOPPED
        assert "asked" in output_of(folder)


def test_a_run_that_does_not_listen_is_ended_when_asked_again(run, tmp_path):
    run.start("deaf", tmp_path)
    wait_for("ready", tmp_path)
    run.stop()
    time.sleep(0.1)
    assert run.status(tmp_path) is Status.STOPPING
    run.stop()
    assert run.exit_code == -signal.SIGKILL and run.status(tmp_path) is Status.STOPPED


def test_a_run_that_loads_has_no_step_to_wait_for(run, tmp_path):
    run.start("loads", tmp_path)
    wait_for("ready", tmp_path)
    run.stop()
    assert run.exit_code == -signal.SIGKILL and run.status(tmp_path) is Status.STOPPED


#: LLaMA-Factory's command waits for torchrun, which gives each of its processes a session of its own, and waits for those.
LAUNCHER = """#!{python}
import subprocess, sys
sys.exit(subprocess.run([sys.executable, "-c", {agent!r}, *sys.argv[1:]]).returncode)
"""
AGENT = """
import faulthandler, os, subprocess, sys
faulthandler.enable()  # as torchrun's does, so that it takes the signal, too, and dies of it
command = [sys.executable, "-c", {worker!r}, *sys.argv[1:]]
workers = [subprocess.Popen(command, env=os.environ | dict(LOCAL_RANK=str(k)), start_new_session=True) for k in range(2)]
sys.exit(max(abs(worker.wait()) for worker in workers))
"""
WORKER = """
import os, signal, sys, time
how, asked = open(sys.argv[2]).read(), []
signal.signal(signal.SIGABRT, lambda *_: (print("asked", flush=True), asked.append(1)))
if os.fork() == 0:  # as those that load records
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.02)
    os._exit(0)
print("ready", os.getpid(), flush=True)
while how == "deaf" or not asked:
    time.sleep(0.02)
"""


@pytest.fixture
def of_several(tmp_path):
    """The board's run, of a program with torchrun's processes; gives those that train, too."""
    agent = AGENT.format(worker=WORKER)
    (tmp_path / "several").write_text(LAUNCHER.format(python=sys.executable, agent=agent))
    (tmp_path / "several").chmod(0o755)
    made = Run(str(tmp_path / "several"))

    def start(recipe):
        made.start(recipe, tmp_path)
        until = time.monotonic() + 20
        while output_of(tmp_path).count("ready") < 2:
            assert time.monotonic() < until, output_of(tmp_path)
            time.sleep(0.02)
        return [int(line.split()[1]) for line in output_of(tmp_path).splitlines() if line.startswith("ready")]

    yield made, start
    made.stop()
    made.stop()


def is_there(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_the_processes_of_torchrun_are_asked_and_waited_for(of_several, tmp_path):
    run, start = of_several
    workers = start("listens")
    assert run.status(tmp_path) is Status.RUNNING
    run.stop()
    assert run.exit_code == 0, "torchrun was left to end by itself, after its processes"
    assert run.status(tmp_path) is Status.STOPPED and not any(map(is_there, workers))
    assert output_of(tmp_path).count("asked") >= 2


def test_the_processes_of_torchrun_are_all_ended_when_asked_again(of_several, tmp_path):
    run, start = of_several
    workers = start("deaf")
    run.stop()
    wait_for("asked", tmp_path)
    assert run.status(tmp_path) is Status.STOPPING and all(map(is_there, workers)), "they are in a step"
    run.stop()
    assert run.status(tmp_path) is Status.STOPPED and not any(map(is_there, workers))


def test_a_run_whose_launcher_is_killed_is_at_work_while_its_processes_are_and_can_be_ended(of_several, tmp_path):
    run, start = of_several
    workers = start("deaf")
    launcher = run._process.pid
    (agent,) = map(int, Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split())
    for pid in (launcher, agent):
        os.kill(pid, signal.SIGKILL)
    assert run.exit_code == -signal.SIGKILL
    assert run.status(tmp_path) is Status.RUNNING and all(map(is_there, workers))
    with pytest.raises(FcitError, match="is at work"):
        run.start("deaf", tmp_path)
    run.stop()
    run.stop()
    assert run.status(tmp_path) is Status.STOPPED and not any(map(is_there, workers))


def test_a_missing_program_is_named(tmp_path):
    with pytest.raises(FcitError, match="no-such-program is not installed"):
        Run("no-such-program").start("", tmp_path)
