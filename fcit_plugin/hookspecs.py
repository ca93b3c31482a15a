"""All extension points. A package implements them and names its module in the entry point group ``fcit_plugin``.

    from fcit_plugin.evaluation.metrics import mean_of
    from fcit_plugin.hookspecs import hookimpl

    @hookimpl
    def fcit_metrics():
        return {"first_letter": mean_of(lambda prediction, answer: float(prediction[:1] == answer[:1]))}

The plugin's own parts are registered through the same hooks (:mod:`fcit_plugin.builtin`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from flwr.app import Message

PROJECT = "fcit_plugin"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def fcit_partitioners() -> Mapping[str, Callable]:
    """Ways to split a task's records over the clients, by the name that ``fcit_partition`` takes.

    Called once, when the first recipe is checked. Each is ``(records, options, generator) -> parts``: what there is of the
    task (:class:`fcit_plugin.scenario.task_records.Records`: counts, labels, raw columns, each read when asked for), the
    recipe's keys (:class:`fcit_plugin.scenario.partition.PartitionOptions`), and NumPy's seeded generator; one array of
    record indices per client, every record in exactly one. Clients under ``fcit_min_client_samples`` are topped up afterwards.
    """


@hookspec
def fcit_methods() -> Mapping[str, type]:
    """Continual methods, by the name that ``fcit_method`` takes.

    Called once, when the first recipe is checked. Each is a :class:`fcit_plugin.continual.method.ContinualMethod`.
    """


@hookspec
def fcit_server_rules() -> Mapping[str, Callable[[Any], Any]]:
    """Makers of Flower strategies, by the name that ``fcit_server_rule`` takes.

    Called once, when the first recipe is checked. Each is ``(args) -> Strategy`` with the recipe's
    :class:`fcit_plugin.arguments.FcitArguments`. A strategy must take all nodes that it is shown. What it remembers
    from round to round has to be on it as arrays, dictionaries or lists of arrays, or floats: they are kept with the
    server's state, and put on a new instance in the next round.
    """


@hookspec
def fcit_lora_aggregations() -> Mapping[str, Callable[[], Any]]:
    """Makers of LoRA aggregations, by the name that ``fcit_lora_aggregation`` takes.

    Called once, when the first recipe is checked. Each is ``() -> LoraAggregation``; see
    :class:`fcit_plugin.adapters.aggregation.LoraAggregation`. It has no memory.
    """


@hookspec
def fcit_identity_encoders() -> Mapping[str, Callable]:
    """Makers of identity encoders, by the name that ``fcit_identity_encoder`` takes.

    Called once. Each is ``(model, tokenizer, pooling, center) -> IdentityEncoder``; see
    :class:`fcit_plugin.knowledge.encoders.IdentityEncoder`. In a dry run the model is on the device ``meta``: it has
    shapes and no weights, and one text is encoded to see how long a token is.
    """


@hookspec
def fcit_metrics() -> Mapping[str, Callable[[Sequence[str], Sequence[Any]], float]]:
    """Metrics, by the name that ``fcit_metric`` in ``dataset_info.json`` takes.

    Called once. Each is ``(predictions, answers) -> score from 0 to 100`` over all records of a data set, of which
    there is at least one. An answer is a text, a list of texts, or the four numbers of a box. Where every record has
    a score of its own, :func:`fcit_plugin.evaluation.metrics.mean_of` makes the metric. What cannot be scored is
    raised as ValueError: before the training each metric is tried on the answers themselves.
    """


@hookspec(firstresult=True)
def fcit_intercept_reply(request: "Message", reply: "Message | None") -> "Sequence[Message] | None":
    """An aid for tests and simulations: what becomes of a client's reply on its way to the server.

    Called for every reply of a client in this process; ``reply`` is None if the client gave none. Return the messages
    that arrive instead (``[]``: it is lost), or None to leave it alone; what you raise, the client has failed with.
    """
