"""The plugin's own parts, registered through the hooks that third parties use."""

from .hookspecs import hookimpl


@hookimpl
def fcit_partitioners():
    from .scenario.partitioners import PARTITIONERS

    return PARTITIONERS


@hookimpl
def fcit_methods():
    from .continual.methods import METHODS

    return METHODS


@hookimpl
def fcit_server_rules():
    from .federation.rules import SERVER_RULES

    return SERVER_RULES


@hookimpl
def fcit_lora_aggregations():
    from .adapters.aggregation import LORA_AGGREGATIONS

    return LORA_AGGREGATIONS


@hookimpl
def fcit_identity_encoders():
    from .knowledge.encoders import ENCODERS

    return ENCODERS


@hookimpl
def fcit_metrics():
    from .evaluation.metrics import METRICS

    return METRICS
