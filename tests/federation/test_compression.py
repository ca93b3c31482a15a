"""Compressed updates: against plain references, in rounds with faults, and what error feedback is for."""

import numpy as np
import pytest
import torch
from faults import TABLE, A, B, Fault, drop, edit, element, raw, tensor
from flwr.app import Array, ArrayRecord, Context, Message, MessageType, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_faults import PLACES, intercepting
from toy import BLANK, PROJECTOR, TOKENS, Local, Toy, bits, noise, start

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.federation.client import TrainingResult
from fcit_plugin.federation.client_states import ClientStates
from fcit_plugin.federation.compression import COMPRESSIONS, RESIDUAL, SCALES, compress_update, restored
from fcit_plugin.federation.folders import read_update, write_update
from fcit_plugin.federation.messages import (
    ARRAYS,
    CONFIG,
    SHARED,
    TOKEN,
    ClientConfig,
    config_of,
    config_record,
    num_bytes,
    to_record,
    update_reply,
)
from fcit_plugin.knowledge.identity_tokens import ClientToken

BF16, INT8 = COMPRESSIONS["bf16"], COMPRESSIONS["int8"]
FLOATS = arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(1, 5)), elements=st.floats(width=32))


# the two codes


@given(FLOATS)
def test_bf16_is_torchs_own_cast(values):
    numbers, _ = BF16.encode(values)
    expected = torch.from_numpy(values).to(torch.bfloat16)
    assert numbers.dtype == np.uint16 and numbers.shape == values.shape
    np.testing.assert_array_equal(BF16.decode(numbers, np.float32(1)), expected.float().numpy())  # NaN equals NaN here


def test_bf16_rounds_every_tie_to_even():
    upper = np.arange(2**16, dtype=np.uint32)
    for lower in (0x7FFF, 0x8000, 0x8001):
        values = (upper << 16 | lower).astype(np.uint32).view(np.float32)
        found = BF16.decode(BF16.encode(values)[0], np.float32(1))
        np.testing.assert_array_equal(found, torch.from_numpy(values).to(torch.bfloat16).float().numpy())


