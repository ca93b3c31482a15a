"""Every ``fcit_*`` key of a recipe: its type, its default, its help, its checks; a group of keys a module."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from ..errors import FcitError, closest, nearest
from ..parts import KINDS, Part
from ..plugins import registry
from .aliases import current_keys, use_current_values
from .compression import CompressionArguments
from .evaluation import EvaluationArguments
from .folders import FolderArguments
from .inference import EXPORT_KEYS, ROUTING_KEYS, InferenceArguments
from .joined import PARTS_WITH_KEYS, join, part_keys
from .lora_aggregation import LoraAggregationArguments
from .method import MethodArguments
from .option import check_types
from .privacy import PrivacyArguments
from .replies import ReplyArguments
from .run import RunArguments
from .scenario import ScenarioArguments
from .server_rule import ServerRuleArguments

__all__ = ["EXPORT_KEYS", "FCIT_STAGES", "ROUTING_KEYS", "FcitArguments", "check_names", "check_stage", "current_keys"]

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

#: Keys whose values are registered names, and of which kind; an encoder may be a folder or a name on a hub instead. Not in
#: the fields' metadata, for LLaMA-Factory's argument parser hands that to argparse.
_REGISTERED = {choice: kind for kind, (choice, _) in KINDS.items() if choice and kind != "identity_encoders"} | {
    "fcit_caption_metric": "metrics"
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

    @staticmethod
    def joined() -> "type[FcitArguments]":
        """The class of all keys: ours, and those of every registered part."""
        return join(FcitArguments, part_keys())

    def __post_init__(self) -> None:
        use_current_values(self)
        for group in _GROUPS:
            group.parse(self)
        check_types(self)
        self._check_choices()
        self._settle_parts()
        for group in _GROUPS:
            group.check(self)
        for kind in PARTS_WITH_KEYS:
            if (options := self.options(kind)) is not None:
                options.check(self)

    def _check_choices(self) -> None:
        for item in fields(self):
            value, kind = getattr(self, item.name), _REGISTERED.get(item.name)
            choices = sorted(registry(kind)) if kind else item.metadata.get("choices")
            if choices and value is not None and value not in choices:
                raise FcitError(f"`{item.name}` is {value!r}; {nearest(str(value), choices)}")

    def _settle_parts(self) -> None:
        """Refuse keys of parts that are not chosen, and fill in the defaults of those that are."""
        for key in part_keys().values():
            if getattr(self, key.name) is not None and self.part(key.kind).name not in key.owners:
                choice, _ = KINDS[key.kind]
                what = key.kind.removesuffix("s").rpartition("_")[2]
                raise FcitError(
                    f"`{key.name}` belongs to `{choice}` {', '.join(key.owners)}; the {what} is {getattr(self, choice)}."
                )
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
        name = getattr(self, choice)
        found = registry(kind).get(name)
        return found if found is not None else part(name, name=name)  # an encoder may be a folder or a name on a hub

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
