"""What clients keep to themselves: over rounds, kills and files, and in no message."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict
from safetensors.numpy import load_file
from secure_toy import SecureToy
from test_compression import config, request_of
from toy import BLANK, PROJECTOR, Local, Toy, bits, noise, start

from fcit_plugin.federation.client_states import FOLDER, ClientFolder, ClientStates
from fcit_plugin.federation.compression import COMPRESSIONS, RESIDUAL
from fcit_plugin.federation.in_process_grid import InProcessGrid
from fcit_plugin.federation.messages import ClientConfig
from fcit_plugin.federation.reply_cache import ReplyCache


def whole_run(states=None, toy=None, rounds=3, state=None):
    toy = toy or Toy(grid={"states": states}, **config("int8"))
    state = state or start()
    for _ in range(rounds):
        state = toy.round(state)
    return state


def files(states, folder):
    states.write(folder)
    return {path.name: path.read_bytes() for path in sorted((folder / FOLDER).iterdir())}


def test_the_order_in_which_clients_are_run_plays_no_part(tmp_path):
    class Backwards(InProcessGrid):
        def send_and_receive(self, messages, *, timeout=None):
            return list(super().send_and_receive(list(messages)[::-1]))

    one, other = ClientStates(), ClientStates()
    toy = Toy(grid={"states": other}, **config("int8"))
    toy.grid.__class__ = Backwards
    assert bits(whole_run(one)) == bits(whole_run(toy=toy))
    assert files(one, tmp_path / "one") == files(other, tmp_path / "other") != {}


def test_what_a_client_keeps_is_in_no_message(tmp_path):
    heard, states = [], ClientStates()
    whole_run(states, Toy(on_reply=lambda *pair: heard.extend(pair), grid={"states": states}, **config("int8")))
    residuals = [data for path in files(states, tmp_path) for data in load_file(tmp_path / FOLDER / path).values()]
    records = [record for message in heard for record in message.content.array_records.values()]
    traveled = {array.data for record in records for array in record.values()}
    assert residuals and all(Array(value).data not in traveled for value in residuals)


LATE = {"timeout": 60, "clock": iter(range(0, 10**6, 61)).__next__}


@pytest.mark.parametrize("grid", [LATE, {"agree": lambda own: "elsewhere"}])
def test_a_client_that_failed_or_came_too_late_keeps_what_it_had(grid):
    states = ClientStates()
    toy = Toy(grid={"states": states, **grid}, **config("int8"))
    request = request_of("int8", 0, noise(0, BLANK), noise(1, PROJECTOR))
    (reply,) = toy.grid.send_and_receive([request])
    assert reply.has_error() and not states.of(4)
    (reply,) = Toy(grid={"states": states}, **config("int8")).grid.send_and_receive([request])
    assert reply.has_content() and states.of(4)


def test_a_client_of_an_own_process_begins_where_the_files_say(tmp_path):
    one, other = ClientStates(), ClientStates()
    middle = whole_run(one, rounds=2)
    one.write(tmp_path)
    other.read(tmp_path)
    assert bits(whole_run(one, rounds=1, state=middle)) == bits(whole_run(other, rounds=1, state=middle))
    assert bits(whole_run(ClientStates(), rounds=1, state=middle)) != bits(whole_run(one, rounds=1, state=middle))


# kills


class Killed(BaseException):
    """Stands for the end of the process."""


class Silent:
    def mark(self):
        return 0

    def since(self, mark):
        return {"steps": 0, "log": []}

    def replay(self, entries):
        pass


class Dying(Local):
    def __init__(self, die_at=None):
        self.die_at, self.trained = die_at, 0

    def train(self, *args):
        if self.trained == self.die_at:
            raise Killed
        self.trained += 1
        return super().train(*args)


def kept_run(folder, states, die_at=None):
    """A federation whose replies are kept."""
    made = {}

    def wrap(app):
        made["app"] = ReplyCache(app, lambda stage, round: folder / f"{stage}-{round}.replies", "this run", Silent())
        return made["app"]

    keys = {"on_reply": lambda *pair: made["app"].arrived(*pair), "grid": {"states": states}, **config("int8")}
    return Toy(local=Dying(die_at), wrap=wrap, **keys)


@pytest.mark.parametrize("die_at", range(0, 7, 2))
def test_a_round_that_was_broken_off_ends_with_the_same_weights_and_the_same_residuals(tmp_path, die_at):
    whole, states = ClientStates(), ClientStates()
    first = whole_run(whole, rounds=1)
    whole.write(tmp_path / "commit")
    end = whole_run(whole, rounds=2, state=first)

    states.read(tmp_path / "commit")
    with pytest.raises(Killed):
        whole_run(toy=kept_run(tmp_path, states, die_at), rounds=1, state=first)
    again = ClientStates()
    again.read(tmp_path / "commit")
    toy = kept_run(tmp_path, again)
    assert bits(whole_run(toy=toy, rounds=2, state=first)) == bits(end)
    assert toy.local.trained == 2 * 7 - die_at, "those that had replied do not train again"
    assert files(again, tmp_path / "again") == files(whole, tmp_path / "whole")


def test_a_kept_reply_of_a_client_that_had_kept_something_else_is_not_used(tmp_path):
    states = ClientStates()
    first = whole_run(states, rounds=1)
    whole_run(toy=kept_run(tmp_path, states), rounds=1, state=first)
    toy = kept_run(tmp_path, ClientStates())  # as if nobody had kept anything
    whole_run(toy=toy, rounds=1, state=first)
    assert toy.local.trained == 7


# files


def state(value):
    return RecordDict({RESIDUAL: ArrayRecord({"0/x": Array(np.full(2, value, np.float32))})})


def of_round(folder, stage, round, client=3, run="r"):
    return ClientFolder(folder, ClientConfig(run, stage, round, client, 0))


def held(folder, *where, **who):
    found = of_round(folder, *where, **who).read()
    return found[RESIDUAL]["0/x"].numpy()[0] if found else None


def test_a_clients_folder_gives_the_state_after_its_last_round_before_this_one(tmp_path):
    of_round(tmp_path, 0, 0).write(state(1.0))
    of_round(tmp_path, 0, 9).write(state(2.0))
    of_round(tmp_path, 0, 10).write(state(3.0))
    assert [held(tmp_path, 0, r) for r in (9, 10, 11)] == [None, 2.0, 3.0], "two are kept, by number"
    assert held(tmp_path, 1, 0) == 3.0
    assert held(tmp_path, 1, 0, client=4) is None and held(tmp_path, 1, 0, run="another") is None
    of_round(tmp_path, 0, 10).write(state(4.0))
    assert (held(tmp_path, 0, 10), held(tmp_path, 0, 11)) == (2.0, 4.0), "a round done again begins where it began"
    of_round(tmp_path, 0, 5).write(state(5.0))
    assert held(tmp_path, 7, 0) == 5.0, "later rounds were of another course of events"


def test_a_damaged_file_in_a_clients_folder_is_named(tmp_path):
    of_round(tmp_path, 0, 0).write(state(1.0))
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"stage-0_round-0\.safetensors is missing or corrupt"):
        of_round(tmp_path, 0, 1).read()


@pytest.mark.parametrize("compression", ["none", *COMPRESSIONS])
@pytest.mark.parametrize("times", [1, 2])
def test_sites_that_start_again_between_rounds_or_are_asked_twice_end_as_clients_of_one_process(compression, times, tmp_path):
    keys = {"fcit_update_compression": compression}
    expected = bits(whole_run(toy=Toy(grid={"states": ClientStates()}, **keys)))
    toy, state = SecureToy(tmp_path, times=times, fcit_secure_sum=False, **keys), start()
    for _ in range(3):
        state = toy.round(state)
        toy.apps = {client: toy.site(client) for client in toy.apps}
    assert bits(state) == expected
    assert len(toy.local.trained) == 3 * len(toy.apps)
