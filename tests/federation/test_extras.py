"""What clients send beside their weights: honest records pass, hostile ones leave no trace, what comes of them is finite."""

import functools

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import FedAvg
from secure_toy import SecureToy
from toy import Toy, bits, start

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.continual.method import ContinualMethod
from fcit_plugin.continual.methods import make_method
from fcit_plugin.continual.record_limits import RecordLimits
from fcit_plugin.continual.terms import Pull
from fcit_plugin.errors import FcitError
from fcit_plugin.federation.messages import ARRAYS, SHARED
from fcit_plugin.federation.rules import ALL_NODES, RuleSet
from fcit_plugin.federation.token_checks import MAX_EXTRA_NORM
from fcit_plugin.parts import Part, ServerRule
from fcit_plugin.plugins import registry
from fcit_plugin.state.folder import StateFolder
from fcit_plugin.state.server_state import save_state

RATIO = 100.0
#: By record the least number that it can have, and the power of a gradient by which it grows.
KNOWN = {"fisher": (0.0, 2), "mean_gradient": (None, 1), "mas_importance": (0.0, 2)}


class Tells(ContinualMethod[None]):
    """A method of somebody who says nothing of what his clients' records hold."""

    def wants(self, stage, round):
        return ("told",)

    def remember(self, before, after, measured, examples):
        return {key: sum(extras["told"][key] for extras in measured) for key in measured[0]["told"]}


class Compares(Tells):
    """One whose clients' records cannot be compared."""

    limits = {"told": RecordLimits(power=None)}  # noqa: RUF012


def wanting():
    """Keys of a recipe, and a record that its clients send: of all methods and all rules that want one in a last round."""
    for name, part in sorted(registry("methods").items()):
        if part.load().wants_more():
            for record in make_method(FcitArguments(fcit_method=name, fcit_num_rounds=1)).wants(0, 0):
                yield {"fcit_method": name}, record
    for name in sorted(registry("server_rules")):
        for record in RuleSet(FcitArguments(fcit_server_rule=name)).wants:
            yield {"fcit_server_rule": name, "fcit_method": "sequential"}, record
    yield {"fcit_method": "tells"}, "told"


WANTING = [pytest.param(keys, record, id=f"{next(iter(keys.values()))}-{record}") for keys, record in wanting()]
walk = pytest.mark.parametrize(("keys", "record"), WANTING)


@pytest.fixture(autouse=True)
def _strangers(monkeypatch):
    monkeypatch.setitem(registry("methods"), "tells", Part(Tells, name="tells"))
    monkeypatch.setitem(registry("methods"), "compares", Part(Compares, name="compares"))


def spoiling(record, change, clients=(1,)):
    """A wrapper of the clients' app in which some clients' records are changed."""

    def wrap(app):
        def answer(message, context):
            reply = app(message, context)
            if message.metadata.dst_node_id in clients and record in reply.content:
                arrays = {key: array.numpy() for key, array in reply.content[record].items()}
                changed = {key: np.asarray(value, np.float32) for key, value in change(arrays).items()}
                reply.content[record] = ArrayRecord({key: Array(value) for key, value in changed.items()})
            return reply

        return answer

    return wrap


def norm_of(arrays):
    return np.linalg.norm(np.concatenate([value.astype(np.float64).ravel() for value in arrays.values()]))


def of_norm(norm):
    """A change to a record of this norm, with the same direction."""
    return lambda arrays: {key: value * (norm / norm_of(arrays)) for key, value in arrays.items()}


def norms(keys, record):
    """The norms of the honest records of a round."""
    found = {}

    def look(request, reply):
        if record in reply.content:
            found[request.metadata.dst_node_id] = norm_of({key: a.numpy() for key, a in reply.content[record].items()})

    Toy(on_reply=look, fcit_num_rounds=1, **keys).round()
    return found


def dropped(toy):
    return {row["client"]: row["reason"] for row in toy.heard.dropped}


@functools.cache
def without_client_1(keys):
    return bits(Toy(without=[1], fcit_num_rounds=1, **dict(keys)).round())


def one(number):
    def change(arrays):
        key = max(arrays)
        arrays[key] = arrays[key].copy()
        arrays[key].flat[-1] = number
        return arrays

    return change


HOSTILE = {
    "as large as float32 goes": lambda arrays: {key: np.full_like(value, 3e38) for key, value in arrays.items()},
    "one number as large as float32 goes": one(3e38),
    "NaN": one(np.nan),
    "infinite": one(-np.inf),
    "over the bound": of_norm(1.0001 * MAX_EXTRA_NORM),
}
FAR = "far over the others"


