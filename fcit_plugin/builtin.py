"""The plugin's own parts, registered through the hooks that third parties use; none of them is loaded by that."""

from collections.abc import Callable, Mapping

from .adapters.lora_aggregations import LORA_AGGREGATIONS
from .continual.methods import METHODS
from .evaluation.metrics import METRICS
from .federation.server_rules import SERVER_RULES
from .hookspecs import hookimpl
from .knowledge.identity_encoders import ENCODERS
from .parts import Part
from .scenario.partitioners import PARTITIONERS


@hookimpl
def fcit_partitioners() -> Mapping[str, Callable]:
    """See :mod:`fcit_plugin.scenario.partitioners`."""
    return PARTITIONERS


@hookimpl
def fcit_methods() -> Mapping[str, Part]:
    """See :mod:`fcit_plugin.continual.methods`."""
    return METHODS


@hookimpl
def fcit_server_rules() -> Mapping[str, Part]:
    """See :mod:`fcit_plugin.federation.server_rules`."""
    return SERVER_RULES


@hookimpl
def fcit_lora_aggregations() -> Mapping[str, Part]:
    """See :mod:`fcit_plugin.adapters.lora_aggregations`."""
    return LORA_AGGREGATIONS


@hookimpl
def fcit_identity_encoders() -> Mapping[str, Part]:
    """See :mod:`fcit_plugin.knowledge.identity_encoders`."""
    return ENCODERS


@hookimpl
def fcit_metrics() -> Mapping[str, Callable]:
    """See :mod:`fcit_plugin.evaluation.metrics`."""
    return METRICS
