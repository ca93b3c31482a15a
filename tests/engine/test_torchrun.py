"""Two processes, with and without torchrun: one consistent report, with the assignments of one process."""

import json

import tiny
from forked import ranks
from runs import report_of, run_recipe
from safetensors.torch import load_file

from fcit_plugin.state.folder import StateFolder


def test_two_processes_average_the_projector_and_agree_with_one(llava_keys, llava_run, tmp_path):
    keys = llava_keys | {"output_dir": str(tmp_path / "out"), "fcit_eval_every": "never", "fcit_num_rounds": 1}
    keys |= {"per_device_train_batch_size": 2, "fcit_keep_client_updates": False}
    one = run_recipe({**keys, "output_dir": str(tmp_path / "one"), "per_device_train_batch_size": 4})
    keys |= {"ddp_backend": "gloo", "fcit_engine": "process"}
    recipe = tiny.write_recipe(tmp_path / "r.yaml", keys)
    ranks(["train", str(recipe)], 2, tmp_path)
    two = tmp_path / "out"
    assert report_of(two)["assignments"] == report_of(one)["assignments"]
    start = load_file(llava_keys["model_name_or_path"] + "/model.safetensors")
    expected, found = load_file(one / "shared.safetensors"), load_file(two / "shared.safetensors")
    assert expected.keys() == found.keys()
    moved = sum((value - _of(start, key)).norm() ** 2 for key, value in expected.items()) ** 0.5
    apart = sum((found[key] - value).norm() ** 2 for key, value in expected.items()) ** 0.5
    assert moved > 0 and apart < 0.5 * moved  # the same work, distributed to the processes in another order


def _of(weights, key):
    """A weight of a checkpoint, whose names lack the leading ``model.`` of the module's."""
    return next(value for name, value in weights.items() if key.endswith(name) or name.endswith(key))


def test_two_processes_give_one_report_with_the_assignments_of_one_process(text_keys, text_run, tmp_path, process):
    keys = text_keys | {
        "output_dir": str(tmp_path / "my out"),
        "report_to": "none",
        "ddp_backend": "gloo",
        "fcit_engine": "process",
    }
    recipe = tiny.write_recipe(tmp_path / "my recipe.yaml", keys)
    env = {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "2"}
    shown = process(["llamafactory-cli", "train", str(recipe)], env, timeout=400).stdout
    report, expected = report_of(tmp_path / "my out"), report_of(text_run)
    assert report["assignments"] == expected["assignments"]
    for key in ("stages", "datasets", "bytes_up", "bytes_down", "seed"):
        assert report[key] == expected[key]
    assert report["zero_shot"] == expected["zero_shot"], "the untuned model answers alike on any number of processes"
    assert report["likelihood_untuned"] == expected["likelihood_untuned"]
    assert None not in report["accuracy"][-1]
    assert shown.count("Forgetting") == 1, "the table is printed once"

    state = StateFolder(tmp_path / "my out").load()
    one = StateFolder(text_run).load()
    assert state.tokens.sums.tobytes() == one.tokens.sums.tobytes()
    assert state.tasks == one.tasks
    lines = [json.loads(line) for line in (tmp_path / "my out" / "trainer_log.jsonl").read_text().splitlines()]
    assert [line["current_steps"] for line in lines] == list(range(1, lines[-1]["total_steps"] + 1))
    assert lines[-1]["loss"] < lines[0]["loss"]
    names = {path.name for path in (tmp_path / "my out" / "updates").iterdir()}
    assert names == {path.name for path in (text_run / "updates").iterdir()}
