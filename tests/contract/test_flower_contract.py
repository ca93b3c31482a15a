"""What we rely on in Flower. A failure here names the behavior that an upgrade changed."""

from io import BytesIO

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.serverapp.strategy import (
    Bulyan,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    MultiKrum,
)
from flwr.serverapp.strategy.multikrum import compute_distances
from flwr.supercore.differential_privacy import compute_clip_model_update, get_norm

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.federation.in_process_grid import InProcessGrid
from fcit_plugin.federation.messages import ARRAYS, CONFIG, METRICS, NUM_EXAMPLES
from fcit_plugin.federation.server_rules import SERVER_RULES

ALL_NODES = {"fraction_train": 1.0, "min_train_nodes": 1, "min_available_nodes": 1}
NODES = [0, 3, 4, 8, 9]


def record(*values):
    return ArrayRecord({"a": Array(np.array(values, np.float32)), "b": Array(np.ones((2, 2), np.float32))})


def configured(rule, nodes=NODES, arrays=None):
    return list(rule.configure_train(1, arrays or record(1.0, 2.0), ConfigRecord({"mine": 5}), InProcessGrid(None, nodes)))


def reply(request, arrays, examples):
    content = RecordDict({ARRAYS: arrays, METRICS: MetricRecord({NUM_EXAMPLES: examples})})
    return Message(content, reply_to=request)


def test_fedavg_configures_every_node_of_our_grid_once_in_any_order():
    for nodes in (NODES, [7]):
        messages = configured(FedAvg(**ALL_NODES), nodes)
        assert sorted(message.metadata.dst_node_id for message in messages) == nodes
        assert {message.metadata.message_type for message in messages} == {MessageType.TRAIN}


def test_fedavg_sends_arrays_and_config_under_our_record_names_and_adds_the_round():
    for message in configured(FedAvg(**ALL_NODES)):
        assert set(message.content) == {ARRAYS, CONFIG}
        assert dict(message.content[CONFIG]) == {"mine": 5, "server-round": 1}
        assert message.content[ARRAYS]["a"].numpy().tolist() == [1, 2]


def test_fedavg_weights_replies_by_num_examples_which_is_our_key():
    rule = FedAvg(**ALL_NODES)
    assert (rule.weighted_by_key, rule.arrayrecord_key, rule.configrecord_key) == (NUM_EXAMPLES, ARRAYS, CONFIG)
    requests = configured(rule, [0, 3])
    replies = [reply(requests[0], record(0.0, 4.0), 1), reply(requests[1], record(8.0, 0.0), 3)]
    arrays, metrics = rule.aggregate_train(1, replies)
    assert arrays["a"].numpy().tolist() == [6, 1]
    assert isinstance(metrics, MetricRecord)


def test_fedavg_returns_keys_shapes_and_float32_as_they_came():
    rule = FedAvg(**ALL_NODES)
    (request,) = configured(rule, [2])
    arrays, _ = rule.aggregate_train(1, [reply(request, record(0.1, 0.7), 3)])
    assert list(arrays) == ["a", "b"]
    assert (arrays["b"].numpy().shape, arrays["a"].numpy().dtype) == ((2, 2), np.float32)


def test_fedavg_sums_in_the_order_of_the_replies_so_that_we_must_sort_them():
    rule = FedAvg(**ALL_NODES)
    requests = configured(rule, [0, 1, 2])
    generator = np.random.default_rng(0)
    replies = [reply(r, record(*generator.normal(size=999).astype(np.float32)), 3 + i) for i, r in enumerate(requests)]
    forward, backward = (rule.aggregate_train(1, order)[0]["a"].numpy() for order in (replies, replies[::-1]))
    np.testing.assert_allclose(forward, backward, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FedAdam(**ALL_NODES),
        lambda: FedYogi(**ALL_NODES),
        lambda: FedAdagrad(**ALL_NODES),
        lambda: FedAvgM(**ALL_NODES),
        lambda: FedMedian(**ALL_NODES),
        lambda: FedTrimmedAvg(**ALL_NODES),
        lambda: Krum(**ALL_NODES),
    ],
    ids=["FedAdam", "FedYogi", "FedAdagrad", "FedAvgM", "FedMedian", "FedTrimmedAvg", "Krum"],
)
def test_other_strategies_run_two_rounds_unchanged_in_a_rule_set(make, monkeypatch):
    from fcit_plugin.federation.messages import to_state
    from fcit_plugin.federation.rules import RuleSet
    from fcit_plugin.parts import ServerRule
    from fcit_plugin.plugins import registry

    monkeypatch.setitem(registry("server_rules"), "other", ServerRule(lambda args: make()))
    rules = RuleSet(FcitArguments(fcit_server_rule="other"))
    start = record(1.0, 2.0)
    for round in (1, 2):
        requests = list(rules[0].configure_train(round, start, ConfigRecord(), InProcessGrid(None, NODES)))
        replies = [reply(r, record(1.5 + i / 10, 3.0), 10) for i, r in enumerate(requests)]
        arrays, _ = rules[0].aggregate_train(round, replies)
        state = to_state(arrays)
        assert list(state) == ["a", "b"]
        assert all(value.dtype == torch.float32 and value.isfinite().all() for value in state.values())
        assert 1.0 < state["a"][0] < 2.1, "the result lies between the start and the replies"
        start = arrays


