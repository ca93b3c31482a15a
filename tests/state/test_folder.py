"""What a state folder says about itself: read once, without torch, refused in one sentence where it is amiss."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from fcit_plugin.files import write_json
from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.scenario import Scenario, Task
from fcit_plugin.state.folder import StateFolder
from fcit_plugin.state.progress import Progress
from fcit_plugin.state.server_state import ServerState, save_state

CONFIG = {"r": 2, "lora_alpha": 4, "target_modules": ["up_proj"]}
SCENARIO = Scenario("custom", (Task("color", ("color",)), Task("letter", ("letter",))), ((0,), (1,)))


def state_of(stage=2, subspaces=1):
    factors = {"l.lora_A.weight": torch.ones(2, 3), "l.lora_B.weight": torch.ones(4, 2)}
    tokens = SubspaceTokens(np.ones((subspaces, 2), np.float32), np.ones(subspaces, np.int64))
    return ServerState(tokens, {}, [factors] * subspaces, stage=stage, tasks=[{"color": 1}] * subspaces)


@pytest.fixture
def folder(tmp_path):
    save_state(state_of(), tmp_path / "run", CONFIG, {"method": "disco", "scenario": SCENARIO.to_dict(), "rounds": [1, 1]})
    return tmp_path / "run"


def test_it_is_read_once_and_only_what_is_asked_for(folder):
    held = StateFolder(folder)
    (folder / "subspaces" / "0" / "adapter_model.safetensors").unlink()
    assert held.manifest["method"] == "disco" and held.scenario == held.finished_scenario() == SCENARIO
    assert held.adapter_config == CONFIG
    (folder / "fcit_manifest.json").unlink()
    held.adapter_config_file.unlink()
    assert held.manifest["method"] == "disco" and held.adapter_config == CONFIG
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors is missing"):
        held.load()


def test_looking_at_a_folder_needs_no_torch(folder):
    look = "folder.manifest, folder.finished_scenario(), folder.adapter_config"
    code = "import sys; from pathlib import Path; from fcit_plugin.state.folder import StateFolder\n"
    code += f"folder = StateFolder(Path({str(folder)!r})); {look}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_run_on_its_way_has_stages_but_nothing_comes_behind_them(tmp_path):
    save_state(state_of(stage=1), tmp_path, CONFIG, {"scenario": SCENARIO.to_dict(), "rounds": [1, 1]})
    assert StateFolder(tmp_path).scenario == SCENARIO
    with pytest.raises(ValueError, match="in its stage 1, round 0, of 2 stages; let it finish"):
        StateFolder(tmp_path).finished_scenario()


def test_a_folder_without_subspaces_or_without_stages_says_so(tmp_path):
    save_state(state_of(subspaces=0), tmp_path, CONFIG, {})
    held = StateFolder(tmp_path)
    held.check()
    for read in (held.check_trained, lambda: held.adapter_config):
        with pytest.raises(ValueError, match=f"{tmp_path} holds no subspace yet; run at least one round first"):
            read()
    with pytest.raises(ValueError, match=r"fcit_manifest\.json lacks scenario; name a folder that an fcit run"):
        held.finished_scenario()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fcit_manifest.json", "cannot be read .No such file or directory.; name a folder that an fcit run has left"),
        ("identity_tokens.safetensors", "missing or corrupt"),
        ("subspaces/0/adapter_model.safetensors", "missing or corrupt"),
        ("subspaces/0/adapter_config.json", "cannot be read .No such file or directory.; restore it from a backup"),
    ],
)
def test_a_check_names_the_file_that_is_missing(folder, name, says):
    StateFolder(folder).check()
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{folder / name} .*{says}"):
        StateFolder(folder).check()


def test_progress_is_the_callers_own_each_time_and_may_lack_for_joined_runs_alone(folder):
    with pytest.raises(ValueError, match=r"progress\.json cannot be read"):
        StateFolder(folder).progress()
    write_json(folder / "progress.json", Progress(step=3).to_dict())
    held = StateFolder(folder)
    held.progress().dropped.append({"client": 1})
    assert held.progress().to_dict() == Progress(step=3).to_dict()
    values = Progress().to_dict()
    del values["asked"]
    write_json(folder / "progress.json", values)
    with pytest.raises(ValueError, match=r"progress\.json is not of its form, at `asked`: Field required"):
        held.progress()
    (folder / "progress.json").unlink()
    manifest = json.loads((folder / "fcit_manifest.json").read_text())
    write_json(folder / "fcit_manifest.json", manifest | {"joined": ["a", "b"]})
    assert StateFolder(folder).progress().to_dict() == Progress().to_dict()
