"""Running a grid with a stand-in for LLaMA-Factory's command: it answers at once, and its recipe says how."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from reports import matrix_of, report_with

from fcit_plugin.compare.cell_state import CellStatus, state_of
from fcit_plugin.compare.grid_file import GridFile
from fcit_plugin.compare.runner import Runner, environment, run_cells
from fcit_plugin.errors import FcitError

STAND_IN = """#!{python}
import json, os, pathlib, sys, time
import yaml
recipe = yaml.safe_load(open(sys.argv[2]))
folder = pathlib.Path(recipe["output_dir"])
with open(folder.parents[3] / "calls.txt", "a") as calls:
    print(sys.argv[1], folder.name, recipe["how"], os.environ["OMP_NUM_THREADS"], file=calls)
time.sleep(recipe.get("sleep", 0))
for _ in range(600):
    if len(open(folder.parents[3] / "calls.txt").readlines()) >= recipe.get("company", 1):
        break
    time.sleep(0.1)
else:
    sys.exit("nobody came")
if recipe["how"] == "fails" or not pathlib.Path(recipe.get("adapter_name_or_path", folder)).is_dir():
    print("first line")
    sys.exit("fcit-plugin: This cannot work.")
if recipe["how"] == "breaks off":
    (folder / "checkpoints").mkdir()
    os.kill(os.getpid(), 9)
