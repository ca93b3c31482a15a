"""All extension points. A package implements them and names its module in the entry point group ``fcit_plugin``.

    from dataclasses import dataclass

    from fcit_plugin.arguments.option import Options, option
    from fcit_plugin.hookspecs import hookimpl
    from fcit_plugin.parts import Part

    @dataclass
    class MasOptions(Options):
        fcit_mas_lambda: float = option(0.001, "Strength with which MAS holds weights.", above=0)

    @hookimpl
    def fcit_methods():
        return {"mas": Part("fcit_mas.method:Mas", MasOptions, {"fp16": "adds to gradients, which must not be scaled"})}

Each hook returns parts by name. A part is the class or function itself, or a :class:`fcit_plugin.parts.Part`, which says
more of it: where it is (as text, so that it is imported when it is used), the keys that are its own
(:class:`fcit_plugin.arguments.option.Options`), and which other keys it cannot go with, and why. A class may say the latter
two itself, by attributes ``options`` and ``cannot_go_with``. The hooks are called once, when the first recipe is checked, so
a module that has them imports neither torch nor Flower.

The plugin's own parts are registered through the same hooks (:mod:`fcit_plugin.builtin`). docs/develop/extending.md walks
through an example, docs/develop/public.md lists what else is public.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from flwr.app import Message

    from .evaluation.metrics import BesideQuestions
    from .parts import Part

PROJECT = "fcit_plugin"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def fcit_partitioners() -> "Mapping[str, Callable[..., Any] | Part]":
    """Ways to split a task's records over the clients, by the name that ``fcit_partition`` takes.

    Each is ``(records, options, generator) -> parts``: what there is of the task
    (:class:`fcit_plugin.scenario.task_records.Records`: counts, labels, raw columns, each read when asked for), the recipe's
    keys (:class:`fcit_plugin.scenario.partition.PartitionOptions`), and NumPy's seeded generator; one array of record
    indices per client, every record in exactly one. Clients under ``fcit_min_client_samples`` are topped up afterwards.
    """


@hookspec
def fcit_methods() -> "Mapping[str, type | Part]":
    """Continual methods, by the name that ``fcit_method`` takes.

    Each is a :class:`fcit_plugin.continual.method.ContinualMethod`, made with the recipe's keys, whose own ones are its
    attribute ``options``. One object serves the server's side and the clients'; it holds no state.
    """


@hookspec
def fcit_server_rules() -> "Mapping[str, Callable[..., Any] | Part]":
    """Makers of Flower strategies, by the name that ``fcit_server_rule`` takes.

    Each is ``(args) -> Strategy`` with the recipe's :class:`fcit_plugin.arguments.FcitArguments`; its own keys are
    ``args.options("server_rules")``. What is to be known of a rule before it is loaded, :class:`fcit_plugin.parts.ServerRule`
    says. A strategy must take all nodes that it is shown (:data:`fcit_plugin.federation.rules.ALL_NODES`).

    Each subspace has an instance, made again for each round. What a strategy remembers is kept with the server's state and put
    on the next instance: what its ``state()`` gives goes to its ``load_state(arrays)``
    (:class:`fcit_plugin.federation.rules.RemembersItself`); without these, attributes that are arrays, dictionaries or lists
    of arrays, or floats, which its constructor sets and does not take as arguments. Anything else that has changed on it is
    refused.
    """


@hookspec
def fcit_lora_aggregations() -> "Mapping[str, Callable[[], Any] | Part]":
    """Makers of LoRA aggregations, by the name that ``fcit_lora_aggregation`` takes.

    Each is ``() -> LoraAggregation``; see :class:`fcit_plugin.adapters.aggregation.LoraAggregation`. It has no memory.
    """


@hookspec
def fcit_identity_encoders() -> "Mapping[str, Callable[..., Any] | Part]":
    """Makers of identity encoders, by the name that ``fcit_identity_encoder`` takes.

    Each is ``(model, tokenizer, pooling, center) -> IdentityEncoder``; see
    :class:`fcit_plugin.knowledge.encoders.IdentityEncoder`. An attribute `nearness` says which cosines belong to its tokens
    (:class:`fcit_plugin.knowledge.nearness.Nearness`; without it those of `embedding`). In a dry run the model is on the
    device ``meta``: it has shapes and no weights, and one text is encoded to see how long a token is.
    """


@hookspec
def fcit_metrics() -> "Mapping[str, Callable[[Sequence[str], Sequence[Any]], float] | BesideQuestions | Part]":
    """Metrics, by the name that ``fcit_metric`` in ``dataset_info.json`` takes.

    Each is ``(predictions, answers) -> score from 0 to 100`` over all records of a dataset, of which
    there is at least one. An answer is a text, a list of texts, or the four numbers of a box. Where every record has
    a score of its own, :func:`fcit_plugin.evaluation.metrics.mean_of` makes the metric, and where that score looks at what
    was asked, too, :func:`fcit_plugin.evaluation.metrics.mean_beside_questions`. What cannot be scored is raised as
    ValueError: before the training each metric is tried on the answers themselves.
    """


@hookspec(firstresult=True)
def fcit_intercept_reply(request: "Message", reply: "Message | None") -> "Sequence[Message] | None":
    """An aid for tests and simulations: what becomes of a client's reply on its way to the server.

    Called for every reply of a client in this process; ``reply`` is None if the client gave none. Return the messages
    that arrive instead (``[]``: it is lost), or None to leave it alone; what you raise, the client has failed with.
    """
