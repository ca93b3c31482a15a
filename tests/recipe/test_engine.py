"""Which engine a recipe comes to, what a process sees of torchrun afterwards, and the records of a step."""

import json
import os

import pytest

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.errors import FcitError
from fcit_plugin.recipe import environment, world
from fcit_plugin.recipe.engine import keys_on, share_out, why_shared

KEYS = {"stage": "fcit", "fcit_clients_per_round": 4}
TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
}


@pytest.mark.parametrize(
    ("changes", "processes", "why"),
    [
        ({}, 2, None),
        ({}, 8, None),
        ({"fcit_engine": "parallel"}, 2, None),
        ({"fcit_clients_per_round": 2}, 2, None),
        ({"fcit_bound": "oracle"}, 2, None),
        ({"fcit_bound": "zero_shot"}, 2, None),
        ({}, 1, "one process"),
        ({"fcit_engine": "process"}, 2, "`fcit_engine` is process"),
        ({"fcit_clients_per_round": 1}, 2, "a round has one client"),
        ({"fcit_bound": "local"}, 2, "one client at a time"),
        ({"fcit_bound": "centralized"}, 2, "one client at a time"),
        ({"do_train": False}, 2, "nothing is trained"),
        ({"fcit_dry_run": True}, 2, "dry run"),
        ({"deepspeed": {"zero_optimization": {"stage": 2}}}, 2, None),
        ({"deepspeed": {"zero_optimization": {"stage": 3}}}, 2, "ZeRO-3"),
        ({"deepspeed": "not/there.json"}, 2, None),
    ],
)
def test_clients_are_trained_in_parallel_where_that_can_be(changes, processes, why):
    found = why_shared(KEYS | changes, processes)
    assert (found is None) if why is None else why in found


def test_a_deepspeed_file_is_looked_into(tmp_path):
    path = tmp_path / "z3.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    assert "ZeRO-3" in why_shared(KEYS | {"deepspeed": str(path)}, 2)


def test_fsdp_divides_the_model(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert "FSDP" in why_shared(KEYS, 2)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (["r.yaml"], {"fcit_num_rounds": 3}),
        (["r.yaml", "fcit_num_rounds=5"], {"fcit_num_rounds": 5}),
        (["--stage", "fcit", "--fcit_num_rounds", "7"], {"fcit_num_rounds": 7}),
        (["r.yaml", "stage=sft"], None),
        (["not_there.yaml"], None),
        (["broken.yaml"], None),
        (["--model_name_or_path", "x"], None),
        ([], None),
    ],
)
def test_the_keys_on_a_command_line_are_those_of_the_recipe_or_none(tmp_path, monkeypatch, line, found):
    (tmp_path / "r.yaml").write_text("stage: fcit\nfcit_num_rounds: 3\n")
    (tmp_path / "broken.yaml").write_text("stage: [fcit\n")
    monkeypatch.chdir(tmp_path)
    keys = keys_on(line)
    assert (keys is None) if found is None else keys.items() >= found.items()


@pytest.fixture
def torchrun(tmp_path, monkeypatch):
    """Torchrun's environment, and a command line in it."""
    (tmp_path / "r.yaml").write_text("stage: fcit\nfcit_clients_per_round: 4\n")
    monkeypatch.setattr(world, "_left", None)
    before = dict(os.environ)
    os.environ.update(TORCHRUN)
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    yield [str(tmp_path / "r.yaml")]
    os.environ.clear()
    os.environ.update(before)


def test_a_process_that_trains_clients_of_its_own_sees_nothing_of_torchrun_but_remembers_it(torchrun):
    world.leave_world(torchrun)
    left = world.left_world()
    assert (left.rank, left.count, left.local_rank, left.local_count, left.address, left.port) == (
        3,
        4,
        1,
        2,
        "10.0.0.1",
        29500,
    )
    assert left.has_store and not left.is_main and left.problem is None
    assert not TORCHRUN.keys() & os.environ.keys()
    assert "FCIT_ECHOES" in os.environ, "the first process says what all say"


def test_deepspeed_gets_a_world_of_one_process(torchrun):
    world.leave_world([*torchrun, "deepspeed=z2.json"])
    assert world.left_world().rank == 3
    assert {key: os.environ[key] for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK")} == {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
    }
    assert os.environ["MASTER_ADDR"] == "127.0.0.1" and os.environ["MASTER_PORT"] != "29500"


@pytest.mark.parametrize("change", ["fcit_engine=process", "stage=fcit_client", "stage=sft", "fcit_clients_per_round=1"])
def test_other_runs_stay_in_torchruns_world(torchrun, change):
    world.leave_world([*torchrun, change])
    assert world.left_world() is None
    assert os.environ.items() >= TORCHRUN.items()


