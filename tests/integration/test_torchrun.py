"""Two processes under torchrun: one consistent report, with the assignments of one process."""

import json

import tiny
from runs import report_of

from fcit_plugin.federation.state import load_state


def test_two_processes_give_one_report_with_the_assignments_of_one_process(text_keys, text_run, tmp_path, process):
    keys = text_keys | {"output_dir": str(tmp_path / "out"), "report_to": "none", "ddp_backend": "gloo"}
    recipe = tiny.write_recipe(tmp_path / "r.yaml", keys)
    env = {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "2"}
    shown = process(["llamafactory-cli", "train", str(recipe)], env, timeout=400).stdout
    report, expected = report_of(tmp_path / "out"), report_of(text_run)
    assert report["assignments"] == expected["assignments"]
    for key in ("stages", "datasets", "bytes_up", "bytes_down", "seed"):
        assert report[key] == expected[key]
    assert report["zero_shot"] == expected["zero_shot"], "the untuned model answers alike on any number of processes"
    assert None not in report["accuracy"][-1]
    assert shown.count("Forgetting") == 1, "the table is printed once"

    state, _ = load_state(tmp_path / "out")
    one, _ = load_state(text_run)
    assert state.tokens.sums.tobytes() == one.tokens.sums.tobytes()
    assert state.tasks == one.tasks
    lines = [json.loads(line) for line in (tmp_path / "out" / "trainer_log.jsonl").read_text().splitlines()]
    assert [line["current_steps"] for line in lines] == list(range(1, lines[-1]["total_steps"] + 1))
    assert lines[-1]["loss"] < lines[0]["loss"]
    names = {path.name for path in (tmp_path / "out" / "updates").iterdir()}
    assert names == {path.name for path in (text_run / "updates").iterdir()}
