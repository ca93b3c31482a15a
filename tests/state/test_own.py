"""A folder from elsewhere may not name what is loaded; one of the user's own runs may."""

import json
import stat

import numpy as np
import pytest
import torch

from fcit_plugin.errors import FcitError
from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.serving.export_adapters import export_adapters
from fcit_plugin.serving.trained import TrainedRun
from fcit_plugin.state.own import is_own, sign, signed
from fcit_plugin.state.secret_files import secrets_folder
from fcit_plugin.state.server_state import ServerState, save_state

NAMES = {"base_model": "some/model", "identity_encoder": "some/encoder"}


@pytest.fixture(autouse=True)
def secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("FCIT_SECRETS_DIR", str(tmp_path / "secrets"))
    return tmp_path / "secrets"


@pytest.mark.parametrize("case", ["no home", "no home of that name", "a home that nobody may write to", "a file in its place"])
def test_where_no_secret_can_be_kept_folders_are_written_unsigned_and_those_of_others_served(case, tmp_path, monkeypatch):
    """In containers and services a user often has no home, or none of its own."""
    monkeypatch.delenv("FCIT_SECRETS_DIR")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", "/proc/1" if case == "a home that nobody may write to" else str(tmp_path))
    if case == "no home":
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    elif case == "no home of that name":
        monkeypatch.setenv("FCIT_SECRETS_DIR", "~no-such-user/secrets")
    elif case == "a file in its place":
        (tmp_path / ".config").write_text("")
    assert not is_own(NAMES | {"signature": "0" * 64})
    said = []
    assert signed(NAMES, tmp_path / "out", said.append) == NAMES
    (sentence,) = said
    assert "/out is not signed as your own" in sentence and ("FCIT_SECRETS_DIR" in sentence) is case.startswith("no home")


def test_what_was_signed_is_own_and_nothing_else(secrets, monkeypatch, tmp_path):
    assert not is_own(NAMES | {"signature": "0" * 64}) and not secrets.exists()
    signed = NAMES | {"signature": sign(NAMES), "method": "disco"}
    assert is_own(signed) and sign(NAMES) == signed["signature"]
    assert stat.S_IMODE((secrets / "signing.key").stat().st_mode) == 0o600
    assert [path.name for path in secrets.iterdir()] == ["signing.key"]
    for change in ({"identity_encoder": "other/encoder"}, {"base_model": None}, {"signature": None}, {"signature": "é"}):
        assert not is_own(signed | change)
    monkeypatch.setenv("FCIT_SECRETS_DIR", str(tmp_path / "of somebody else"))
    assert not is_own(signed)
    sign(NAMES)
    assert not is_own(signed)


def test_secrets_are_in_the_users_configuration_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("FCIT_SECRETS_DIR")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert secrets_folder() == tmp_path / "fcit_plugin"


@pytest.fixture
def folder(tmp_path):
    factors = {"base_model.model.l.lora_A.weight": torch.ones(2, 3), "base_model.model.l.lora_B.weight": torch.ones(4, 2)}
    tokens = SubspaceTokens(np.ones((1, 2), np.float32), np.ones(1, np.int64))
    state = ServerState(tokens, {}, [factors], stage=1, tasks=[{"color": 1}])
    kept = {"identity_source": "text", "identity_pooling": "mean", "identity_center": False, "template": "vicuna"}
    config = {"r": 2, "lora_alpha": 4, "target_modules": ["l"]}
    save_state(state, tmp_path / "run", config, NAMES | kept)
    return tmp_path / "run"


def test_an_encoder_that_a_folder_names_is_loaded_for_those_who_say_so(folder):
    with pytest.raises(FcitError, match=r"names the text encoder `some/encoder`.*set `fcit_trusted_encoder: some/encoder`"):
        TrainedRun.read(folder).router(None, None)
    with pytest.raises(FcitError, match="`fcit_trusted_encoder: some/encoder`"):
        TrainedRun.read(folder).router(None, None, trusted="other/encoder")
    with pytest.raises(FcitError, match="`fcit_identity_encoder: some/encoder` cannot be loaded"):
        TrainedRun.read(folder).router(None, None, trusted="some/encoder")
    manifest = json.loads((folder / "fcit_manifest.json").read_text())
    (folder / "fcit_manifest.json").write_text(json.dumps(manifest | {"signature": sign(manifest)}))
    with pytest.raises(FcitError, match="`fcit_identity_encoder: some/encoder` cannot be loaded"):
        TrainedRun.read(folder).router(None, None)


def test_a_base_model_that_a_folder_names_is_loaded_for_those_who_say_so(folder, tmp_path):
    with pytest.raises(FcitError, match=r"names the base model `some/model`.*with --model"):
        export_adapters(folder, tmp_path / "out", with_router=False)
    export_adapters(folder, tmp_path / "out", with_router=False, adapters_only=True, model="some/model")
