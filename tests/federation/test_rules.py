"""What a server rule remembers survives a file: rebuilt in each round it equals Flower's strategy that lives on."""

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedMedian, FedYogi
from safetensors.numpy import load_file, save_file

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.federation.in_process_grid import InProcessGrid
from fcit_plugin.federation.messages import ARRAYS, METRICS, NUM_EXAMPLES, to_record, to_state
from fcit_plugin.federation.rules import RuleSet
from fcit_plugin.parts import ServerRule
from fcit_plugin.plugins import registry

ALL_NODES = {"fraction_train": 1.0, "min_train_nodes": 1, "min_available_nodes": 1}
RULES = {
    "FedAvg": lambda: FedAvg(**ALL_NODES),
    "FedAdam": lambda: FedAdam(**ALL_NODES),
    "FedYogi": lambda: FedYogi(**ALL_NODES),
    "FedAdagrad": lambda: FedAdagrad(**ALL_NODES),
    "FedMedian": lambda: FedMedian(**ALL_NODES),
    "FedAvgM": lambda: FedAvgM(**ALL_NODES, server_momentum=0.9, server_learning_rate=0.5),
}
FORGETFUL = ("FedAvg", "FedMedian")
#: Not in the order of the alphabet: files give them back sorted.
SHAPES = {"z": (3, 2), "a": (4,), "m": (2, 2)}


def keys(name):
    return FcitArguments(fcit_server_rule=name)


def drawn(generator):
    return {key: generator.normal(size=shape).astype(np.float32) for key, shape in SHAPES.items()}


def one_round(rule, number, start, generator):
    """The weights after a round in which three clients answer with noise around what they were sent."""
    record = to_record({key: torch.from_numpy(value) for key, value in start.items()})
    replies = []
    for request in rule.configure_train(number, record, ConfigRecord(), InProcessGrid(None, [0, 1, 2])):
        answer = {key: torch.from_numpy(start[key] + 0.1 * noise) for key, noise in drawn(generator).items()}
        content = RecordDict({ARRAYS: to_record(answer), METRICS: MetricRecord({NUM_EXAMPLES: 5 + len(replies)})})
        replies.append(Message(content, reply_to=request))
    arrays, _ = rule.aggregate_train(number, replies)
    return {key: value.numpy() for key, value in to_state(arrays).items()}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_that_goes_through_a_file_after_every_round_gives_the_bits_of_one_that_lives_on(name, monkeypatch, tmp_path):
    monkeypatch.setitem(registry("server_rules"), name, ServerRule(lambda args: RULES[name]()))
    ends = {}
    for through_files in (False, True):
        generator = np.random.default_rng(7)
        weights, rule, arrays = drawn(generator), RULES[name](), {}
        for number in range(1, 6):
            if through_files:
                rules = RuleSet.from_arrays(keys(name), arrays)
                rule = rules[0]
            weights = one_round(rule, number, weights, generator)
            if through_files and rules.to_arrays():
                save_file(rules.to_arrays(), tmp_path / "rules.safetensors")
                arrays = load_file(tmp_path / "rules.safetensors")
        ends[through_files] = weights
        assert bool(arrays) == (through_files and name not in FORGETFUL)
    for key in SHAPES:
        assert ends[True][key].tobytes() == ends[False][key].tobytes(), key


def test_momenta_move_what_comes_out_so_that_losing_them_would_show(monkeypatch):
    monkeypatch.setitem(registry("server_rules"), "FedAdam", ServerRule(lambda args: RULES["FedAdam"]()))
    generator = np.random.default_rng(7)
    weights = drawn(generator)
    rules = RuleSet(keys("FedAdam"))
    weights = one_round(rules[0], 1, weights, generator)
    kept, lost = (
        one_round(RuleSet.from_arrays(keys("FedAdam"), arrays)[0], 2, weights, np.random.default_rng(8))
        for arrays in (rules.to_arrays(), {})
    )
    assert not np.array_equal(kept["z"], lost["z"])


def test_owners_keep_apart_and_those_without_a_turn_keep_what_they_had(monkeypatch):
    monkeypatch.setitem(registry("server_rules"), "FedAdam", ServerRule(lambda args: RULES["FedAdam"]()))
    rules = RuleSet(keys("FedAdam"))
    for owner, seed in ((1, 1), (10, 2), (RuleSet.SHARED, 3)):
        one_round(rules[owner], 1, drawn(np.random.default_rng(0)), np.random.default_rng(seed))
    before = rules.to_arrays()
    assert {key.split("/")[0] for key in before} == {"1", "10", "shared"}
    assert {key.split("/", 1)[1] for key in before} == {f"{m}/{key}" for m in ("m_t", "v_t") for key in SHAPES}
    again = RuleSet.from_arrays(keys("FedAdam"), before)
    one_round(again[10], 2, drawn(np.random.default_rng(0)), np.random.default_rng(4))
    after = again.to_arrays()
    assert after.keys() == before.keys()
    for key in before:
        assert np.array_equal(after[key], before[key]) == (not key.startswith("10/")), key