def test_what_is_known_of_the_records_is_what_their_owners_say():
    for keys, record in wanting():
        if record == "told":
            continue
        toy = Toy(**keys)
        limits = toy.program.bounds(start()).limits.get(record, RecordLimits())
        if record == "mas_importance" and record not in toy.program.method.limits:
            continue  # an older copy of the example is installed
        assert (limits.least, limits.power) == KNOWN[record], record
    assert {"fisher", "mean_gradient", "told"} <= {record for _, record in wanting()}


@walk
def test_honest_records_pass(keys, record):
    toy = Toy(fcit_num_rounds=1, **keys)
    toy.round()
    assert dropped(toy) == {}
    assert len(norms(keys, record)) == 7, "all clients have sent one"


@walk
@pytest.mark.parametrize(("change", "ratio"), [*((change, None) for change in HOSTILE), (FAR, RATIO)])
def test_a_hostile_record_is_left_out_with_its_client_and_named(keys, record, change, ratio):
    toy = Toy(
        wrap=spoiling(record, (HOSTILE | {FAR: of_norm(1e9)})[change]), fcit_num_rounds=1, fcit_max_norm_ratio=ratio, **keys
    )
    after = toy.round()
    assert [*dropped(toy)] == [1]
    assert record in dropped(toy)[1]
    assert bits(after) == without_client_1(tuple(keys.items()))


@walk
def test_a_number_below_0_is_refused_where_there_cannot_be_one_and_taken_elsewhere(keys, record):
    toy = Toy(wrap=spoiling(record, one(-1e-3)), fcit_num_rounds=1, **keys)
    least = toy.program.bounds(start()).limits.get(record, RecordLimits()).least
    toy.round()
    if least is None:
        assert dropped(toy) == {} and record != "fisher"
    else:
        assert dropped(toy)[1].endswith(f"has the number -0.001, and none of {record} is below 0")


@walk
def test_how_far_a_record_may_be_over_the_others_goes_by_how_it_grows(keys, record):
    honest = norms(keys, record)
    median = np.median([np.inf if client == 1 else norm for client, norm in honest.items()])
    assert median > 1, "else it were 1 that counts"
    most = RATIO ** KNOWN.get(record, (None, 2))[1] * median
    for factor, left_out in ((0.999, set()), (1.001, {1})):
        toy = Toy(wrap=spoiling(record, of_norm(factor * most)), fcit_num_rounds=1, **keys)
        toy.round()
        assert {*dropped(toy)} == left_out, factor
    assert "times the round's median of" in dropped(toy)[1] and "`fcit_max_norm_ratio`" in dropped(toy)[1]
    toy = Toy(wrap=spoiling(record, of_norm(1.001 * most)), fcit_num_rounds=1, fcit_max_norm_ratio=None, **keys)
    toy.round()
    assert dropped(toy) == {}


#: Norms of honest runs of the text recipe, each of a client that begins with a new task and of four that have learned theirs.
MEASURED = {"fisher": (2.7, [2.7e-13, 2.5e-12, 6.5e-10, 5.7e-10]), "mean_gradient": (0.48, [0.0036, 0.017, 0.024, 0.042])}


@walk
def test_a_client_with_a_new_task_is_not_odd_beside_those_that_have_nothing_left_to_learn(keys, record):
    new, settled = MEASURED.get(record, MEASURED["fisher"])

    def wrap(app):
        for client in range(7):
            app = spoiling(record, of_norm(new if client == 1 else settled[client % 4]), [client])(app)
        return app

    toy = Toy(wrap=wrap, fcit_num_rounds=1, **keys)
    toy.round()
    assert dropped(toy) == {}


def test_records_that_cannot_be_compared_have_the_absolute_bound_alone():
    keys = {"fcit_method": "compares", "fcit_num_rounds": 1}
    for norm, left_out in ((0.999 * MAX_EXTRA_NORM, set()), (1.001 * MAX_EXTRA_NORM, {1})):
        toy = Toy(wrap=spoiling("told", of_norm(norm)), **keys)
        toy.round()
        assert {*dropped(toy)} == left_out


