"""``fcit-cli inspect`` on good and on damaged runs."""

import json
import shutil
import subprocess
import sys

import pytest

from fcit_plugin import cli
from fcit_plugin.state.checkpoints import Checkpoints
from fcit_plugin.state.sealed import CHECKSUMS, problems


@pytest.fixture
def finished(text_run, tmp_path):
    return shutil.copytree(text_run, tmp_path / "out")


@pytest.fixture
def killed(finished):
    """What the run had left when it was killed in its last round, after one client."""
    for path in finished.iterdir():
        if path.name not in ("checkpoints", "trainer_log.jsonl"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder = finished / "checkpoints"
    shutil.rmtree(folder / "round-0004")
    shutil.copytree(folder / "round-0003" / "subspaces", folder / "round-0003.replies" / "client-1")
    from fcit_plugin.state.sealed import seal

    seal(folder / "round-0003.replies" / "client-1", lambda path: (path / "fcit_update.json").write_text("{}"))
    return finished


@pytest.fixture
def inspect(capsys, monkeypatch):
    """Runs the verb; returns its exit code and what it printed."""

    def call(folder):
        monkeypatch.setattr("sys.argv", ["fcit-cli", "inspect", str(folder)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, capsys.readouterr().out

    return call


def damage(path):
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(bytes(raw))


def test_a_finished_run_is_shown_with_all_that_its_report_says(finished, inspect):
    code, shown = inspect(finished)
    report = json.loads((finished / "fcit_report.json").read_text())
    lines = shown.splitlines()
    assert code == 0 and "CORRUPT" not in shown
    assert "method disco" in lines[0] and "setting custom" in lines[0] and "seed 42" in lines[0]
    steps = len((finished / "trainer_log.jsonl").read_text().splitlines())
    assert lines[2].startswith(f"4 of 4 rounds, {steps} steps, ")
    assert f"{report['bytes_up'] / 1e6:.2f} MB sent by clients" in lines[3]
    for stage, names in enumerate(report["stages"]):
        (line,) = [line for line in lines if line.startswith(f"{stage}  ") and names[0] in line and " of " in line]
        rows = [row for row in report["assignments"] if row["stage"] == stage]
        clients = ", ".join(map(str, sorted({row["client"] for row in rows})))
        scores = [score for score in report["accuracy"][stage] if score is not None]
        assert f"2 of 2  {clients} on {rows[0]['subspace']}" in line and line.endswith(f"{sum(scores) / len(scores):.2f}")
    for entry in json.loads((finished / "fcit_manifest.json").read_text())["subspaces"]:
        (task,) = entry["tasks"]
        assert [line for line in lines if line.split()[:4] == [str(entry["id"]), str(entry["count"]), task, "4"]]
    assert [line.split()[0] for line in lines if "sums right" in line] == ["round-0003", "round-0004"]
    assert lines[-2:] == ["finished; the results:", f"  {finished.name}  as in round-0004 (11 files)"]


def test_a_killed_run_says_where_it_stands_what_is_kept_and_how_to_go_on(killed, inspect):
    code, shown = inspect(killed)
    assert code == 0
    assert "3 of 4 rounds" in shown and "next: stage 1 round 1" in shown
    assert "round-0003.replies/client-1  sums right" in shown
    assert shown.rstrip().endswith("not finished; go on with: llamafactory-cli train RECIPE.yaml resume_from_checkpoint=true")


@pytest.mark.parametrize(
    "name",
    ["checkpoints/round-0004/subspaces/1/adapter_model.safetensors", "checkpoints/round-0003/progress.json",
     "checkpoints/round-0004/checksums.json", "subspaces/0/adapter_model.safetensors", "fcit_manifest.json"],
)  # fmt: skip
def test_one_changed_byte_is_named_and_the_exit_code_is_1(finished, inspect, name):
    damage(finished / name)
    code, shown = inspect(finished)
    assert code == 1
    assert [line for line in shown.splitlines() if line.startswith(f"    {finished / name} is ")]
    assert shown.count("CORRUPT") == 1


def test_a_damaged_reply_is_named_too(killed, inspect):
    damage(killed / "checkpoints" / "round-0003.replies" / "client-1" / "fcit_update.json")
    code, shown = inspect(killed)
    assert code == 1 and "round-0003.replies/client-1  CORRUPT" in shown


@pytest.mark.parametrize("looks", range(4))
def test_a_commit_that_is_made_meanwhile_is_no_corruption_of_what_it_replaces(killed, inspect, monkeypatch, looks):
    """However many of the folders were looked at before a run at work took them away."""
    folder, left = killed / "checkpoints" / "round-0003", [looks]

    def copy(partial):
        shutil.copytree(folder, partial, dirs_exist_ok=True, ignore=shutil.ignore_patterns(CHECKSUMS))

    def look(path):
        left[0] -= 1
        if left[0] == -1:
            Checkpoints(killed, 1).commit(4, copy)
        return problems(path)

    monkeypatch.setattr("fcit_plugin.state.inspection.problems", look)
    code, shown = inspect(killed)
    assert "CORRUPT" not in shown and code == 0
    assert left[0] >= 0 or ("round-0004  sums right" in shown and "round-0003" not in shown)


def test_with_no_good_commit_all_that_is_wrong_is_listed(killed, inspect):
    for commit in Checkpoints(killed).commits():
        damage(commit / "recipe.json")
    code, shown = inspect(killed)
    assert code == 1 and "round-0003  CORRUPT" in shown and "recipe.json is corrupt" in shown
    assert "no good commit to go on from: begin again" in shown and "resume_from_checkpoint" not in shown


def test_clients_that_were_left_out_are_listed(finished, inspect):
    from fcit_plugin.state.sealed import seal

    commit = finished / "checkpoints" / "round-0004"
    content = {path: path.read_bytes() for path in commit.rglob("*") if path.is_file() and path.name != "checksums.json"}
    progress = json.loads(content[commit / "progress.json"])
    progress["dropped"] = [{"stage": 1, "round": 0, "client": 2, "reason": "it is not finite"}]
    content[commit / "progress.json"] = json.dumps(progress).encode()

    def write(folder):
        for path, data in content.items():
            target = folder / path.relative_to(commit)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

    seal(commit, write)
    shutil.copy(commit / "progress.json", finished)
    code, shown = inspect(finished)
    assert code == 0 and "left out: stage 1 round 0 client 2: it is not finite" in shown


def test_a_state_folder_without_commits_is_shown_as_far_as_it_goes(finished, inspect):
    shutil.rmtree(finished / "checkpoints")
    code, shown = inspect(finished)
    assert code == 0 and "no commits" in shown and "there are no sums" in shown and "color 4" in shown


def test_what_is_no_run_is_said(tmp_path, inspect):
    code, _ = inspect(tmp_path)
    assert str(tmp_path) in code and "holds no run" in code


def test_it_looks_without_torch(finished):
    script = (
        "import sys; from fcit_plugin.state.inspection import inspect; from pathlib import Path;"
        f"inspect(Path({str(finished)!r})); assert not sys.modules.keys() & {{'torch', 'flwr', 'numpy', 'transformers'}}"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
