"""Extension by pluggy: third parties register through the hooks that the plugin's own parts use."""

import pytest

from fcit_plugin import plugins
from fcit_plugin.arguments import FcitArguments
from fcit_plugin.evaluation.metrics import mean_of, score
from fcit_plugin.hookspecs import hookimpl
from fcit_plugin.scenario.partition import partition


def count(predictions, answers):
    """A score of the corpus that is no mean over the records."""
    return 100 * len(set(predictions)) / len(set(answers))


class ThirdParty:
    @hookimpl
    def fcit_metrics(self):
        return {"first_letter": mean_of(lambda prediction, answer: float(prediction[:1] == answer[:1])), "count": count}

    @hookimpl
    def fcit_partitioners(self):
        def all_to_first(num_records, num_clients, beta, generator):
            sizes = generator.integers(0, 1, size=num_clients)
            sizes[0] = num_records
            return sizes

        return {"all_to_first": all_to_first}


@pytest.mark.parametrize("kind", plugins.KINDS)
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
    parts = partition(10, 3, method="all_to_first", beta=1.0, min_samples=0, seed=0)
    assert [len(part) for part in parts] == [10, 0, 0]


def test_a_name_that_is_taken_is_refused(register):
    class Copycat:
        @hookimpl
        def fcit_server_rules(self):
            return {"fedavg": object}

    register(Copycat())
    with pytest.raises(ValueError, match="'fedavg' among the server rules"):
        plugins.registry("server_rules")
