"""The server's state on disk: the same bits back, whole files, and one sentence for whatever is wrong."""

import json
import shutil

import numpy as np
import pytest
import torch
from flwr.app import Message, MessageType, RecordDict

from fcit_plugin.errors import FcitError
from fcit_plugin.federation.folders import DESCRIPTION, WEIGHTS, read_update, write_update
from fcit_plugin.federation.messages import ARRAYS, CONFIG, SHARED, ClientConfig, client_token, to_state, update_reply
from fcit_plugin.knowledge.identity_tokens import ClientToken, SubspaceTokens
from fcit_plugin.state.folder import StateFolder
from fcit_plugin.state.names import FORMAT_VERSION, MANIFEST
from fcit_plugin.state.server_state import ServerState, save_state

SUBSPACE_FILE = "subspaces/1/adapter_model.safetensors"


def subspace(seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        "l.lora_A.weight": torch.randn(2, 3, generator=generator),
        "l.lora_B.weight": torch.randn(4, 2, generator=generator),
    }


def state_of(shared=True):
    tokens = SubspaceTokens(np.array([[0.1, 1 / 3], [2.0, -5.0]], np.float32), np.array([7, 2**40], np.int64))
    return ServerState(
        tokens,
        {"projector.weight": torch.tensor([[1e-38, 3.0]])} if shared else {},
        [subspace(0), subspace(1)],
        stage=3,
        round=1,
        tasks=[{"color": 4}, {"Ärzte": 1}],
        rules={"0/m_t/l.lora_A.weight": np.array([[1e-7]], np.float32), "shared/norm": np.array(0.1)} if shared else {},
    )


@pytest.fixture
def folder(tmp_path):
    save_state(state_of(), tmp_path / "state", {"r": 2}, {"method": "disco"})
    return tmp_path / "state"


@pytest.fixture
def update(tmp_path):
    config = ClientConfig("r", 3, 1, 4, 0).to_record()
    request = Message(RecordDict({CONFIG: config}), dst_node_id=4, message_type=MessageType.TRAIN)
    of_client = ClientToken(client=4, mean=np.array([1 / 3, -2.0], np.float32), count=9, num_examples=7)
    write_update(tmp_path / "update", config, update_reply(request, subspace(5), {"p": torch.ones(2)}, of_client, 0.25))
    return tmp_path / "update"


@pytest.mark.parametrize("shared", [True, False])
def test_a_state_comes_back_bit_for_bit(tmp_path, shared):
    before = state_of(shared)
    save_state(before, tmp_path, {"r": 2}, {"method": "disco", "seed": 5})
    folder = StateFolder(tmp_path)
    after, manifest = folder.load(), folder.manifest
    assert (after.stage, after.round, after.tasks) == (3, 1, before.tasks)
    for one, other in zip([*before.subspaces, before.shared], [*after.subspaces, after.shared], strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[k], other[k]) and one[k].dtype == other[k].dtype for k in one)
    assert after.tokens.sums.tobytes() == before.tokens.sums.tobytes()
    assert after.tokens.counts.tolist() == [7, 2**40]
    assert after.rules.keys() == before.rules.keys()
    assert all(
        (after.rules[key].tobytes(), after.rules[key].dtype) == (a.tobytes(), a.dtype) for key, a in before.rules.items()
    )
    assert (manifest["method"], manifest["seed"], manifest["format_version"]) == ("disco", 5, FORMAT_VERSION)


def test_a_state_before_the_first_round_comes_back(tmp_path):
    save_state(ServerState(SubspaceTokens.empty(5), {}), tmp_path, {}, {})
    after = StateFolder(tmp_path).load()
    assert (after.subspaces, after.stage, after.round, after.tokens.sums.shape) == ([], 0, 0, (0, 5))


def test_an_update_comes_back_bit_for_bit(update):
    config, reply = read_update(update)
    assert {key: config[key] for key in ("stage", "round", "client", "task")} == {
        "stage": 3, "round": 1, "client": 4, "task": 0
    }  # fmt: skip
    assert {k: v.tolist() for k, v in to_state(reply.content[ARRAYS]).items()} == {
        k: v.tolist() for k, v in subspace(5).items()
    }
    assert to_state(reply.content[SHARED])["p"].tolist() == [1, 1]
    found = client_token(reply)
    assert (found.client, found.count, found.num_examples) == (4, 9, 7)
    assert found.mean.tolist() == np.array([1 / 3, -2.0], np.float32).tolist()


def test_an_update_file_that_is_too_large_is_not_even_read(update):
    size = (update / WEIGHTS).stat().st_size
    assert read_update(update, size)[0] == read_update(update)[0]
    with pytest.raises(ValueError, match=rf"{WEIGHTS} has {size} bytes where at most {size - 1} fit"):
        read_update(update, size - 1)


