"""Commits of a run without a model: the last good one is always there and whole, whatever happens to the next."""

import json

import numpy as np
import pytest
import torch
from crashes import crash_everywhere

from fcit_plugin.evaluation.matrix import AccuracyMatrix
from fcit_plugin.files import write_json
from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.state.checkpoints import Checkpoints, number_of
from fcit_plugin.state.folder import StateFolder
from fcit_plugin.state.progress import Progress, Traffic
from fcit_plugin.state.sealed import CHECKSUMS, problems, seal
from fcit_plugin.state.server_state import ServerState, save_state


def state_of(number):
    """A state whose every number tells after how many rounds it is."""
    return ServerState(
        SubspaceTokens(np.full((1, 2), number, np.float32), np.array([number], np.int64)),
        {"projector.weight": torch.full((2,), float(number))},
        [{"l.lora_A.weight": torch.full((2, 3), float(number)), "l.lora_B.weight": torch.zeros(4, 2)}],
        stage=number,
        tasks=[{"color": number}],
        rules={"0/m_t/x": np.full(2, number, np.float32)},
    )


def commit(checkpoints, number):
    def write(folder):
        save_state(state_of(number), folder, {"r": 2}, {"method": "disco"})
        write_json(folder / "progress.json", Progress(step=number).to_dict())

    checkpoints.commit(number, write)


def committed(output_dir, limit=None, upto=3):
    checkpoints = Checkpoints(output_dir, limit)
    for number in range(upto + 1):
        commit(checkpoints, number)
    return checkpoints


def is_after(folder, number):
    """Whether a commit is loadable and all of it of one round."""
    state, manifest = StateFolder(folder).load(), StateFolder(folder).manifest
    values = {float(state.shared["projector.weight"][0]), *state.tokens.sums[0].tolist(), *state.rules["0/m_t/x"].tolist()}
    values |= {float(v) for v in state.subspaces[0]["l.lora_A.weight"].flatten()} | {float(state.tokens.counts[0])}
    values |= {float(manifest["stage"]), float(json.loads((folder / "progress.json").read_text())["step"])}
    return values == {float(number)}


def spoil(folder, name="identity_tokens.safetensors"):
    raw = bytearray((folder / name).read_bytes())
    raw[-1] ^= 1
    (folder / name).write_bytes(bytes(raw))


@pytest.mark.parametrize(("limit", "kept"), [(None, [2, 3]), (1, [3]), (3, [1, 2, 3]), (9, [0, 1, 2, 3]), (0, [0, 1, 2, 3])])
def test_the_last_commits_are_kept_and_each_is_a_whole_state_folder(tmp_path, limit, kept):
    checkpoints = committed(tmp_path, limit)
    assert [number_of(folder) for folder in checkpoints.commits()] == kept
    assert all(is_after(folder, number) for folder, number in zip(checkpoints.commits(), kept, strict=True))
    found = checkpoints.newest_good()
    assert (found.good, found.bad) == (checkpoints.path(3), {})


def test_commits_are_ordered_by_number_also_beyond_the_zeros_of_the_name(tmp_path):
    checkpoints = Checkpoints(tmp_path, 0)
    for number in (9_999, 10_000, 2):
        commit(checkpoints, number)
    assert [number_of(folder) for folder in checkpoints.commits()] == [2, 9_999, 10_000]
    assert checkpoints.newest_good().good.name == "round-10000"


@pytest.mark.thorough
def test_a_kill_before_any_file_operation_of_a_commit_leaves_the_last_commit_or_the_new_one(tmp_path):
    """Real kills: each try is a process that dies before its first file operation, its second, and so on."""
    checkpoints = committed(tmp_path)
    seal(checkpoints.replies(3) / "client-1", lambda folder: (folder / "x").write_bytes(b"x"))
    seen = set()

    def check(done):
        newest = checkpoints.newest_good()
        assert newest.bad == {}, "a commit is never there in part"
        number = number_of(newest.good)
        assert number in ((4,) if done else (3, 4)) and is_after(newest.good, number)
        assert (checkpoints.replies(3) / "client-1").exists() or number == 4, "replies go when their commit is there"
        seen.add(number)
        checkpoints.go_back_to(number)
        assert all(path.name.startswith("round-") for path in checkpoints.folder.iterdir()), "leftovers are cleaned up"
        checkpoints.go_back_to(3)
        if not checkpoints.path(2).exists():
            commit(checkpoints, 2)
            commit(checkpoints, 3)
        seal(checkpoints.replies(3) / "client-1", lambda folder: (folder / "x").write_bytes(b"x"))

    operations = crash_everywhere(lambda: commit(checkpoints, 4), checkpoints.folder, check)
    assert operations > 30 and seen == {3, 4}


