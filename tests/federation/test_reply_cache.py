"""A round that was interrupted goes on with the clients that had not replied, and only where their replies fit."""

import dataclasses

import numpy as np
import pytest
import torch
from test_server import Federation

from fcit_plugin.federation.client import make_client_app
from fcit_plugin.federation.in_process_grid import InProcessGrid
from fcit_plugin.federation.reply_cache import KEPT, ReplyCache
from fcit_plugin.federation.server import run

pytestmark = pytest.mark.thorough


class Killed(BaseException):
    """Stands for the end of the process: nothing of the round is left but the files."""


class Notes:
    """A journal of who trained, with a number that no other training gives."""

    def __init__(self):
        self.lines = []

    def mark(self):
        return len(self.lines)

    def since(self, mark):
        return {"lines": self.lines[mark:]}

    def replay(self, entries):
        self.lines += entries["lines"]


class Run:
    """A whole run of a federation without a model, whose replies are kept in a folder; ``cache`` are further arguments."""

    def __init__(self, folder, die_at=None, name="this run", cache=(), **changes):
        self.federation = Federation([["a"], ["b"]], **changes)
        self.notes = Notes()
        local, train = self.federation.local, self.federation.local.train

        def dying(config, subspace, shared, extras):
            if len(local.trained) == die_at:
                raise Killed()
            self.notes.lines.append([config.stage, config.round, config.client])
            return train(config, subspace, shared, extras)

        local.train = dying
        clients, notes = make_client_app(local), self.notes
        app = ReplyCache(clients, lambda stage, round: folder / f"{stage}-{round}", name, notes, **dict(cache))
        self.federation.grid = InProcessGrid(app, range(6), on_reply=app.arrived)
        self.run = lambda: run(
            self.federation.program,
            self.federation.start,
            self.federation.grid,
            self.federation.listener,
            self.federation.traffic,
        )


def bits(state):
    tensors = [state.shared, *state.subspaces]
    return [{key: value.numpy().tobytes() for key, value in part.items()} for part in tensors] + [
        state.tokens.sums.tobytes(), state.tokens.counts.tobytes(), state.tasks
    ]  # fmt: skip


@pytest.fixture
def whole(tmp_path):
    one = Run(tmp_path / "whole")
    one.end = one.run()
    return one


@pytest.mark.parametrize("die_at", range(12))
def test_killed_at_any_client_the_others_do_not_train_again_and_the_end_is_the_same(tmp_path, whole, die_at):
    first = Run(tmp_path / "kept", die_at)
    with pytest.raises(Killed):
        first.run()
    second = Run(tmp_path / "kept")
    end = second.run()
    assert first.federation.local.trained + second.federation.local.trained == whole.federation.local.trained
    assert len(first.federation.local.trained) == die_at
    assert bits(end) == bits(whole.end)
    assert second.notes.lines == whole.notes.lines
    assert second.federation.listener.rows == whole.federation.listener.rows
    assert second.federation.listener.losses == whole.federation.listener.losses
    assert vars(second.federation.traffic) == vars(whole.federation.traffic), "kept replies count as those that traveled"


@pytest.mark.parametrize("changes", [{"name": "another run"}, {"seed": 4}, {"shared": {"projector.weight": torch.ones(5)}}])
def test_replies_to_another_request_or_of_another_run_are_not_used(tmp_path, whole, changes):
    other = Run(tmp_path / "whole", **changes)
    other.run()
    trained = other.federation.local.trained
    assert len(trained) == len(whole.federation.local.trained) == 12
    again = Run(tmp_path / "whole", **changes)
    again.run()
    assert again.federation.local.trained == [], "they have taken the place of the others"


def test_a_damaged_reply_is_named_and_its_client_alone_trains_again(tmp_path, whole, caplog):
    path = tmp_path / "whole" / "0-1"
    client = min(path.iterdir()) / "fcit_update.safetensors"
    raw = bytearray(client.read_bytes())
    raw[-3] ^= 64
    client.write_bytes(bytes(raw))
    again = Run(tmp_path / "whole")
    end = again.run()
    number = int(client.parent.name.removeprefix("client-"))
    assert [row[:3] for row in again.federation.local.trained] == [(0, 1, number)]
    assert str(client) in caplog.text and "trains again" in caplog.text
    assert bits(end) == bits(whole.end)


def test_kept_replies_fit_where_another_machine_makes_other_last_digits_of_the_tokens(tmp_path, whole):
    again = Run(tmp_path / "whole")
    token, grown = again.federation.local.token, np.float32(1 + 1e-6)
    again.federation.local.token = lambda config: dataclasses.replace(token(config), mean=token(config).mean * grown)
    end = again.run()
    assert again.federation.local.trained == [], "all kept ones are used"
    assert (end.tasks, end.tokens.counts.tolist()) == (whole.end.tasks, whole.end.tokens.counts.tolist()), "and none is dropped"
    assert bits(end)[:-3] == bits(whole.end)[:-3]


def test_other_processes_get_the_main_ones_reply_and_write_nothing(tmp_path, whole):
    told = []

    def main_says(value):
        told.append(value)
        return value

    Run(tmp_path / "whole", cache={"from_main": main_says}).run()
    other = Run(tmp_path / "nowhere", cache={"writes": False, "from_main": lambda value: told.pop(0)})
    end = other.run()
    assert other.federation.local.trained == [] and bits(end) == bits(whole.end)
    assert not (tmp_path / "nowhere").exists()


def test_a_kept_reply_holds_json_and_safetensors_only(whole, tmp_path):
    names = {path.name for path in (tmp_path / "whole").rglob("*") if path.is_file()}
    assert names == {"fcit_update.json", "fcit_update.safetensors", KEPT, "checksums.json"}
    assert np.isfinite(whole.end.tokens.sums).all()
