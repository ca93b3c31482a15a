"""Extension by pluggy: third parties register through the hooks that the plugin's own parts use."""

import numpy as np
import pytest
from tables import one_task

from fcit_plugin import plugins
from fcit_plugin.arguments import FcitArguments
from fcit_plugin.evaluation.metrics import mean_of, score
from fcit_plugin.hookspecs import hookimpl
from fcit_plugin.parts import KINDS
from fcit_plugin.scenario import PartitionOptions, deal


def count(predictions, answers):
    """A score of the corpus that is not a mean over the records."""
    return 100 * len(set(predictions)) / len(set(answers))


class ThirdParty:
    @hookimpl
    def fcit_metrics(self):
        return {"first_letter": mean_of(lambda prediction, answer: float(prediction[:1] == answer[:1])), "count": count}

    @hookimpl
    def fcit_partitioners(self):
        def all_to_first(records, options, generator):
            return [np.arange(len(records)), *[np.arange(0)] * (options.num_clients - 1)]

        return {"all_to_first": all_to_first}


@pytest.mark.parametrize("kind", KINDS)
def test_own_parts_come_through_the_hooks(kind):
    assert plugins.registry(kind)


def test_a_registered_metric_scores(register):
    register(ThirdParty())
    assert score("first_letter", ["ab", "xb"], ["ac", "ac"]) == 50.0
    assert score("count", ["a", "a", "b"], ["a", "b", "c"]) == pytest.approx(200 / 3)


def test_a_registered_partitioner_is_a_valid_value_of_its_key(register):
    with pytest.raises(ValueError, match="fcit_partition"):
        FcitArguments(fcit_partition="all_to_first")
    register(ThirdParty())
    assert FcitArguments(fcit_partition="all_to_first").fcit_partition == "all_to_first"
    parts = deal(one_task(a=10), PartitionOptions(3, "all_to_first", min_samples=0), 0)
    assert [len(part) for part in parts] == [10, 0, 0]
    topped = deal(one_task(a=10), PartitionOptions(3, "all_to_first", min_samples=2), 0)
    assert [len(part) for part in topped] == [6, 2, 2]
    assert sorted(np.concatenate(topped).tolist()) == list(range(10))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda n: [np.arange(n)], "made 1 parts for 3 clients"),
        (lambda n: [np.arange(n), np.arange(1), np.arange(0)], "deals a record of the task pool twice"),
        (lambda n: [np.arange(1, n + 1), np.arange(1), np.arange(0)], "or one that is not there"),
        (lambda n: [np.arange(-1, n), np.arange(0), np.arange(0)], "or one that is not there"),
        (lambda n: [np.arange(n - 2), np.arange(0), np.arange(0)], "leaves 2 records of the task pool to nobody"),
    ],
)
def test_a_registered_partitioner_that_does_not_deal_properly_is_refused(register, made, words):
    class Wrong:
        @hookimpl
        def fcit_partitioners(self):
            return {"wrong": lambda records, options, generator: made(len(records))}

    register(Wrong())
    with pytest.raises(ValueError, match=words):
        deal(one_task(a=10), PartitionOptions(3, "wrong", min_samples=0), 0)


def test_a_name_that_is_taken_is_refused(register):
    class Copycat:
        @hookimpl
        def fcit_server_rules(self):
            return {"fedavg": object}

    register(Copycat())
    with pytest.raises(ValueError, match="'fedavg' among the server rules"):
        plugins.registry("server_rules")
