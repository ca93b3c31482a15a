"""A folder that comes from elsewhere: whatever is spoilt in it ends in one sentence that names the file."""

import json
import shutil

import numpy as np
import pytest
import torch
from flwr.app import Message, MessageType, RecordDict
from hostile import spoilt_files, spoilt_values, within, write_anything

from fcit_plugin.errors import FcitError
from fcit_plugin.federation.folders import read_update, write_update
from fcit_plugin.federation.messages import ClientConfig, update_reply
from fcit_plugin.knowledge.identity_tokens import ClientToken, SubspaceTokens
from fcit_plugin.scenario import Scenario, Task
from fcit_plugin.state.checkpoints import PROGRESS
from fcit_plugin.state.folder import StateFolder
from fcit_plugin.state.progress import Progress
from fcit_plugin.state.sealed import problems, seal
from fcit_plugin.state.server_state import ServerState, save_state

SCENARIO = Scenario("custom", (Task("color", ("color",)), Task("letter", ("letter",))), ((0,), (1,)))
ADAPTER = "subspaces/0/adapter_config.json"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A commit of a run: all kinds of files, sealed."""
    folder = tmp_path_factory.mktemp("original") / "run"
    factors = {"base_model.model.l.lora_A.weight": torch.ones(2, 3), "base_model.model.l.lora_B.weight": torch.ones(4, 2)}
    tokens = SubspaceTokens(np.ones((2, 2), np.float32), np.ones(2, np.int64))
    state = ServerState(
        tokens,
        {"projector.weight": torch.ones(1)},
        [factors] * 2,
        stage=2,
        tasks=[{"color": 1}, {"letter": 2}],
        rules={"0/m": np.ones(1, np.float32)},
        method_state={"seen": torch.ones(1)},
        base={"l.weight": torch.ones(4, 3)},
    )
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": ["l"]}
    manifest = {
        "method": "disco",
        "scenario": SCENARIO.to_dict(),
        "rounds": [1, 1],
        "base_model": "tiny",
        "activation": "softmax",
        "temperature": 0.05,
        "identity_source": "text",
    }
    progress = Progress(labels={"color": ["red"], "letter": None}, recipes=[{"arguments": {}}])
    progress.add_scores(0, {"color": 50.0}, {"color": None}, {})

    def write(target):
        save_state(state, target, config, manifest)
        write_anything(target / PROGRESS, progress.to_dict())

    seal(folder, write)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "run")


def look(folder):
    """Everything that a state folder is read for."""
    held = StateFolder(folder)
    held.check()
    held.load()
    held.progress()
    held.finished_scenario()
    return held.adapter_config


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_folder_is_good_as_it_is(folder):
    assert look(folder)["r"] == 2 and problems(folder) == []


def test_every_spoilt_file_is_named(original, tmp_path):
    (tmp_path / "outside").mkdir()
    tried = 0
    for name in files_of(original):
        for way, spoil in spoilt_files(tmp_path / "outside").items():
            folder = shutil.copytree(original, tmp_path / "run")
            spoil(folder / name)
            with within(10):
                found = problems(folder)
                assert any(name in problem for problem in found), (name, way, found)
                if name != "checksums.json":
                    read(look, folder, name, way)
            shutil.rmtree(folder)
            tried += 1
    assert tried > 200


def read(reader, folder, name, way):
    """Read what was spoilt: it is refused by a sentence that names the file, or nothing of what is read had changed."""
    said = None
    try:
        reader(folder)
    except FcitError as error:
        said = str(error)
    assert said is None or ((name in said or str(folder) in said) and "\x1b" not in said), (name, way, said)
    return said is not None


@pytest.mark.parametrize("name", ["fcit_manifest.json", ADAPTER, PROGRESS])
def test_every_value_of_another_type_is_refused_or_harmless(folder, name):
    values = json.loads((folder / name).read_text())
    tried = refused = 0
    for way, spoilt in spoilt_values(values):
        write_anything(folder / name, spoilt)
        with within(10):
            refused += read(look, folder, name, way)
        tried += 1
    assert tried > 80 and refused > tried / 3


def test_checksums_name_no_file_outside(folder, tmp_path):
    (tmp_path / "secret").write_text("x")
    sums = json.loads((folder / "checksums.json").read_text())
    values = json.loads(json.dumps(sums["files"]))
    for way, spoilt in spoilt_values(sums):
        write_anything(folder / "checksums.json", spoilt)
        with within(10):
            assert problems(folder), way
    from fcit_plugin.state.sealed import differing

    for name in ("../secret", "/dev/zero", str(tmp_path / "secret"), "sub/../../secret"):
        with within(10):
            (problem,) = differing(folder, {name: next(iter(values.values()))})
        assert "leads out of its folder" in problem


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("megatron_config", {"tensor_model_parallel_size": 1}),
        ("megatron_core", "canary"),
        ("layer_replication", [[0, 100_000]]),
        ("rank_pattern", {"(a+)+$": 10**9}),
        ("alpha_pattern", {"l": 3}),
        ("modules_to_save", ["l"]),
        ("eva_config", {"rho": 2}),
        ("use_dora", True),
        ("layers_to_transform", [0]),
        ("exclude_modules", "(a+)+$"),
        ("unheard_of", 1),
        ("target_modules", "(a+)+$"),
        ("target_modules", ["(a+)+$"]),
        ("r", 10**9),
        ("lora_alpha", float("inf")),
        ("peft_type", "IA3"),
    ],
)
def test_of_pefts_options_a_subspace_has_a_few(folder, key, value):
    values = json.loads((folder / ADAPTER).read_text()) | {"megatron_core": "megatron.core", "bias": "none", "eva_config": None}
    write_anything(folder / ADAPTER, values)
    assert look(folder)["r"] == 2
    write_anything(folder / ADAPTER, values | {key: value})
    with pytest.raises(FcitError, match=rf"adapter_config\.json.*`{key}"):
        look(folder)


@pytest.fixture
def update(tmp_path):
    config = ClientConfig(run="r", stage=0, round=0, client=1, task=0, subspace=0).to_record()
    request = Message(RecordDict({"config": config}), dst_node_id=1, message_type=MessageType.TRAIN)
    factors = {"l.lora_A.weight": torch.ones(2, 3), "l.lora_B.weight": torch.ones(4, 2)}
    token = ClientToken(1, np.ones(2, np.float32), 3, 3)
    write_update(tmp_path / "update", config, update_reply(request, factors, {}, token, 0.5))
    return tmp_path / "update"


def test_every_spoilt_update_is_named(update, tmp_path):
    (tmp_path / "outside").mkdir()
    original = shutil.copytree(update, tmp_path / "original")
    for name in files_of(original):
        for way, spoil in spoilt_files(tmp_path / "outside").items():
            shutil.rmtree(update)
            shutil.copytree(original, update)
            spoil(update / name)
            with within(10):
                refused = read(read_update, update, "update", way)
            assert refused or way.startswith("flip"), (name, way)


def test_every_value_of_an_update_is_refused_or_can_be_judged(update):
    name = "fcit_update.json"
    values = json.loads((update / name).read_text())
    for way, spoilt in spoilt_values(values):
        write_anything(update / name, spoilt)
        with within(10):
            read(read_update, update, "update", way)
