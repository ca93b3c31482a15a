"""The method and the rule against their formulas, and a run that has the keys of both."""

import json
import os
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from fcit_mas.method import ANCHOR, IMPORTANCE, Mas
from fcit_mas.rule import RATE, ClippedMean
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from safetensors.torch import load_file

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.continual.method import record
from fcit_plugin.errors import FcitError
from fcit_plugin.samples.text import write_text_tasks


def method(**keys):
    return Mas(FcitArguments(fcit_method="mas", **keys))


class Linear:
    """A model f(x) = W x, as a method sees it, with records of one token each."""

    def __init__(self, weight, records):
        self.weights = {"w": torch.nn.Parameter(weight)}
        self.records = records

    def sample_gradients(self, count, of=None):
        for x in self.records[:count]:
            self.weights["w"].grad = None
            of((self.weights["w"] @ x)[None]).backward()
            yield


def test_the_importance_of_a_linear_model_is_its_closed_form():
    """Of f = W x the gradient of ||f||^2 is 2 (W x) x^T."""
    generator = torch.Generator().manual_seed(0)
    weight, records = torch.randn(2, 3, generator=generator), torch.randn(5, 3, generator=generator)
    found = method(fcit_mas_samples=4).measure(Linear(weight, records))
    expected = torch.stack([(2 * torch.outer(weight @ x, x)).abs() for x in records[:4]]).mean(dim=0)
    torch.testing.assert_close(found[IMPORTANCE]["w"], expected)
    assert (found[IMPORTANCE]["w"] >= Mas.limits[IMPORTANCE].least).all()


def test_the_term_is_the_gradient_of_what_is_added_to_the_loss():
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    anchor, importance = torch.tensor([0.5, 0.0, 3.0]), torch.tensor([2.0, 1.0, 9.0])
    (0.25 * (importance * (weight - anchor) ** 2).sum()).backward()
    expected, weight.grad = weight.grad, torch.zeros(3)
    (term,) = method(fcit_mas_lambda=0.25).terms({ANCHOR: {"w": anchor}, IMPORTANCE: {"w": importance}})
    with torch.no_grad():
        term.add({"w": weight})
    torch.testing.assert_close(weight.grad, expected)
    assert method().terms({}) == []


def test_the_server_adds_the_clients_mean_to_what_it_knows_at_the_end_of_a_stage():
    mas, after = method(fcit_num_rounds=2), SimpleNamespace(subspaces=[{"w": torch.tensor([7.0])}], shared={})
    measured = [{IMPORTANCE: {"w": torch.tensor([value])}} for value in (1.0, 4.0)]
    memory = {f"{IMPORTANCE}/w": torch.tensor([10.0])}
    assert mas.remember(SimpleNamespace(round=0, method_state=memory), after, [{}, {}], [1, 2]) is memory
    memory = mas.remember(SimpleNamespace(round=1, method_state=memory), after, measured, [1, 2])
    assert record(IMPORTANCE, memory)["w"].item() == pytest.approx(10 + (1 * 1 + 2 * 4) / 3)
    assert mas.sends(SimpleNamespace(method_state=memory))[ANCHOR] == {"w": torch.tensor([7.0])}
    assert (mas.wants(0, 0), mas.wants(0, 1)) == ((), (IMPORTANCE,))


def a_round(rule, start, replies):
    """What a rule makes of replies of one example each."""
    rule.sent = {"w": start}
    messages = []
    for client, reply in enumerate(replies):
        weights, metrics = ArrayRecord({"w": Array(reply)}), MetricRecord({"num-examples": 1})
        request = Message(RecordDict(), dst_node_id=client, message_type="train")
        messages.append(Message(RecordDict({"arrays": weights, "metrics": metrics}), reply_to=request))
    return rule.aggregate_train(1, messages)[0]["w"].numpy()


def test_a_long_update_is_cut_to_the_bound_which_follows_the_quantile():
    start = np.array([1.0, 1.0])
    replies = [start + step for step in ([3.0, 4.0], [0.0, 2.0], [30.0, 40.0])]  # of lengths 5, 2, 50
    first = ClippedMean(quantile=0.5)
    np.testing.assert_allclose(a_round(first, start, replies), start + np.mean([[3, 4], [0, 2], [3, 4]], axis=0))
    bound = 5 * np.exp(-RATE * (2 / 3 - 0.5))
    second = ClippedMean(quantile=0.5)
    second.load_state(first.state())
    cut = np.array([0.6, 0.8]) * bound
    np.testing.assert_allclose(a_round(second, start, replies), start + np.mean([cut, [0, 2], cut], axis=0))
    assert second.bound == pytest.approx(bound * np.exp(-RATE * (1 / 3 - 0.5)))


def test_its_keys_belong_to_its_parts():
    with pytest.raises(FcitError, match="`fcit_mas_lambda` belongs to `fcit_method` mas; the method is disco"):
        FcitArguments(fcit_mas_lambda=2.0)
    with pytest.raises(FcitError, match="`fcit_clip_quantile` must be greater than 0 and less than 1"):
        FcitArguments(fcit_server_rule="clipped_mean", fcit_clip_quantile=1.0)
    with pytest.raises(FcitError, match="`fcit_method: mas` holds single numbers"):
        FcitArguments(fcit_method="mas", fcit_lora_aggregation="svd")


def test_a_run_measures_and_holds(tmp_path):
    from llamafactory.train.tuner import run_exp

    write_text_tasks(tmp_path / "data", train=40, test=4)
    keys = {
        "stage": "fcit",
        "do_train": True,
        "model_name_or_path": "fcit-mini-text",
        "template": "vicuna",
        "default_system": "",
        "finetuning_type": "lora",
        "lora_rank": 2,
        "dataset_dir": str(tmp_path / "data"),
        "cutoff_len": 64,
        "max_steps": 2,
        "learning_rate": 1e-3,
        "report_to": "none",
        "output_dir": str(tmp_path / "out"),
        "fcit_setting": "custom",
        "fcit_stages": [["text_last"], ["text_sum"]],
        "fcit_num_clients": 2,
        "fcit_clients_per_round": 2,
        "fcit_num_rounds": 1,
        "fcit_min_client_samples": 8,
        "fcit_eval_every": "never",
        "fcit_method": "mas",
        "fcit_mas_lambda": 0.5,
        "fcit_mas_samples": 4,
        "fcit_server_rule": "clipped_mean",
    }
    with patch.dict(os.environ):  # LLaMA-Factory leaves marks there
        run_exp(keys)
    first, second = (load_file(tmp_path / f"out/checkpoints/round-000{n}/method_state.safetensors") for n in (1, 2))
    for key, importance in record(IMPORTANCE, second).items():
        earlier = record(IMPORTANCE, first)[key]
        assert (importance >= earlier).all() and earlier.min() >= 0
    assert any(value.max() > 0 for value in record(IMPORTANCE, first).values())
    trained = load_file(tmp_path / "out/subspaces/0/adapter_model.safetensors")
    assert all(torch.equal(record(ANCHOR, second)[key], value) for key, value in trained.items())
    report = json.loads((tmp_path / "out" / "fcit_report.json").read_text())
    assert report["arguments"].items() >= {"fcit_mas_lambda": 0.5, "fcit_mas_samples": 4, "fcit_clip_quantile": 0.5}.items()
    assert report["dropped"] == []