def test_our_own_rules_take_all_nodes_it_sees():
    for name, rule in SERVER_RULES.items():
        args = FcitArguments(fcit_server_rule=name)
        assert len(configured(rule.load()(args), NODES)) == len(NODES)
        assert len(configured(rule.load()(args), [1])) == 1


def test_a_reply_comes_from_the_node_that_the_request_went_to():
    (request,) = configured(FedAvg(**ALL_NODES), [4])
    answer = reply(request, record(1.0), 1)
    assert (answer.metadata.src_node_id, answer.metadata.dst_node_id) == (4, request.metadata.src_node_id)
    assert answer.metadata.message_type == MessageType.TRAIN
    assert not answer.has_error()


def test_array_records_keep_float32_bits_and_order():
    generator = np.random.default_rng(1)
    values = {name: generator.normal(size=(3, 4)).astype(np.float32) for name in ("z", "a", "m")}
    found = ArrayRecord({name: Array(value) for name, value in values.items()})
    assert list(found) == ["z", "a", "m"]
    assert all(found[name].numpy().tobytes() == value.tobytes() for name, value in values.items())


def test_array_records_take_no_bfloat16_so_that_we_must_cast():
    with pytest.raises(TypeError):
        ArrayRecord({"x": torch.ones(2, dtype=torch.bfloat16)})


def test_metric_and_config_records_keep_ints_and_floats_and_refuse_none():
    assert dict(MetricRecord({"a": 1, "b": 0.5})) == {"a": 1, "b": 0.5}
    assert isinstance(MetricRecord({"a": 1})["a"], int)
    for kind in (MetricRecord, ConfigRecord):
        with pytest.raises(TypeError):
            kind({"a": None})


