"""What travels between server and clients: which records, in which dtype, of which size."""

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from fcit_plugin.federation.messages import (
    ARRAYS,
    CONFIG,
    METRICS,
    NUM_EXAMPLES,
    SHARED,
    TOKEN,
    ClientConfig,
    client_token,
    config_of,
    config_record,
    num_bytes,
    part_of,
    to_record,
    to_state,
    token_reply,
    update_reply,
)
from fcit_plugin.knowledge.identity_tokens import ClientToken

SUBSPACE = {"a.lora_A.weight": torch.arange(6.0).reshape(2, 3), "a.lora_B.weight": torch.ones(4, 2)}
PROJECTOR = {"projector.weight": torch.full((2, 2), 0.1)}
OF_CLIENT_4 = ClientToken(client=4, mean=np.array([1.0, -2.0, 0.5], np.float32), count=9, num_examples=7)


@pytest.fixture
def request_to_4():
    content = RecordDict(
        {CONFIG: ClientConfig("r", 1, 2, 4, 0).to_record(), ARRAYS: to_record(SUBSPACE), SHARED: to_record(PROJECTOR)}
    )
    return Message(content, dst_node_id=4, message_type=MessageType.TRAIN)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_state_of_any_float_dtype_arrives_as_float32(dtype):
    state = {key: value.to(dtype) for key, value in SUBSPACE.items()}
    back = to_state(to_record(state))
    assert list(back) == list(state)
    for key, value in state.items():
        assert back[key].dtype == torch.float32
        assert torch.equal(back[key], value.float())


def test_float32_survives_bit_for_bit():
    value = torch.randn(50, 3) * torch.logspace(-30, 30, 50)[:, None]
    assert torch.equal(to_state(to_record({"x": value}))["x"], value)


def test_float64_from_a_strategy_becomes_float32():
    record = ArrayRecord({"x": Array(np.array([1 / 3]))})
    assert to_state(record)["x"].dtype == torch.float32


def test_a_received_state_may_be_written_to():
    back = to_state(to_record(SUBSPACE))
    back["a.lora_A.weight"] += 1
    assert torch.equal(SUBSPACE["a.lora_A.weight"], torch.arange(6.0).reshape(2, 3))


def test_the_answer_to_a_query_holds_token_and_counts_and_nothing_else(request_to_4):
    reply = token_reply(request_to_4, OF_CLIENT_4)
    assert set(reply.content) == {TOKEN, METRICS, CONFIG}
    assert dict(reply.content[CONFIG]) == {"run": "r", "stage": 1, "round": 2, "client": 4, "task": 0}
    assert dict(reply.content[METRICS]) == {NUM_EXAMPLES: 7, "token-count": 9}
    found = client_token(reply)
    assert (found.client, found.count, found.num_examples) == (4, 9, 7)
    assert found.mean.tobytes() == OF_CLIENT_4.mean.tobytes()


@pytest.mark.parametrize(
    ("shared", "records"),
    [({}, {ARRAYS, TOKEN, METRICS, CONFIG}), (PROJECTOR, {ARRAYS, SHARED, TOKEN, METRICS, CONFIG})],
)
def test_an_update_holds_the_one_subspace_shared_token_and_counts_and_nothing_else(request_to_4, shared, records):
    reply = update_reply(request_to_4, SUBSPACE, shared, OF_CLIENT_4, loss=0.25)
    assert set(reply.content) == records
    assert set(reply.content[ARRAYS]) == set(SUBSPACE)
    assert set(reply.content[TOKEN]) == {"mean"}
    assert dict(reply.content[METRICS]) == {NUM_EXAMPLES: 7, "token-count": 9, "train-loss": 0.25}
    if shared:
        assert set(reply.content[SHARED]) == set(PROJECTOR)


def test_part_of_is_one_record_with_its_weight_from_the_same_client(request_to_4):
    reply = update_reply(request_to_4, SUBSPACE, PROJECTOR, OF_CLIENT_4, loss=0.25)
    for name, state in ((ARRAYS, SUBSPACE), (SHARED, PROJECTOR)):
        part = part_of(reply, request_to_4, name)
        assert set(part.content.array_records) == {ARRAYS}
        assert dict(part.content[METRICS]) == {NUM_EXAMPLES: 7}
        assert part.metadata.src_node_id == 4
        assert {key: value.tolist() for key, value in to_state(part.content[ARRAYS]).items()} == {
            key: value.tolist() for key, value in state.items()
        }


def test_part_of_has_the_order_of_what_was_sent_and_can_be_emptied_without_harm(request_to_4):
    backwards = dict(reversed(SUBSPACE.items()))
    reply = update_reply(request_to_4, SUBSPACE, {}, OF_CLIENT_4, loss=0.25)
    reply.content[ARRAYS] = ArrayRecord({key: reply.content[ARRAYS][key] for key in backwards})
    part = part_of(reply, request_to_4, ARRAYS)
    assert list(part.content[ARRAYS]) == list(SUBSPACE) != list(backwards)
    part.content[ARRAYS].clear()
    assert len(reply.content[ARRAYS]) == 2


def test_bytes_are_those_of_all_arrays_within_flowers_npy_headers(request_to_4):
    reply = update_reply(request_to_4, SUBSPACE, PROJECTOR, OF_CLIENT_4, loss=0.25)
    numbers = 6 + 8 + 4 + 3
    assert 4 * numbers <= num_bytes(reply) <= 4 * numbers + 4 * 128
    assert num_bytes(request_to_4) < num_bytes(reply)


def test_the_configuration_names_stage_round_client_and_task(request_to_4):
    assert dict(config_record(request_to_4)) == {"run": "r", "stage": 1, "round": 2, "client": 4, "task": 0}


def test_a_configuration_comes_back_as_it_was_sent():
    sent = ClientConfig(
        *("r", 1, 2, 4, 0),
        subspace=3,
        trains="B",
        wants=("fisher", "mean_gradient"),
        of_trained=("mean_gradient",),
        compression="int8",
        opens=True,
        of_rule=ConfigRecord({"proximal-mu": 0.5, "names": ["a", "b"]}),
    )
    content = RecordDict({CONFIG: sent.to_record(), ARRAYS: to_record(SUBSPACE)})
    assert config_of(Message(content, dst_node_id=4, message_type=MessageType.TRAIN)) == sent


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (ConfigRecord({"run": "r", "stage": 1, "round": 2, "client": "4", "task": 0}), "`client` is of type str, not int"),
        (ArrayRecord(), "the record config is of type ArrayRecord, not ConfigRecord"),
    ],
)
def test_a_configuration_of_other_types_is_refused_by_name(record, says):
    with pytest.raises(TypeError, match=says):
        config_of(Message(RecordDict({CONFIG: record}), dst_node_id=4, message_type=MessageType.TRAIN))


@pytest.mark.parametrize("bad", [np.array([np.nan, 1.0]), np.zeros(2), np.array([np.inf, 1.0])])
def test_a_token_that_cannot_be_used_names_its_client(request_to_4, bad):
    reply = token_reply(request_to_4, OF_CLIENT_4)
    reply.content[TOKEN] = ArrayRecord({"mean": Array(bad.astype(np.float32))})
    with pytest.raises(ValueError, match="client 4"):
        client_token(reply)