@pytest.mark.parametrize(
    "name", ["identity_tokens.safetensors", "shared.safetensors", "server_rules.safetensors", "fcit_manifest.json",
             "progress.json", "subspaces/0/adapter_model.safetensors", "subspaces/0/adapter_config.json", CHECKSUMS]
)  # fmt: skip
def test_a_commit_with_one_changed_bit_is_named_with_its_file_and_the_one_before_it_is_used(tmp_path, name):
    checkpoints = committed(tmp_path)
    spoil(checkpoints.path(3), name)
    found = checkpoints.newest_good()
    assert found.good == checkpoints.path(2)
    assert list(found.bad) == [checkpoints.path(3)]
    (problem,) = found.bad[checkpoints.path(3)]
    assert problem.startswith(str(checkpoints.path(3) / name))


def test_without_any_good_commit_all_are_named(tmp_path):
    checkpoints = committed(tmp_path)
    for folder in checkpoints.commits():
        spoil(folder)
    found = checkpoints.newest_good()
    assert found.good is None and sorted(found.bad) == checkpoints.commits()


def test_a_commit_replaces_a_damaged_one_of_the_same_number(tmp_path):
    checkpoints = committed(tmp_path)
    spoil(checkpoints.path(3))
    commit(checkpoints, 3)
    assert problems(checkpoints.path(3)) == [] and is_after(checkpoints.path(3), 3)


def test_going_back_leaves_what_is_not_newer_and_the_replies_to_it(tmp_path):
    checkpoints = committed(tmp_path, limit=0)
    for number in (1, 2, 3):
        seal(checkpoints.replies(number) / f"client-{number}", lambda folder: (folder / "x").write_bytes(b"x"))
    (checkpoints.folder / ".round-0004.partial" / "deep").mkdir(parents=True)
    (checkpoints.folder / "mine.txt").write_text("no commit")
    checkpoints.go_back_to(2)
    names = sorted(path.name for path in checkpoints.folder.iterdir())
    assert names == ["mine.txt", "round-0000", "round-0001", "round-0002", "round-0002.replies"]
    assert [reply.name for reply in checkpoints.pending_replies()] == ["client-2"]
    checkpoints.go_back_to(None)
    assert [path.name for path in checkpoints.folder.iterdir()] == ["mine.txt"]


def test_progress_comes_back_from_json_as_it_was():
    matrix = AccuracyMatrix()
    matrix.add(0, {"b": 100 / 3})
    matrix.add(1, {"b": 1e-17, "a": 50.0})
    before = Progress(
        step=7,
        zero_shot={"b": 0.1, "a": 0.0},
        matrix=matrix,
        restricted=[{"b": None}, {"b": 2 / 3, "a": None}],
        other=[{}, {"a": {"rouge": 0.1 + 0.2}}],
        assignments=[{"stage": 0, "round": 1, "client": 2, "task": "b", "subspace": 0, "cosine": None}],
        traffic=Traffic(2**40, 5),
        seconds={"total": 1.5, "evaluate": 0.5},
    )
    after = Progress.from_dict(json.loads(json.dumps(before.to_dict())))
    assert (after.matrix.datasets, after.matrix.rows) == (("b", "a"), [[100 / 3, None], [1e-17, 50.0]])
    assert after.to_dict() == before.to_dict()
    assert {**vars(after), "matrix": None} == {**vars(before), "matrix": None}
    assert Progress.from_dict(json.loads(json.dumps(Progress().to_dict()))).to_dict() == Progress().to_dict()