@given(arrays(np.float32, (3, 4), elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_int8_is_the_nearest_of_255_multiples_of_the_step(values):
    numbers, scale = INT8.encode(values)
    assert numbers.dtype == np.int8 and scale.dtype == np.float32
    if scale == 0:
        assert not numbers.any() and np.abs(values).max() <= 127 * 2.0**-149
        return
    grid = np.arange(-127, 128) * np.float64(scale)
    nearest = np.abs(values.astype(np.float64)[..., None] - grid).min(-1)
    ours = np.abs(values - numbers * np.float64(scale))
    np.testing.assert_allclose(ours, nearest, rtol=1e-5, atol=1e-5 * scale)
    assert scale == pytest.approx(np.abs(values).max() / 127, rel=1e-6, abs=2e-45)
    np.testing.assert_array_equal(INT8.decode(numbers, scale), numbers.astype(np.float32) * scale)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", COMPRESSIONS)
def test_what_is_not_finite_does_not_come_out_finite(name, bad):
    values = np.array([[1.0, bad], [0.5, -3.0]], np.float32)
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(COMPRESSIONS[name].decode(*COMPRESSIONS[name].encode(values))).all()


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_tensor_without_axes_is_one_too(name):
    numbers, scale = COMPRESSIONS[name].encode(np.float32(-2.5).reshape(()))
    assert numbers.shape == () and isinstance(numbers, np.ndarray)
    assert COMPRESSIONS[name].decode(numbers, scale) == pytest.approx(-2.5)


def test_the_recipe_knows_the_same_names():
    for name in ("none", *COMPRESSIONS):
        FcitArguments(fcit_update_compression=name)
    with pytest.raises(ValueError, match="`fcit_update_compression` is 'bf8'; did you mean `bf16`"):
        FcitArguments(fcit_update_compression="bf8")


# a client


def request_of(name, subspace=0, sent=None, shared=None, **more):
    config = ClientConfig("r", 0, 0, 4, 0, subspace, compression=None if name == "none" else name, **more)
    content = RecordDict({CONFIG: config.to_record(), ARRAYS: to_record(sent or noise(0, BLANK))})
    if shared is not None:
        content[SHARED] = to_record(shared)
    return Message(content, dst_node_id=4, message_type=MessageType.TRAIN)


def answer(request, trained, shared=None, state=None, extras=None):
    """The reply of a client that has trained these weights."""
    token = ClientToken(4, np.ones(3, np.float32), 9, 70)
    context = Context(run_id=0, node_id=4, node_config={}, state=state if state is not None else RecordDict(), run_config={})
    return compress_update(request, context, lambda *_: update_reply(request, trained, shared or {}, token, 0.5, extras))


def weights(reply, request, name=ARRAYS):
    record = restored(reply, request, COMPRESSIONS[config_of(request).compression]).content[name]
    return {key: array.numpy() for key, array in record.items()}


@pytest.mark.parametrize(("name", "width"), [("bf16", 2), ("int8", 1)])
def test_the_weights_travel_in_fewer_bytes_and_all_else_as_it_is(name, width):
    sent, trained = noise(1, BLANK), noise(2, BLANK)
    extras = {"mean_gradient": noise(3, BLANK)}
    request, plain = request_of(name, 0, sent, noise(1, PROJECTOR)), request_of("none", 0, sent, noise(1, PROJECTOR))
    reply = answer(request, trained, noise(4, PROJECTOR), extras=extras)
    whole = answer(plain, trained, noise(4, PROJECTOR), extras=extras)
    assert set(reply.content) - set(whole.content) == ({SCALES} if name == "int8" else set())
    assert set(whole.content) - set(reply.content) == set()
    for record in (TOKEN, "mean_gradient"):
        assert {k: a.data for k, a in reply.content[record].items()} == {k: a.data for k, a in whole.content[record].items()}
    numbers = sum(value.numel() for value in (*BLANK.values(), *PROJECTOR.values()))
    scales = 2 * 128 + 4 * 3 if name == "int8" else 0  # two records of two and one tensors
    assert num_bytes(whole) - num_bytes(reply) == (4 - width) * numbers - scales


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_the_server_restores_what_was_sent_plus_the_coded_change(name):
    compression = COMPRESSIONS[name]
    sent, trained = noise(1, BLANK), noise(2, BLANK)
    request = request_of(name, 0, sent)
    found = weights(answer(request, trained), request)
    for key, value in sent.items():
        change = compression.decode(*compression.encode((trained[key] - value).numpy()))
        assert found[key].dtype == np.float32
        assert found[key].tobytes() == (value.numpy() + change).tobytes()
        np.testing.assert_allclose(found[key], trained[key].numpy(), atol=3 / 127)


def rounds_of(changes, kept):
    """What arrives in some rounds at a client whose subspace does not move, with or without its state."""
    zero, state = {A: torch.zeros(2)}, RecordDict()
    for change in changes:
        request = request_of("int8", 0, zero)
        yield weights(answer(request, {A: torch.from_numpy(change)}, state=state if kept else RecordDict()), request)[A]


def test_with_error_feedback_nothing_is_lost_over_rounds_and_without_it_is():
    changes = [np.array([127.0, 0.4], np.float32)] * 50  # a step of 1: 0.4 is rounded away in each round
    total, step = np.sum(changes, axis=0, dtype=np.float64), 1.0
    with_it, without = (np.sum(list(rounds_of(changes, kept)), axis=0, dtype=np.float64) for kept in (True, False))
    assert np.abs(with_it - total).max() <= step
    assert np.abs(without - total).max() == pytest.approx(0.4 * 50)


@given(arrays(np.float32, (12, 2), elements=st.floats(-8, 8, width=32)))
def test_what_is_missing_is_never_more_than_one_step_of_the_last_round(changes):
    arrived = np.array(list(rounds_of(changes, True)), np.float64)
    lacking = np.abs(np.cumsum(arrived, 0) - np.cumsum(changes.astype(np.float64), 0))
    residual, most = 0.0, []
    for change in changes:  # |e| <= s/2, and s = max|v| / 127
        residual = (np.abs(change).max() + residual) / 127 / 2
        most.append(2 * residual)
    assert (lacking.max(1) <= np.array(most) + 1e-4).all()


def test_residuals_are_kept_by_subspace_and_tensor_with_those_of_the_shared_ones_apart():
    state, change = RecordDict(), {A: torch.tensor([127.0, 0.4])}
    zero, projector = {A: torch.zeros(2)}, {A: torch.zeros(2)}  # of the same name, for the test
    request = request_of("int8", 3, zero, projector)
    answer(request, change, {A: torch.tensor([127.0, -0.3])}, state=state)
    assert set(state[RESIDUAL]) == {f"3/{A}", f"{SHARED}/{A}"}
    before = {key: array.numpy().copy() for key, array in state[RESIDUAL].items()}
    np.testing.assert_allclose(before[f"3/{A}"], [0, 0.4], atol=1e-6)
    np.testing.assert_allclose(before[f"{SHARED}/{A}"], [0, -0.3], atol=1e-6)
    answer(request_of("int8", 5, zero), change, state=state)
    assert set(state[RESIDUAL]) == {f"3/{A}", f"5/{A}", f"{SHARED}/{A}"}
    for key, value in before.items():
        np.testing.assert_array_equal(state[RESIDUAL][key].numpy(), value)


def test_a_residual_of_a_factor_that_is_not_trained_this_time_waits():
    state, change = RecordDict(), {A: torch.tensor([127.0, 0.4]), B: torch.tensor([127.0, 0.2])}
    zero = {key: torch.zeros(2) for key in change}
    answer(request_of("int8", 0, zero), change, state=state)
    reply = answer(request_of("int8", 0, zero), {B: change[B]}, state=state)
    assert set(reply.content[ARRAYS]) == {B}
    np.testing.assert_allclose(state[RESIDUAL][f"0/{A}"].numpy(), [0, 0.4], atol=1e-6)
    np.testing.assert_allclose(state[RESIDUAL][f"0/{B}"].numpy(), [0, 0.4], atol=1e-6)


@pytest.mark.parametrize(("name", "more"), [("int8", {"opens": True}), ("bf16", {}), ("none", {})])
def test_nothing_is_kept_of_a_subspace_that_opens_nor_without_feedback(name, more):
    state = RecordDict()
    answer(request_of(name, 0, **more), noise(9, BLANK), state=state)
    assert not state


def test_a_residual_of_another_shape_is_dropped():
    state = RecordDict({RESIDUAL: ArrayRecord({f"0/{A}": Array(np.full(3, 9.0, np.float32))})})
    request = request_of("int8", 0, {A: torch.zeros(2)})
    found = weights(answer(request, {A: torch.tensor([127.0, 0.4])}, state=state), request)
    np.testing.assert_array_equal(found[A], [127, 0])
    assert state[RESIDUAL][f"0/{A}"].shape == (2,)


def test_a_training_that_diverged_leaves_the_residual_of_before():
    state, zero = RecordDict(), {A: torch.zeros(2)}
    answer(request_of("int8", 0, zero), {A: torch.tensor([127.0, 0.4])}, state=state)
    answer(request_of("int8", 0, zero), {A: torch.tensor([torch.nan, 0.4])}, state=state)
    np.testing.assert_allclose(state[RESIDUAL][f"0/{A}"].numpy(), [0, 0.4], atol=1e-6)


def test_a_reply_that_says_that_the_client_failed_is_left_alone():
    request = request_of("int8")
    failed = Message(RecordDict(), reply_to=request)
    assert compress_update(request_of("none"), None, lambda *_: failed) is failed


# rounds


def config(name, **more):
    return {"fcit_update_compression": name, **more}


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_round_is_near_the_one_without_compression(name):
    toy, plain = Toy(**config(name)), Toy()
    found, expected = toy.round(), plain.round()
    assert toy.heard.rows == plain.heard.rows and toy.heard.dropped == []
    assert toy.traffic.down == plain.traffic.down and toy.traffic.up != plain.traffic.up
    for ours, theirs in zip([found.shared, *found.subspaces], [expected.shared, *expected.subspaces], strict=True):
        for key, value in theirs.items():
            torch.testing.assert_close(ours[key], value, rtol=0, atol=5 / 127)
            assert ours[key].dtype == torch.float32 and not torch.equal(ours[key], value)


@pytest.fixture(scope="module")
def honest():
    """The state after a round without some clients, by compression."""
    known = {}

    def after(name, without):
        if (name, without) not in known:
            known[name, without] = bits(Toy(without, **config(name)).round())
        return known[name, without]

    return after


#: What an int8 array is no fault of, and what is one of weights that are not there: whole numbers hold no NaN, and what those
#: that travel and their scales can hold of it stands in OF_COMPRESSION.
_OF_WEIGHTS = (
    *("sends int8", "moves as far as float32 goes"),
    *("has NaN in its weights", "has infinity in its weights", "has infinity in the projector"),
)
OF_UPDATES = [fault for fault in TABLE if MessageType.TRAIN in fault.phases and fault.name not in _OF_WEIGHTS]
KEYS = {"fcit_max_client_samples": 100, "fcit_max_update_norm": 1e4}


@pytest.mark.parametrize("fault", OF_UPDATES, ids=lambda fault: fault.name)
@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_round_with_a_bad_reply_is_the_round_without_that_client(name, fault, honest):
    client = PLACES["shares"]
    left_out = fault.left_out(client)
    with intercepting({client}, MessageType.TRAIN, fault.apply):
        toy = Toy(**config(name, **KEYS))
        after = toy.round()
    assert {entry["client"] for entry in toy.heard.dropped} == left_out
    assert bits(after) == honest(name, frozenset(left_out & set(TOKENS)))


def scale(change):
    return tensor(SCALES, ARRAYS, change)


OF_COMPRESSION = [
    ("int8", Fault("NaN", (), scale(element(np.nan)), "arrays/l.lora_B.weight is not finite")),
    ("int8", Fault("infinity", (), scale(element(-np.inf)), "arrays/l.lora_B.weight is not finite")),
    ("int8", Fault("overflow", (), scale(element(3e38)), "arrays/l.lora_B.weight is not finite")),
    ("int8", Fault("far", (), scale(lambda a: a * np.float32(1e5)), "fcit_max_norm_ratio")),
    ("int8", Fault("no scales", (), drop(SCALES), "it holds the records arrays, config")),
    ("int8", Fault("no scales of one", (), drop(SCALES, SHARED), "its record scales holds arrays, not arrays, shared")),
    ("int8", Fault("more", (), edit(lambda c: c[SCALES].update(x=c[SCALES][SHARED])), "holds arrays, shared, x, not")),
    ("int8", Fault("short", (), scale(lambda a: a[:1]), "scales/arrays is of shape (1,), not (2,)")),
    ("int8", Fault("wide", (), scale(lambda a: a.astype(float)), "scales/arrays is of dtype 'float64', not float32")),
    ("int8", Fault("weights", (), tensor(ARRAYS, A, lambda a: a.astype("f4")), "is of dtype 'float32', not int8")),
    ("int8", Fault("lies", (), raw(ARRAYS, A, lambda a: {"data": a.data + b"x"}), "arrays/l.lora_A.weight has ")),
    ("bf16", Fault("NaN", (), tensor(ARRAYS, B, element(0x7FC1)), "arrays/l.lora_B.weight is not finite")),
    ("bf16", Fault("infinity", (), tensor(SHARED, "projector.weight", element(0xFF80)), "shared/projector.weight is not")),
    ("bf16", Fault("scales", (), edit(lambda c: c.update({SCALES: ArrayRecord()})), "it holds the records")),
    ("bf16", Fault("int16", (), tensor(ARRAYS, A, lambda a: a.view(np.int16)), "is of dtype 'int16', not uint16")),
]


@pytest.mark.parametrize(("name", "fault"), OF_COMPRESSION, ids=lambda value: getattr(value, "name", value))
def test_a_bad_compressed_reply_is_named_and_left_out(name, fault, honest):
    for client in PLACES.values():
        with intercepting({client}, MessageType.TRAIN, fault.apply):
            toy = Toy(**config(name))
            after = toy.round()
        ((dropped, reason),) = [(entry["client"], entry["reason"]) for entry in toy.heard.dropped]
        assert dropped == client and fault.says in reason, reason
        assert bits(after) == honest(name, frozenset({client}))


class Diverging(Local):
    def train(self, config, subspace, shared, extras):
        trained = super().train(config, subspace, shared, extras)
        if config.client == 2:
            trained.subspace[B][1, 0] = torch.nan
        return trained


@pytest.mark.parametrize("name", ["none", *COMPRESSIONS])
def test_a_client_whose_training_diverged_is_told_of_in_the_same_words(name):
    toy = Toy(local=Diverging(), **config(name))
    toy.round()
    sentence = "arrays/l.lora_B.weight is not finite; if its training diverged, lower the learning rate"
    assert [(entry["client"], entry["reason"]) for entry in toy.heard.dropped] == [(2, sentence)]


def test_int8_is_no_reply_to_a_server_that_did_not_ask_for_it():
    with intercepting({2}, MessageType.TRAIN, tensor(ARRAYS, A, lambda a: np.zeros_like(a, np.int8))):
        toy = Toy()
        toy.round()
    assert "is of dtype 'int8', not float32" in toy.heard.dropped[0]["reason"]


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_an_update_folder_holds_what_travels(name, tmp_path):
    request = request_of(name, 0, noise(0, BLANK), noise(1, PROJECTOR))
    reply = answer(request, noise(5, BLANK), noise(6, PROJECTOR))
    write_update(tmp_path, config_record(request), reply)
    read = read_update(tmp_path)[1]
    assert num_bytes(read) == num_bytes(reply)
    for record in (ARRAYS, SHARED):
        ours, theirs = (weights(message, request, record) for message in (read, reply))
        assert {k: v.tobytes() for k, v in ours.items()} == {k: v.tobytes() for k, v in theirs.items()}


def test_error_feedback_brings_the_shared_weights_nearer_to_what_clients_learned():
    """Each client moves in each round in the same direction; what the projector lacks does not add up."""

    class Steady(Local):
        def train(self, config, subspace, shared, extras):
            step = noise(1 + config.client, subspace | shared)
            return TrainingResult(*({k: v + step[k] for k, v in part.items()} for part in (subspace, shared)), 0.5)

    def after(name, states, rounds=30):
        toy, state = Toy(local=Steady(), grid={"states": states}, fcit_num_rounds=99, **config(name)), start()
        for _ in range(rounds):
            state = toy.round(state)
        return state.shared["projector.weight"]

    class Forgetful(ClientStates):
        def keep(self, client, state):
            pass

    exact = after("none", None)
    kept, forgotten = ((after("int8", states) - exact).abs().max() for states in (ClientStates(), Forgetful()))
    assert kept < 0.03 < forgotten