(folder / "fcit_report.json").write_text({report!r})
"""


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    report = report_with(matrix_of({"a": 50}), [["a"]])
    path = tmp_path_factory.mktemp("bin") / "llamafactory-cli"
    path.write_text(STAND_IN.format(python=sys.executable, report=json.dumps(report.to_dict())))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def run(tmp_path, stand_in):
    """Runs the cells of a grid; gives what failed, and which cells were started since."""

    def go(rows, overwrite=False, jobs=1, **changes):
        (tmp_path / "base.yaml").write_text("stage: fcit\nhow: works\n")
        keys = {"base": "base.yaml", "output_dir": str(tmp_path / "out"), "document": "unused", "rows": rows, **changes}
        (tmp_path / "grid.yaml").write_text(yaml.safe_dump(keys, sort_keys=False))
        calls = tmp_path / "out" / "calls.txt"
        calls.unlink(missing_ok=True)
        go.cells = GridFile(tmp_path / "grid.yaml").cells
        failures = Runner(jobs, overwrite, command=stand_in)(go.cells)
        started = [line.split()[2] for line in calls.read_text().splitlines()] if calls.exists() else []
        return {failure.cell.row: failure.reason for failure in failures}, started

    return go


def test_cells_that_fail_are_told_with_their_last_line_and_the_others_go_on(run):
    failures, started = run({"x": {"how": "fails"}, "y": {}, "z": {"how": "exits"}})
    assert failures == {"x": "ended with 1: fcit-plugin: This cannot work."}
    assert started == ["fails", "works", "exits"]
    assert [state_of(cell).status for cell in run.cells] == [CellStatus.OPEN, CellStatus.FINISHED, CellStatus.FINISHED]


def test_a_second_call_runs_what_failed_or_was_broken_off_and_nothing_else(run):
    rows = {"x": {"how": "fails"}, "y": {}, "z": {"how": "breaks off"}}
    failures, _ = run(rows)
    assert failures["z"].startswith("ended with -9")
    assert state_of(run.cells[2]).status is CellStatus.BEGUN
    assert run(rows)[1] == ["fails", "breaks"]


def test_a_cell_of_other_keys_is_run_anew_only_if_asked(run):
    run({"x": {}, "y": {"learning_rate": 0.1}})
    old = run.cells[1].folder / "old"
    old.touch()
    changed = {"x": {}, "y": {"learning_rate": 0.2}}
    failures, started = run(changed)
    assert started == []
    assert failures == {"y": "is made from other keys (`learning_rate` was 0.1 and is 0.2); --overwrite runs it again."}
    failures, started = run(changed, overwrite=True)
    assert (failures, started) == ({}, ["works"])
    assert not old.exists()
    assert yaml.safe_load((run.cells[1].folder / "recipe.yaml").read_text())["learning_rate"] == 0.2


def test_a_cell_that_never_began_may_change_its_keys(run):
    run({"x": {"how": "fails"}})
    assert run({"x": {"how": "works"}}) == ({}, ["works"])


def test_what_is_evaluated_waits_for_its_run_and_is_not_started_without_it(run):
    rows = {"good": {"sleep": 0.5}, "of_good": {"evaluates": "good", "how": "exits"}}
    assert run(rows, jobs=2) == ({}, ["works", "exits"])
    rows = {"bad": {"how": "fails"}, "of_bad": {"evaluates": "bad", "how": "works"}}
    failures, started = run(rows, jobs=2)
    assert started == ["fails"]
    folder = run.cells[0].folder
    assert failures["of_bad"] == f"was not started, for there is no finished run in {folder}."


def test_processes_run_side_by_side_with_their_share_of_the_cores(run, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert run({name: {"company": 3} for name in "abc"}, jobs=3)[0] == {}
    cores = len(os.sched_getaffinity(0))
    assert environment(1)["OMP_NUM_THREADS"] == str(cores)
    assert environment(2 * cores)["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(("asked", "threads"), [("1", 1), ("2", 2), ("99", 4), ("0", 4), ("", 4), ("many", 4)])
def test_fewer_threads_can_be_asked_for_never_more(asked, threads, monkeypatch):
    monkeypatch.setattr("fcit_plugin.compare.runner._cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert environment(1)["OMP_NUM_THREADS"] == str(threads)


#: Waits for another one, in a session of its own, as torchrun's processes are.
AS_TORCHRUN = """#!{python}
import subprocess, sys
sys.exit(subprocess.run([{stand_in!r}, *sys.argv[1:]], start_new_session=True).returncode)
"""


@pytest.mark.parametrize("several", [False, True])
def test_an_interrupted_grid_leaves_no_process_behind(several, tmp_path, stand_in):
    if several:
        program = tmp_path / "llamafactory-cli"
        program.write_text(AS_TORCHRUN.format(python=sys.executable, stand_in=str(stand_in)))
        program.chmod(0o755)
        stand_in = program
    (tmp_path / "base.yaml").write_text("stage: fcit\nhow: works\nsleep: 60\n")
    keys = {"base": "base.yaml", "output_dir": str(tmp_path / "out"), "document": "unused", "rows": {"x": {}}}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(keys))
    code = (
        "import sys; from fcit_plugin import cli; from fcit_plugin.compare import runner;"
        f"runner.llamafactory_cli = lambda: {str(stand_in)!r};"
        f"sys.argv = ['fcit-cli', 'compare', {str(tmp_path / 'grid.yaml')!r}, '--jobs', '1']; cli.main()"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    calls = tmp_path / "out" / "calls.txt"
    for _ in range(300):
        if calls.exists():
            break
        time.sleep(0.1)
    process.terminate()
    assert process.wait(timeout=30) == 143
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(tmp_path / "out") not in found


@pytest.mark.slow
def test_a_grid_that_is_killed_keeps_each_run_that_ended_and_goes_on_without_their_folders(tmp_path, stand_in):
    """SIGKILL in each cell in turn: the results file has all runs before it, and the same command makes the others alone."""
    (tmp_path / "base.yaml").write_text("stage: fcit\nhow: works\n")
    rows = {name: {} for name in "abc"}
    for place, killed in enumerate(rows):
        work = tmp_path / killed
        work.mkdir()
        stuck = {name: ({"sleep": 60} if name == killed else {}) for name in rows}
        keys = {"base": "../base.yaml", "output_dir": str(work / "out"), "document": str(work / "unused.md"), "plots": []}
        code = (
            "import sys; from fcit_plugin import cli; from fcit_plugin.compare import runner;"
            f"runner.llamafactory_cli = lambda: {str(stand_in)!r};"
            f"sys.argv = {['fcit-cli', 'compare', str(work / 'grid.yaml'), '--jobs', '1', '--to', str(work / 'r.jsonl')]!r};"
            "cli.main()"
        )
        calls = work / "out" / "calls.txt"
        (work / "grid.yaml").write_text(yaml.safe_dump({**keys, "rows": stuck}, sort_keys=False))
        process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        for _ in range(600):
            if calls.exists() and len(calls.read_text().splitlines()) == place + 1:
                break
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kept = (work / "r.jsonl").read_text().splitlines() if place else []
        assert [json.loads(line)["run"].split("/")[2] for line in kept] == list(rows)[:place]
        shutil.rmtree(work / "out")
        (work / "grid.yaml").write_text(yaml.safe_dump({**keys, "rows": rows}, sort_keys=False))
        subprocess.run([sys.executable, "-c", code], check=True)
        assert len(calls.read_text().splitlines()) == len(rows) - place
        assert len((work / "r.jsonl").read_text().splitlines()) == len(rows)


def test_one_grid_is_run_by_one_process_at_a_time(tmp_path):
    from filelock import FileLock

    from fcit_plugin.compare.runner import run_cells

    (tmp_path / "base.yaml").write_text("stage: fcit\n")
    keys = {"base": "base.yaml", "output_dir": str(tmp_path / "out"), "document": "unused", "rows": {"x": {}}}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(keys))
    grid = GridFile(tmp_path / "grid.yaml")
    Path(keys["output_dir"]).mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(ValueError, match="is running cells in"):
        run_cells(grid, grid.cells, jobs=1)


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"fcit_methd": "ewc"}, "`fcit_method`"), ({"fcit_method": "ewcc"}, "`ewc`"), ({"fcit_num_rounds": 0}, "at least 1")],
)
def test_a_row_that_cannot_work_is_named_before_any_cell_is_run(run, keys, message):
    run({"x": {}})
    rows = {"y": {}, "typo": keys}
    grid = GridFile(_grid(run.cells[0].folder.parents[4], rows))
    with pytest.raises(FcitError, match=rf"typo/seed1: .*{message}"):
        run_cells(grid, grid.cells)
    assert not grid.cells[0].folder.exists()


def _grid(folder, rows):
    keys = {"base": "base.yaml", "output_dir": str(folder / "out"), "document": "unused", "rows": rows}
    (folder / "grid.yaml").write_text(yaml.safe_dump(keys))
    return folder / "grid.yaml"