@pytest.mark.parametrize(
    ("visible", "clients", "local_rank", "seen"),
    [
        (None, 1, 1, "1"),
        ("4,6", 1, 1, "6"),
        ("GPU-aa,GPU-bb", 1, 0, "GPU-aa"),
        (None, 2, 3, "1"),
        (None, 2, 1, "0"),
    ],
)
def test_each_process_sees_its_own_device_alone(torchrun, monkeypatch, visible, clients, local_rank, seen):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    os.environ["LOCAL_RANK"] = str(local_rank)
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    world.leave_world([*torchrun, f"fcit_clients_per_device={clients}"])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen
    assert world.left_world().problem is None


def test_more_processes_than_devices_are_refused_in_a_sentence(torchrun, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    world.leave_world(torchrun)
    assert "`fcit_clients_per_device`" in world.left_world().problem


def test_parallel_that_cannot_be_is_refused_with_its_reason(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(FcitError, match=r"`fcit_engine: parallel` cannot be, because a round has one client"):
        world.processes_of_a_step(KEYS | {"fcit_engine": "parallel", "fcit_clients_per_round": 1}, "fcit")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fcit_clients_per_device": 2}, "has no effect, because none but this one was started"),
        ({"fcit_clients_per_device": 2, "fcit_clients_per_round": 1}, "because a round has one client"),
        ({"fcit_clients_per_device": 2, "do_train": False}, "because nothing is trained"),
        ({"fcit_clients_per_device": 2, "fcit_engine": "parallel"}, "`fcit_engine: parallel` needs several processes"),
        ({"fcit_clients_per_device": 2, "fcit_dry_run": True}, None),
        ({"fcit_clients_per_device": 1}, None),
    ],
)
def test_one_process_says_that_the_key_for_more_of_them_has_no_effect(changes, said, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    processes, notes = world.processes_of_a_step(KEYS | changes, "fcit")
    assert processes == 1
    assert notes == [] if said is None else said in notes[0]


def test_a_number_of_processes_that_is_none_is_named_by_a_dry_run(monkeypatch):
    monkeypatch.setenv("NPROC_PER_NODE", "gpu")
    with pytest.raises(FcitError, match="NPROC_PER_NODE is 'gpu'"):
        world.processes_of_a_step(KEYS | {"fcit_dry_run": True}, "fcit")


def test_processes_that_share_steps_say_why(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert world.processes_of_a_step(KEYS | {"fcit_engine": "process"}, "fcit") == (
        2,
        ["2 processes share each optimizer step of a client, because `fcit_engine` is process."],
    )


@pytest.mark.parametrize(
    ("line", "started"),
    [
        (["fcit_clients_per_device=3"], "3"),
        ([], None),
        (["fcit_clients_per_device=3", "stage=sft"], None),
        (["fcit_clients_per_device=2000"], None),  # which is refused by one process, and not by as many
    ],
)
def test_several_clients_on_a_device_start_as_many_processes(torchrun, monkeypatch, line, started):
    os.environ.pop("NPROC_PER_NODE", None)
    os.environ.pop("FORCE_TORCHRUN", None)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    environment.start_together([*torchrun, *line])
    assert os.environ.get("NPROC_PER_NODE") == started
    assert os.environ.get("FORCE_TORCHRUN") == (None if started is None else "1")


@pytest.mark.parametrize(
    ("keys", "size", "processes", "found"),
    [
        ({}, 8, 1, (8, 1)),
        ({}, 128, 1, (8, 16)),
        ({}, 128, 8, (8, 2)),
        ({"per_device_train_batch_size": 4}, 128, 4, (4, 8)),
        ({"per_device_train_batch_size": 8}, 8, 8, (1, 1)),
        ({"per_device_train_batch_size": 8}, 12, 1, (6, 2)),
        ({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}, 16, 2, (4, 2)),
        ({}, 7, 1, (7, 1)),
        ({"per_device_train_batch_size": 4}, 7, 1, (1, 7)),
    ],
)
def test_the_records_of_a_step_are_shared_out(keys, size, processes, found):
    keys = dict(keys)
    share_out(keys, FcitArguments(fcit_batch_size=size), processes)
    device, accumulation = keys["per_device_train_batch_size"], keys["gradient_accumulation_steps"]
    assert (device, accumulation) == found
    assert device * accumulation * processes == size


@pytest.mark.parametrize(
    ("keys", "size", "processes", "match"),
    [
        ({}, 9, 2, "cannot be shared out evenly to the 2 processes"),
        ({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}, 16, 2, "= 24 records"),
    ],
)
def test_records_that_cannot_be_shared_out_are_refused(keys, size, processes, match):
    with pytest.raises(FcitError, match=match):
        share_out(dict(keys), FcitArguments(fcit_batch_size=size), processes)


def test_without_the_key_llamafactorys_own_stand():
    keys = {"per_device_train_batch_size": 3}
    share_out(keys, FcitArguments(), 2)
    assert keys == {"per_device_train_batch_size": 3}