def test_a_client_app_dispatches_query_and_train_and_is_called_with_message_and_context():
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        return Message(RecordDict({"m": MetricRecord({"kind": 0, "node": context.node_id})}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(RecordDict({"m": MetricRecord({"kind": 1, "node": context.node_id})}), reply_to=message)

    for expected, kind in enumerate((MessageType.QUERY, MessageType.TRAIN)):
        message = Message(RecordDict(), dst_node_id=6, message_type=kind)
        context = Context(run_id=0, node_id=6, node_config={}, state=RecordDict(), run_config={})
        assert dict(app(message, context).content["m"]) == {"kind": expected, "node": 6}


def test_a_grid_wants_nothing_more_than_our_grid_has():
    assert Grid.__abstractmethods__ <= set(dir(InProcessGrid))
    assert not InProcessGrid.__abstractmethods__


def test_record_dict_lists_its_array_records():
    content = RecordDict({"arrays": record(1.0), "metrics": MetricRecord({"a": 1})})
    assert list(content.array_records) == ["arrays"]
    assert len(content["arrays"]["a"].data) >= 4


def after_round(rule, number, *values, start=(1.0, 2.0)):
    """What a strategy makes of replies, and the replies, which it may have changed."""
    requests = list(rule.configure_train(number, record(*start), ConfigRecord(), InProcessGrid(None, range(len(values)))))
    requests.sort(key=lambda request: request.metadata.dst_node_id)
    replies = [reply(request, record(*value), 1 + i) for i, (request, value) in enumerate(zip(requests, values, strict=True))]
    arrays, _ = rule.aggregate_train(number, replies)
    return (None if arrays is None else arrays["a"].numpy()), replies


def test_adaptive_strategies_keep_moments_by_key_and_take_the_weights_sent_anew_in_each_round():
    for make in (FedAdam, FedYogi, FedAdagrad):
        rule = make(**ALL_NODES)
        assert (rule.m_t, rule.v_t, rule.current_arrays) == (None, None, None)
        after_round(rule, 1, (2.0, 2.0))
        assert set(rule.m_t) == set(rule.v_t) == {"a", "b"}
        after_round(rule, 2, (2.0, 2.0), start=(5.0, 5.0))
        assert rule.current_arrays["a"].tolist() == [5, 5]


def test_fedadam_corrects_its_bias_by_one_round_more_than_the_servers_number():
    (found, _), (later, _) = (after_round(FedAdam(**ALL_NODES, eta=1.0, tau=0.5), r, (3.0, 2.0)) for r in (1, 7))
    for number, value in ((1, found), (7, later)):
        eta = np.sqrt(1 - 0.99 ** (number + 1)) / (1 - 0.9 ** (number + 1))
        assert value[0] == pytest.approx(1 + eta * 0.2 / (0.1 * 2 + 0.5), rel=1e-6)
    assert found.dtype == np.float64


def test_fedavgm_keeps_the_weights_of_its_first_round_so_that_it_must_be_new_in_each():
    rule = FedAvgM(**ALL_NODES, server_momentum=0.9, server_learning_rate=0.5)
    assert after_round(rule, 1, (2.0, 2.0))[0][0] == 1.5
    found, _ = after_round(rule, 2, (6.0, 6.0), start=(5.0, 5.0))
    assert found[0] == pytest.approx(1.5 + 0.5 * (0.9 * 1 + 4.5)), "from its own 1.5, not from the 5 that was sent"
    assert rule.momentum_vector[0].shape == (2,), "by position, not by key"


def test_fedavgm_without_momentum_at_rate_1_is_fedavg():
    assert not FedAvgM(**ALL_NODES).server_opt


@pytest.mark.parametrize("make", [FedMedian, FedTrimmedAvg])
def test_median_and_trimmed_mean_take_the_arrays_out_of_the_replies_so_that_we_must_copy(make):
    _, replies = after_round(make(**ALL_NODES), 1, (1.0, 2.0), (3.0, 4.0), (5.0, 6.0))
    assert all(len(message.content[ARRAYS]) == 0 for message in replies)


def test_trimmed_mean_trims_nobody_where_its_share_of_the_replies_is_less_than_one():
    values = [(float(i), 0.0) for i in (0, 0, 0, 100)]
    assert after_round(FedTrimmedAvg(**ALL_NODES, beta=0.24), 1, *values)[0][0] == 25
    assert after_round(FedTrimmedAvg(**ALL_NODES, beta=0.25), 1, *values)[0][0] == 0


def test_krum_loses_small_differences_of_large_weights_in_float32_so_that_we_give_it_float64():
    values = [(1000.0 + d, 1000.0) for d in (0.0, 0.001, 0.0021, 0.09, 0.0032)]
    args = FcitArguments(fcit_server_rule="krum", fcit_num_malicious=1)
    assert after_round(SERVER_RULES["krum"].load()(args), 1, *values)[0][0] == np.float32(1000.001)
    distances = compute_distances([record(*value) for value in values])
    exact = np.square(np.subtract.outer(*[np.array([value[0] for value in values])] * 2))
    assert np.abs(distances - exact).max() > exact.max()


@pytest.mark.parametrize("count", [1, 2])
def test_krum_and_its_kin_work_on_one_and_two_replies(count):
    for make in (Krum, MultiKrum):
        found, _ = after_round(make(**ALL_NODES, num_malicious_nodes=1), 1, *[(4.0, 4.0)] * count)
        assert found.tolist() == [4, 4]


def test_bulyan_gives_nothing_where_it_has_too_few_replies():
    assert after_round(Bulyan(**ALL_NODES, num_malicious_nodes=1), 1, *[(4.0, 4.0)] * 6)[0] is None


def test_fedprox_tells_clients_its_weight_in_their_configuration():
    for message in configured(FedProx(**ALL_NODES, proximal_mu=0.25)):
        assert message.content[CONFIG]["proximal-mu"] == 0.25


def test_a_client_apps_error_can_be_sent_as_a_message_without_content():
    (request,) = configured(FedAvg(**ALL_NODES), [4])
    answer = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "why"), reply_to=request)
    assert (answer.has_error(), answer.has_content(), answer.metadata.src_node_id) == (True, False, 4)
    assert (answer.error.code, answer.error.reason) == (2, "why")


def test_a_number_array_is_a_numpy_file_of_version_1_with_its_shape_and_dtype_beside_it():
    array = Array(np.ones((2, 3), np.float32))
    assert (array.dtype, tuple(array.shape), array.stype) == ("float32", (2, 3), "numpy.ndarray")
    assert array.data == _npy(np.ones((2, 3), np.float32))


def _npy(value):
    stream = BytesIO()
    np.save(stream, value)
    return stream.getvalue()


def test_clipping_scales_the_difference_in_float64_as_we_give_it():
    sent, trained = [np.zeros(3), np.ones((2, 2))], [np.array([3.0, 0, 0]), np.ones((2, 2)) + 2]
    compute_clip_model_update(trained, sent, clipping_norm=1.0)
    norm = np.sqrt(9 + 4 * 4)
    np.testing.assert_allclose(trained[0], [3 / norm, 0, 0])
    np.testing.assert_allclose(trained[1], 1 + 2 / norm)
    assert get_norm([np.array([3.0]), np.array([[4.0]])]) == 5


def test_clipping_fails_on_an_update_of_nothing_so_that_we_must_ask_for_its_norm_first():
    with pytest.raises(ZeroDivisionError):
        compute_clip_model_update([np.ones(2)], [np.ones(2)], clipping_norm=1.0)