def test_folders_hold_safetensors_and_json_only_and_no_half_written_file(folder, update):
    for path in [*folder.rglob("*"), *update.rglob("*")]:
        assert path.is_dir() or path.suffix in (".safetensors", ".json"), path


def test_saving_again_replaces_what_was_there(folder):
    changed = state_of()
    changed.advance(num_rounds=2)
    changed.subspaces.append(subspace(2))
    changed.tasks.append({})
    changed.tokens = SubspaceTokens(np.ones((3, 2), np.float32), np.ones(3, np.int64))
    save_state(changed, folder, {"r": 2}, {})
    after = StateFolder(folder).load()
    assert (after.stage, after.round, len(after.subspaces)) == (4, 0, 3)


@pytest.mark.parametrize(("start", "num_rounds", "expected"), [((0, 0), 3, (0, 1)), ((0, 2), 3, (1, 0)), ((4, 0), 1, (5, 0))])
def test_advance_goes_to_the_next_round_or_stage(start, num_rounds, expected):
    state = ServerState(SubspaceTokens.empty(1), {}, stage=start[0], round=start[1])
    state.advance(num_rounds)
    assert (state.stage, state.round) == expected


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def pickled(path):
    torch.save(subspace(1), path)


def edited(**changes):
    def edit(path):
        manifest = json.loads(path.read_text())
        for key, value in changes.items():
            manifest.pop(key) if value is None else manifest.update({key: value})
        path.write_text(json.dumps(manifest))

    return edit


def no_object(path):
    path.write_text("[1, 2]")


def another_tensor(path):
    shutil.copy(path.parent / SUBSPACE_FILE, path)


def fewer_tokens(path):
    from safetensors.numpy import save_file

    save_file(SubspaceTokens(np.ones((1, 2), np.float32), np.ones(1, np.int64)).to_arrays(), path)


STATE_DAMAGE = [
    *((name, damage)
      for name in ("identity_tokens.safetensors", "shared.safetensors", "server_rules.safetensors", SUBSPACE_FILE)
      for damage in (lambda path: path.unlink(), cut, pickled)),
    (MANIFEST, lambda path: path.unlink()),
    (MANIFEST, cut),
    (MANIFEST, no_object),
    (MANIFEST, edited(format_version=FORMAT_VERSION + 1)),
    (MANIFEST, edited(format_version=str(FORMAT_VERSION))),
    (MANIFEST, edited(format_version=None)),
    (MANIFEST, edited(projectors=None)),
    (MANIFEST, edited(subspaces=None)),
    (MANIFEST, edited(stage=None)),
    ("identity_tokens.safetensors", another_tensor),
    ("identity_tokens.safetensors", fewer_tokens),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage"), STATE_DAMAGE)
def test_a_damaged_state_folder_gives_one_sentence_that_names_the_file(folder, name, damage):
    damage(folder / name)
    with pytest.raises(FcitError) as caught:
        StateFolder(folder).load()
    assert str(folder / name) in str(caught.value) or "`format_version` '" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_newer_format_says_to_upgrade(folder):
    edited(format_version=99)(folder / MANIFEST)
    with pytest.raises(ValueError, match=r"`format_version` 99.*upgrade fcit-plugin"):
        StateFolder(folder).load()


@pytest.mark.parametrize("version", range(1, FORMAT_VERSION))
def test_an_older_format_is_refused_with_what_to_do(folder, version):
    edited(format_version=version)(folder / MANIFEST)
    for read in (StateFolder(folder).check, StateFolder(folder).load, lambda: StateFolder(folder).scenario):
        with pytest.raises(FcitError) as caught:
            read()
        sentence = (
            f"{folder / MANIFEST} has `format_version` {version}, this fcit-plugin reads {FORMAT_VERSION} only; run its recipe"
        )
        assert str(caught.value).startswith(sentence) and "\n" not in str(caught.value)


UPDATE_DAMAGE = [
    *((name, damage) for name in (DESCRIPTION, WEIGHTS) for damage in (lambda path: path.unlink(), cut)),
    (WEIGHTS, pickled),
    (DESCRIPTION, no_object),
    (DESCRIPTION, edited(config=None)),
    (DESCRIPTION, edited(metrics=None)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage"), UPDATE_DAMAGE)
def test_a_damaged_update_folder_gives_one_sentence_that_names_the_file(update, name, damage):
    damage(update / name)
    with pytest.raises(FcitError) as caught:
        read_update(update)
    assert str(update / name) in str(caught.value)
    assert "\n" not in str(caught.value)
