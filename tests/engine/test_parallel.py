"""Clients in several processes at once: to the bit the run of one process, also after one of them was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import tiny
import torch
from runs import report_of, run_recipe, weight_bytes
from safetensors.torch import load_file

from fcit_plugin.deployment.addresses import free_ports
from fcit_plugin.machine import machine
from fcit_plugin.state.pages import TYPED_YAML
from fcit_plugin.state.predictions import read_predictions

TIMES = ("elapsed_time", "remaining_time")


def torchrun(keys, folder, count, env=None):
    """Start a recipe in some processes."""
    recipe = tiny.write_recipe(folder / f"{Path(keys['output_dir']).name}.yaml", {**keys, "fcit_threads": 1})
    scripts = Path(sys.executable).parent
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [str(scripts / "llamafactory-cli"), "train", str(recipe)],
        env={**os.environ, "PATH": path, "FORCE_TORCHRUN": "1", "NPROC_PER_NODE": str(count), **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(run, code=0):
    shown, _ = run.communicate(timeout=600)
    assert run.returncode == code, shown[-6000:]
    return shown


def log_of(folder):
    """The lines of a run's log without times."""
    lines = [json.loads(line) for line in (folder / "trainer_log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def same(one, other):
    """Whether two runs have left the same, to the bit, but for times."""
    assert weight_bytes(one) == weight_bytes(other)
    assert report_of(one) == report_of(other)
    assert log_of(one) == log_of(other)
    files = [{str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} for folder in (one, other)]
    assert files[0] ^ files[1] <= {TYPED_YAML}  # only a recipe in a file was typed
    assert read_predictions(one) == read_predictions(other) != {}


def test_two_processes_train_their_own_clients_and_leave_what_one_leaves(text_keys, text_run, tmp_path):
    keys = text_keys | {"output_dir": str(tmp_path / "two"), "report_to": "none"}
    shown = finished(torchrun(keys, tmp_path, 2))
    two = tmp_path / "two"
    for path in text_run.rglob("events.out.tfevents*"):  # of TensorBoard, which the other run did without
        path.unlink()
    same(text_run, two)
    engine = json.loads((two / "fcit_report.json").read_text())["engine"]
    assert {key: engine[key] for key in ("name", "processes", "threads")} == {"name": "parallel", "processes": 2, "threads": 1}
    assert engine["machine"] == machine(torch.device("cpu")) and "torch " in engine["versions"]
    assert shown.count("Forgetting") == 1, "the table is printed once"
    assert shown.count("2 processes train clients in parallel") == 1


def killed_in_its_training(run, rank, folder):
    """Kill a process of a run that has committed its first round; returns the seconds until all have ended."""
    while not (folder / "checkpoints" / "round-0001").is_dir():
        assert run.poll() is None, run.communicate()[0][-6000:]
        time.sleep(0.02)
    children = psutil.Process(run.pid).children(recursive=True)
    victim = next(child for child in children if child.environ().get("RANK") == str(rank))
    victim.send_signal(signal.SIGKILL)
    start = time.monotonic()
    shown = finished(run, code=1)
    _, alive = psutil.wait_procs(children, timeout=1)
    assert not alive
    assert "Signal 9 (SIGKILL)" in shown
    return time.monotonic() - start


@pytest.mark.parametrize("rank", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_a_process_that_is_killed_ends_the_run_which_goes_on_to_the_same_bits(text_keys, text_run, tmp_path, rank):
    keys = text_keys | {"output_dir": str(tmp_path / "out"), "report_to": "none"}
    out = tmp_path / "out"
    assert killed_in_its_training(torchrun(keys, tmp_path, 2), rank, out) < 10
    finished(torchrun(keys, tmp_path, 1))  # on another number of processes
    assert weight_bytes(text_run) == weight_bytes(out)
    assert report_of(text_run) == report_of(out)
    assert log_of(text_run) == log_of(out)


RECIPES = {
    "projector": {},
    "disco_plus": {"fcit_method": "disco_plus", "fcit_identity_source": "both"},
    "o_lora": {"fcit_method": "o_lora"},
    "ewc": {"fcit_method": "ewc"},
    "replay": {"fcit_method": "replay"},
    "a_gem": {"fcit_method": "a_gem"},
    "scaffold": {"fcit_server_rule": "scaffold"},
    "int8": {"fcit_update_compression": "int8"},
    "exact": {"fcit_method": "sequential", "fcit_lora_aggregation": "exact"},
    "relay": {"fcit_method": "sequential", "fcit_round_order": "relay", "fcit_schedule_over": "chain"},
    "noise": {"fcit_dp_clipping_norm": 0.5, "fcit_dp_noise_multiplier": 0.1, "fcit_identity_noise": 0.01},
}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["a_gem", "lamol"])
def test_methods_that_look_at_more_than_a_clients_records_go_with_every_engine(text_keys, tmp_path, method):
    """Clients in parallel to the bit; processes that share each step nearly so, for they sum in another order."""
    keys = text_keys | {"fcit_method": method, "report_to": "none", "fcit_eval_every": "never"}
    runs = {"one": run_recipe(keys | {"output_dir": str(tmp_path / "one")})}
    for name, count, more in (
        ("two", 2, {}),
        ("shared", 2, {"fcit_engine": "process", "ddp_backend": "gloo", "per_device_train_batch_size": 2}),
    ):
        runs[name] = tmp_path / name
        finished(torchrun(keys | {"output_dir": str(runs[name])} | more, tmp_path, count))
    assert weight_bytes(runs["one"]) == weight_bytes(runs["two"])
    one, shared = (load_file(runs[name] / "subspaces" / "0" / "adapter_model.safetensors") for name in ("one", "shared"))
    apart = sum((shared[key] - value).square().sum() for key, value in one.items()) ** 0.5
    assert apart < 0.2 * sum(value.square().sum() for key, value in one.items() if ".lora_B." in key) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("count", [2, 4])
def test_every_way_to_train_gives_the_bits_of_one_process(llava_keys, tmp_path, name, count):
    keys = llava_keys | RECIPES[name] | {"fcit_num_rounds": 2}
    one = run_recipe({**keys, "output_dir": str(tmp_path / "one")})
    finished(torchrun({**keys, "output_dir": str(tmp_path / "several")}, tmp_path, count))
    same(one, tmp_path / "several")


@pytest.mark.slow
def test_zero_2_with_one_process_a_client(text_keys, tmp_path):
    config = tmp_path / "z2.json"
    batch = {"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto"}
    config.write_text(json.dumps({"zero_optimization": {"stage": 2}, **batch}))
    keys = text_keys | {"deepspeed": str(config), "report_to": "none"}
    for count in (1, 2):
        finished(torchrun({**keys, "output_dir": str(tmp_path / str(count))}, tmp_path, count))
    same(tmp_path / "1", tmp_path / "2")


@pytest.mark.slow
def test_two_machines_meet_as_llamafactory_lets_them(text_keys, text_run, tmp_path):
    """Two of torchrun's agents on this machine, each of which takes itself for a machine of its own."""
    keys = text_keys | {"output_dir": str(tmp_path / "two"), "report_to": "none"}
    told = {"NNODES": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_ports(1)[0])}
    runs = [torchrun(keys, tmp_path, 1, {**told, "NODE_RANK": str(rank)}) for rank in range(2)]
    for run in runs:
        finished(run)
    assert weight_bytes(text_run) == weight_bytes(tmp_path / "two")
    assert report_of(text_run) == report_of(tmp_path / "two")
