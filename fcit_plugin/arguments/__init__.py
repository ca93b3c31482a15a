"""Every ``fcit_*`` key of a recipe: its type, its default, its help, its checks; a group of keys a module."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from ..errors import closest
from ..parts import KINDS, Part, ServerRule
from ..plugins import registry
from .aliases import current_keys, use_current_values
from .compression import CompressionArguments, check_compression
from .engine import EngineArguments, check_engine
from .evaluation import EvaluationArguments, check_evaluation, parse_evaluation
from .folders import FolderArguments, check_folders, parse_folders
from .inference import EXPORT_KEYS, FOLDER_KEYS, ROUTING_KEYS, InferenceArguments, check_inference, parse_inference
from .joined import PARTS_WITH_KEYS, join, part_keys
from .lora_aggregation import LoraAggregationArguments, check_lora_aggregation
from .method import MethodArguments, check_method, parse_method
from .network import FLOWER, SITE_KEYS, SITE_STAGE, NetworkArguments, check_network, parse_network
from .option import check_choice, check_text, check_types
from .privacy import PrivacyArguments, check_privacy, parse_privacy
from .reasons import all_reasons, going_on, refuse
from .replies import ReplyArguments, check_replies
from .round_order import RoundOrderArguments, check_round_order
from .run import RunArguments, check_run
from .scenario import ScenarioArguments, check_scenario, parse_scenario
from .secure_sum import SecureSumArguments, check_secure_sum
from .server_rule import ServerRuleArguments, check_server_rule

__all__ = [
    "EXPORT_KEYS",
    "FCIT_STAGES",
    "FOLDER_KEYS",
    "ROUTING_KEYS",
    "FcitArguments",
    "check_names",
    "check_stage",
    "current_keys",
]

#: The LLaMA-Factory stages that the plugin adds, and what each does.
FCIT_STAGES = {
    "fcit": "the whole federated continual loop",
    "fcit_client": "one client, one round: from a server state folder to an update folder",
    SITE_STAGE: "a site: trains on its own data whenever the server asks, until it is stopped",
    "fcit_aggregate": "the aggregator: folds update folders into the next server state folder",
}

_PARSERS = (parse_scenario, parse_method, parse_evaluation, parse_folders, parse_inference, parse_privacy, parse_network)
_CHECKS = (
    check_scenario,
    check_method,
    check_server_rule,
    check_round_order,
    check_replies,
    check_privacy,
    check_lora_aggregation,
    check_compression,
    check_evaluation,
    check_run,
    check_engine,
    check_network,
    check_secure_sum,
    check_inference,
    check_folders,
)

#: Keys whose values are registered names, and of which kind; an encoder may be a folder or a name on a hub instead. Not in
#: the fields' metadata, for LLaMA-Factory's argument parser hands that to argparse.
_REGISTERED = {choice: kind for kind, (choice, _) in KINDS.items() if choice and kind != "identity_encoders"} | {
    "fcit_caption_metric": "metrics"
}


#: Keys of texts that take several: as a list or a mapping in YAML, as a text on the command line.
_OF_SEVERAL = frozenset(
    {
        *("fcit_stages", "fcit_schedule", "fcit_task_order", "fcit_target_parameters", "fcit_update_dirs", "fcit_sites"),
        *("fcit_site_tasks", "fcit_export_weights"),
    }
)


@dataclass
class FcitArguments(
    InferenceArguments,
    FolderArguments,
    SecureSumArguments,
    NetworkArguments,
    EngineArguments,
    RunArguments,
    EvaluationArguments,
    CompressionArguments,
    LoraAggregationArguments,
    PrivacyArguments,
    ReplyArguments,
    RoundOrderArguments,
    ServerRuleArguments,
    MethodArguments,
    ScenarioArguments,
):
    r"""Arguments of federated continual instruction tuning.

    They stand beside LLaMA-Factory's own keys, which keep their meaning for each client's local training.
    (A dataclass takes the fields of its last base first, hence the order.)

    What is made is an instance of :meth:`joined`, the subclass that has the keys of all registered parts too, as
    :class:`pathlib.Path` makes a path of the system's kind.

    Raises:
        FcitError: A key has a value that cannot work; the sentence names the key and what to do.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> "FcitArguments":
        """An instance of :meth:`joined`."""
        return super().__new__(cls.joined() if cls is FcitArguments else cls)

    def __reduce__(self) -> tuple[Any, ...]:
        """The values alone: the joined class is made of what is registered where they are read."""
        return _with_values, (dict(vars(self)),)

    @staticmethod
    def joined() -> "type[FcitArguments]":
        """The class of all keys: ours, and those of every registered part."""
        return join(FcitArguments, part_keys())

    def __post_init__(self) -> None:
        use_current_values(self)
        with all_reasons():
            for parse in _PARSERS:
                with going_on():
                    parse(self)
            check_types(self)
            self._check_choices()
        with all_reasons():  # what follows compares values, which have to be of their types
            self._settle_parts()
            for check in _CHECKS:
                with going_on():
                    check(self)
            for kind in PARTS_WITH_KEYS:
                if (options := self.options(kind)) is not None:
                    with going_on():
                        options.check(self)

    def _check_choices(self) -> None:
        hints = get_type_hints(type(self))
        for item in fields(self):
            kind, value = _REGISTERED.get(item.name), getattr(self, item.name)
            choices = sorted(registry(kind)) if kind else item.metadata.get("choices")
            check_choice(item.name, value, choices)
            if not choices and item.repr:  # of a secret nothing is shown
                check_text(item.name, value, hints[item.name], item.name in _OF_SEVERAL)

    def _settle_parts(self) -> None:
        """Refuse keys of parts that are not chosen, and fill in the defaults of those that are."""
        for key in part_keys().values():
            if getattr(self, key.name) is not None and self.part(key.kind).name not in key.owners:
                choice, chosen = KINDS[key.kind][0], self.part(key.kind).name
                what = key.kind.removesuffix("s").rpartition("_")[2]
                refuse(f"`{key.name}` belongs to `{choice}` {', '.join(key.owners)}; the {what} is {chosen}.")
        for kind in PARTS_WITH_KEYS:
            if (options := self.options(kind)) is not None:
                options.complete(self)
                for item in fields(options):
                    setattr(self, item.name, getattr(options, item.name))

    def part(self, kind: str) -> Part:
        """The registered part that the recipe chooses.

        Args:
            kind: One of :data:`fcit_plugin.parts.KINDS` that a key chooses from.
        """
        choice, part = KINDS[kind]
        assert choice is not None
        name = getattr(self, choice)
        found = registry(kind).get(name)
        return found if found is not None else part(name, name=name)  # an encoder may be a folder or a name on a hub

    @property
    def over_network(self) -> bool:
        """Whether these are keys of a server whose clients are sites, or of such a site."""
        return self.fcit_engine == FLOWER or self.fcit_site_key is not None

    @property
    def server_rule(self) -> ServerRule:
        """The server rule that the recipe chooses."""
        rule = self.part("server_rules")
        assert isinstance(rule, ServerRule)
        return rule

    @property
    def robust_from(self) -> int:
        """Fewest replies with which the rule withstands what it is set up for; 0 for a rule that promises nothing."""
        robust_from = self.server_rule.robust_from
        return 0 if robust_from is None else robust_from(self.options("server_rules"))

    def options(self, kind: str) -> Any:
        """The keys of the part that the recipe chooses, as an instance of its own class; None if it has none."""
        options = self.part(kind).options
        if options is None:
            return None
        given = {item.name: getattr(self, item.name) for item in fields(options)}
        return options(**{name: value for name, value in given.items() if value is not None})

    def to_dict(self) -> dict[str, Any]:
        """All keys and values, as JSON-friendly types."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def _with_values(values: dict[str, Any]) -> FcitArguments:
    """Keys with values that were checked before, as a copy or a pickle has them."""
    made = object.__new__(FcitArguments.joined())
    vars(made).update(values)
    return made


def check_names(names: Iterable[str], others: Iterable[str] = ()) -> None:
    """Refuse unknown keys.

    Args:
        names: The keys given.
        others: Valid keys beside ours.

    Raises:
        FcitError: One sentence that names the key and the nearest valid one.
    """
    valid = [*(item.name for item in fields(FcitArguments.joined())), *others]
    for name in names:
        if name not in valid:
            refuse(f"Unknown key `{name}` in the recipe; the nearest valid key is `{closest(name, valid)}`.")


#: Keys that mean something in one fcit stage alone, or only without any.
_ONLY_IN = {
    "fcit_state_dir": ("fcit_client", "fcit_aggregate"),
    "fcit_client": ("fcit_client",),
    "fcit_client_dir": ("fcit_client",),
    "fcit_update_dirs": ("fcit_aggregate",),
    **dict.fromkeys(
        (
            "fcit_server_certificate",
            "fcit_server_key",
            "fcit_superlink_appio",
            "fcit_site_patience",
            "fcit_site_poll",
        ),
        ("fcit",),
    ),
    **dict.fromkeys(
        ("fcit_superlink", "fcit_certificate", "fcit_sites", "fcit_secure_sum", "fcit_secure_min_clients"),
        ("fcit", SITE_STAGE),
    ),
    **dict.fromkeys(SITE_KEYS, (SITE_STAGE,)),
    # folders have no way from one client to the next within a round
    "fcit_round_order": ("fcit", SITE_STAGE),
    "fcit_engine": ("fcit", "fcit_client", "fcit_aggregate"),
    "fcit_dry_run": ("fcit", SITE_STAGE),
    "fcit_bound": ("fcit",),
    **dict.fromkeys((*EXPORT_KEYS, *ROUTING_KEYS, *FOLDER_KEYS), (None,)),
    "fcit_route_unconfirmed": (None, "fcit"),
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
            refuse(f"`{name}` belongs to {where}; take it out or change the stage.")