@walk
def test_at_the_bound_nothing_leaves_float32_over_eight_stages_at_server_and_clients(keys, record, tmp_path):
    sent = []
    toy = Toy(
        wrap=spoiling(record, of_norm(0.999 * MAX_EXTRA_NORM), range(7)),
        on_reply=lambda request, reply: sent.append(request) if ARRAYS in request.content else None,
        fcit_stages=[[name] for name in "abcdefgh"],
        fcit_num_rounds=1,
        **keys,
    )
    state = start() if "fcit_server_rule" in keys else toy.round()
    for _ in range(7):
        state = toy.round(state)
    assert dropped(toy) == {}
    save_state(state, tmp_path, {}, {})
    assert bits(StateFolder(tmp_path).load()) == bits(state)
    records = [each for request in sent for each in request.content.array_records.items()]
    beside = [arrays for name, arrays in records if name not in (ARRAYS, SHARED)]
    for arrays in beside:
        for array in arrays.values():
            stiffness = torch.from_numpy(array.numpy())
            weight = torch.nn.Parameter(torch.full(stiffness.shape, 1e3))
            weight.grad = torch.zeros_like(weight)
            with torch.no_grad():
                Pull({"w": torch.zeros_like(weight)}, 1e3, {"w": stiffness}).add({"w": weight})
            assert weight.grad.square().sum().isfinite(), "an optimizer squares it"
    assert record == "told" or beside, "it is sent on"


class Overflows(FedAvg):
    """A rule whose weights or memory are not finite, where it is told so."""

    weights_of, memory_of = "", ""

    def __init__(self):
        super().__init__(**ALL_NODES)
        self.seen = None

    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        for key, array in arrays.items():
            if self.weights_of and self.weights_of in key:
                arrays[key] = Array(np.full(array.shape, np.inf, np.float32))
            if self.memory_of and self.memory_of in key:
                self.seen = {key: np.full(array.shape, np.nan, np.float32)}
        return arrays, metrics


class Diverges(Tells):
    """A method whose memory becomes infinite."""

    def remember(self, before, after, measured, examples):
        return {"w": torch.tensor([1.0, np.inf])}


OVERFLOWS = {
    "a subspace": ({"weights_of": "lora_B"}, {}, "l.lora_B.weight in subspaces/0/adapter_model.safetensors"),
    "what is shared": ({"weights_of": "projector"}, {}, "projector.weight in shared.safetensors"),
    "a rule's memory": ({"memory_of": "lora_A"}, {}, "0/seen/l.lora_A.weight in server_rules.safetensors"),
    "a method's memory": ({}, {"fcit_method": "diverges"}, "w in method_state.safetensors"),
}


@pytest.mark.parametrize("what", OVERFLOWS)
def test_a_round_that_comes_to_no_finite_numbers_is_not_committed_and_says_what_is_not(what, monkeypatch):
    attributes, keys, place = OVERFLOWS[what]
    monkeypatch.setitem(registry("server_rules"), "overflows", ServerRule(lambda args: Overflows(), name="overflows"))
    monkeypatch.setitem(registry("methods"), "diverges", Part(Diverges, name="diverges"))
    usual = bits(Toy(fcit_server_rule="overflows").round())
    toy, state = Toy(fcit_server_rule="overflows", **keys), start()
    before = bits(state)
    for name, value in attributes.items():
        monkeypatch.setattr(Overflows, name, value)
    with pytest.raises(FcitError) as caught:
        toy.round(state)
    said = str(caught.value)
    assert said.startswith("Stage 0, round 0 comes to numbers that are not finite (") and f"({place})" in said
    assert said.endswith(".") and "start again" in said
    assert (bits(state), toy.heard.ended, toy.heard.dropped) == (before, 0, [])
    for name in attributes:
        monkeypatch.setattr(Overflows, name, "")
    if not keys:
        assert bits(toy.round(state)) == usual, "it goes on from the state before the round"


def test_a_secure_sum_that_comes_to_no_finite_numbers_is_not_committed(monkeypatch, tmp_path):
    rule = ServerRule(lambda args: Overflows(), name="overflows", sees_mean_alone=True)
    monkeypatch.setitem(registry("server_rules"), "overflows", rule)
    toy, state = SecureToy(tmp_path, fcit_server_rule="overflows", fcit_method="sequential"), start()
    monkeypatch.setattr(Overflows, "weights_of", "lora_A")
    with pytest.raises(FcitError, match=r"^Stage 0, round 0 comes to numbers that are not finite \(l.lora_A.weight in subsp"):
        toy.round(state)
    assert toy.heard.ended == 0
