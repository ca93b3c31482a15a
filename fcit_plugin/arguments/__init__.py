"""Every ``fcit_*`` key of a recipe: its type, its default, its help, its checks; a group of keys a module."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, get_args, get_type_hints

from ..errors import FcitError, closest, nearest
from ..plugins import registry
from .compression import CompressionArguments
from .continual import ContinualArguments
from .evaluation import EvaluationArguments
from .folders import FolderArguments
from .inference import EXPORT_KEYS, ROUTING_KEYS, InferenceArguments
from .lora_aggregation import LoraAggregationArguments
from .method import MethodArguments
from .privacy import PrivacyArguments
from .replies import ReplyArguments
from .run import RunArguments
from .scenario import ScenarioArguments
from .server_rule import ServerRuleArguments

__all__ = ["EXPORT_KEYS", "FCIT_STAGES", "ROUTING_KEYS", "FcitArguments", "check_names", "check_stage"]

#: The LLaMA-Factory stages that the plugin adds, and what each does.
FCIT_STAGES = {
    "fcit": "the whole federated continual loop",
    "fcit_client": "one client, one round: from a server state folder to an update folder",
    "fcit_aggregate": "the aggregator: folds update folders into the next server state folder",
}

#: In the order in which the help lists them.
_GROUPS = (
    ScenarioArguments,
    MethodArguments,
    ContinualArguments,
    ServerRuleArguments,
    ReplyArguments,
    PrivacyArguments,
    LoraAggregationArguments,
    CompressionArguments,
    EvaluationArguments,
    RunArguments,
    FolderArguments,
    InferenceArguments,
)

#: Keys whose values are registered names (:mod:`fcit_plugin.plugins`), and of which kind. Not in the fields' metadata,
#: for LLaMA-Factory's argument parser hands that to argparse.
_REGISTERED = {
    "fcit_method": "methods",
    "fcit_partition": "partitioners",
    "fcit_server_rule": "server_rules",
    "fcit_lora_aggregation": "lora_aggregations",
    "fcit_caption_metric": "metrics",
}


@dataclass
class FcitArguments(
    InferenceArguments,
    FolderArguments,
    RunArguments,
    EvaluationArguments,
    CompressionArguments,
    LoraAggregationArguments,
    PrivacyArguments,
    ReplyArguments,
    ServerRuleArguments,
    ContinualArguments,
    MethodArguments,
    ScenarioArguments,
):
    r"""Arguments of federated continual instruction tuning.

    They stand beside LLaMA-Factory's own keys, which keep their meaning for each client's local training.
    (A dataclass takes the fields of its last base first, hence the order.)

    Raises:
        FcitError: A key has a value that cannot work; the sentence names the key and what to do.
    """

    def __post_init__(self) -> None:
        for group in _GROUPS:
            group.parse(self)
        self._check_types()
        self._check_choices()
        for group in _GROUPS:
            group.check(self)

    def _check_types(self) -> None:
        for name, hint in get_type_hints(type(self)).items():  # HfArgumentParser changes the types of the fields
            value, kinds = getattr(self, name), get_args(hint) or (hint,)
            expected = kinds[0].__name__
            if value is None and type(None) not in kinds:
                raise FcitError(f"`{name}` has no value; give one of type {expected}, or take the key out.")
            allowed = {int: int, float: (int, float), bool: bool}.get(kinds[0])
            wrong_bool = isinstance(value, bool) and kinds[0] is not bool
            if value is not None and allowed and (wrong_bool or not isinstance(value, allowed)):
                raise FcitError(f"`{name}` takes a value of type {expected}, got {value!r}.")

    def _check_choices(self) -> None:
        for item in fields(self):
            value, kind = getattr(self, item.name), _REGISTERED.get(item.name)
            choices = sorted(registry(kind)) if kind else item.metadata.get("choices")
            if choices and value is not None and value not in choices:
                raise FcitError(f"`{item.name}` is {value!r}; {nearest(str(value), choices)}")

    def to_dict(self) -> dict[str, Any]:
        """All keys and values, as JSON-friendly types."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def check_names(names: Iterable[str], others: Iterable[str] = ()) -> None:
    """Refuse unknown keys.

    Args:
        names: The keys given.
        others: Valid keys beside ours.

    Raises:
        FcitError: One sentence that names the key and the nearest valid one.
    """
    valid = [*(item.name for item in fields(FcitArguments)), *others]
    for name in names:
        if name not in valid:
            raise FcitError(f"Unknown key `{name}` in the recipe; the nearest valid key is `{closest(name, valid)}`.")


#: Keys that mean something in one fcit stage alone, or only without any.
_ONLY_IN = {
    "fcit_state_dir": ("fcit_client", "fcit_aggregate"),
    "fcit_client": ("fcit_client",),
    "fcit_client_dir": ("fcit_client",),
    "fcit_update_dirs": ("fcit_aggregate",),
    "fcit_dry_run": ("fcit",),
    "fcit_reference": ("fcit",),
    **dict.fromkeys((*EXPORT_KEYS, *ROUTING_KEYS), (None,)),
}
_ANYWHERE = ("fcit_data_dir",)


def check_stage(stage: str | None, names: list[str]) -> None:
    """Refuse ``fcit_*`` keys that the stage would ignore.

    Args:
        stage: The fcit stage, or None for a stage of LLaMA-Factory's own.
        names: The keys given.

    Raises:
        FcitError: One sentence that names the key and the stage it belongs to.
    """
    for name in names:
        if name in _ANYWHERE:
            continue
        wanted = _ONLY_IN.get(name, tuple(FCIT_STAGES))
        if stage not in wanted:
            command = "`llamafactory-cli export`" if name in EXPORT_KEYS else "chat, api, webchat and predict"
            where = " or ".join(f"`stage: {one}`" if one else command for one in wanted)
            raise FcitError(f"`{name}` belongs to {where}; take it out or change the stage.")
