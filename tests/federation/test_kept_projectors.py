"""Projectors of subspaces on the server: which round's each has, in a state's folder and in two states joined."""

import dataclasses

import numpy as np
import pytest
import torch
from toy import BLANK, PROJECTOR, Local, Toy, bits, noise, start

from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.knowledge.organizer import Organizer
from fcit_plugin.knowledge.prototypes import Prototypes
from fcit_plugin.serving.join import join
from fcit_plugin.state.folder import StateFolder
from fcit_plugin.state.server_state import ServerState, save_state


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def state_of(seed):
    tokens = SubspaceTokens(np.eye(3, dtype=np.float32)[:2] * 8, np.array([8, 24]))
    own = [noise(seed + k, PROJECTOR) for k in range(2)]
    subspaces = [noise(k, BLANK) for k in range(2)]
    return ServerState(tokens, noise(9, PROJECTOR), subspaces, tasks=[{"a": 1}, {"b": 1}], projectors=own)


def test_a_folder_keeps_them(tmp_path):
    state = state_of(3)
    for name, saved in (("with", state), ("without", dataclasses.replace(state, projectors=[]))):
        save_state(saved, tmp_path / name, {"r": 2}, {})
        assert bits(StateFolder(tmp_path / name).load()) == bits(saved)
    save_state(dataclasses.replace(state, projectors=[{"other": torch.ones(1)}] * 2), tmp_path / "other", {"r": 2}, {})
    with pytest.raises(ValueError, match=r"projector in .*subspaces/0/shared\.safetensors .*does not fit"):
        StateFolder(tmp_path / "other").load()


def test_joined_subspaces_have_the_mean_of_theirs_and_appended_ones_their_own():
    first, second = state_of(10), state_of(20)
    second.tokens = SubspaceTokens(np.array([[8, 0, 0], [0, 0, 8]], np.float32), np.array([24, 8]))
    joined = join(first, second, Organizer(0.9, None)).state
    for key, value in joined.projectors[0].items():
        torch.testing.assert_close(value, (8 * first.projectors[0][key] + 24 * second.projectors[0][key]) / 32)
    assert equal(joined.projectors[1], first.projectors[1]) and equal(joined.projectors[2], second.projectors[1])


@pytest.mark.parametrize("swapped", [False, True])
def test_a_folder_without_them_is_joined_as_one_whose_subspaces_all_have_the_shared_one(swapped):
    first, second = state_of(10), dataclasses.replace(state_of(20), projectors=[])
    second.tokens = SubspaceTokens(np.array([[0, 8, 0], [0, 0, 8]], np.float32), np.array([24, 24]))
    one, other = (second, first) if swapped else (first, second)
    joined = join(one, other, Organizer(0.9, None)).state
    mean = {key: (first.projectors[1][key] + second.shared[key]) / 2 for key in second.shared}
    expected = [mean, second.shared, first.projectors[0]] if swapped else [first.projectors[0], mean, second.shared]
    for found, wanted in zip(joined.projectors, expected, strict=True):
        for key in wanted:
            torch.testing.assert_close(found[key], wanted[key])


class TellsKinds(Local):
    """A client all of whose instructions are of one kind."""

    def token(self, config):
        token = super().token(config)
        return dataclasses.replace(token, kinds=Prototypes(token.mean[None], np.array([token.count])))


def test_a_subspace_has_the_projector_of_the_last_round_that_trained_it():
    run, before = Toy(without=(2, 4, 5, 6), local=TellsKinds(), fcit_method="disco_plus"), start()
    after = run.round(before)
    trained = {k for k in range(len(after.subspaces)) if after.rounds[k] > before.rounds[k]}
    assert trained and trained != set(range(len(after.subspaces))), "some are trained, and some are not"
    for k, projector in enumerate(after.projectors):
        assert equal(projector, after.shared if k in trained else before.shared)
    assert not equal(after.shared, before.shared)
    assert Toy(fcit_method="disco").round(start()).projectors == []
