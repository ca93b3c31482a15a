"""A folder from elsewhere names no file outside and few of PEFT's options; for the rest see test_hostile_files."""

import json

import pytest
from read_runs import write_run
from readers import READERS

from fcit_plugin.errors import FcitError
from fcit_plugin.state.folder import StateFolder
from fcit_plugin.state.forms import ProgressForm
from fcit_plugin.state.progress import Progress
from fcit_plugin.state.sealed import differing, problems

ADAPTER = "subspaces/0/adapter_config.json"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    write_run(tmp_path / "run")
    return tmp_path / "run"


def test_the_form_of_the_progress_has_every_field_of_it():
    assert set(ProgressForm.__annotations__) == set(Progress().to_dict())


def test_progress_comes_back_as_it_was(folder):
    held = StateFolder(folder)
    assert held.progress().to_dict() == json.loads((folder / "progress.json").read_text())


@pytest.mark.parametrize("name", ["../secret", "/dev/zero", "sub/../../secret", "/etc/passwd"])
def test_checksums_name_no_file_outside(tmp_path, name):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "run").mkdir()
    READERS["a commit"].make(tmp_path / "run")
    commit = tmp_path / "run" / "checkpoints" / "round-0002"
    assert problems(commit) == []
    (problem,) = differing(commit, {name: "0" * 64})
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
    (folder / ADAPTER).write_text(json.dumps(values))
    assert StateFolder(folder).adapter_config["r"] == 2
    (folder / ADAPTER).write_text(json.dumps(values | {key: value}))
    with pytest.raises(FcitError, match=rf"adapter_config\.json.*`{key}"):
        assert StateFolder(folder).adapter_config
