"""What is registered: a part that a key chooses by name, with the keys, defaults and refusals that are its own.

Nothing here imports torch or Flower, and a part may name what makes it as text: so the keys of all parts are known before
any of them is loaded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from .errors import FcitError, with_place

#: What parts are derived from, by kind; of others the functions are looked at when they have made something.
_BASES = {
    "methods": "fcit_plugin.continual.method:ContinualMethod",
    "lora_aggregations": "fcit_plugin.adapters.aggregation:LoraAggregation",
}
#: Kinds whose parts are classes, and not only functions that make one.
_CLASSES = ("methods",)


def _base(kind: str) -> type:
    """Imported with a part of the kind alone, which has imported it itself if it is right."""
    module, _, name = _BASES[kind].partition(":")
    base: type = getattr(import_module(module), name)
    return base


@dataclass(frozen=True)
class Part:
    """A registered method, rule, aggregation, partitioner, encoder or metric.

    Attributes:
        make: The class or function; or where it is, as ``"package.module:name"``, imported when it is first used.
        options: A dataclass (:class:`fcit_plugin.arguments.option.Options`) of the keys that belong to this part; None if
            it has none. A key may belong to several parts of a kind, each with a default of its own.
        cannot_go_with: Keys that a recipe with this part must leave at their default, and why, as the end of a sentence
            that begins with the part and "which": ``{"fp16": "adds to gradients, which must not be scaled"}``.
        name: The name by which it is chosen; the registry fills it in.
        package: Who registered it, with version; the registry fills it in.
        kind: One of :data:`KINDS`; the registry fills it in.
    """

    make: str | Callable[..., Any]
    options: type | None = None
    cannot_go_with: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    package: str = ""
    kind: str = ""

    def load(self) -> Any:
        """The class or function itself.

        Raises:
            FcitError: It cannot be imported, or is not what its kind has to be; the sentence names the package, and the file
                and the line where something failed.
        """
        found = self._found()
        if not callable(found):
            raise FcitError(f"{self._whose} is {found!r}; register a class or a function.")
        if self.kind in _CLASSES or (self.kind in _BASES and isinstance(found, type)):
            self._check(isinstance(found, type) and issubclass(found, _base(self.kind)), found)
        return found

    def make_one(self) -> Any:
        """What a part makes that is made of nothing, as LoRA aggregations are.

        Raises:
            FcitError: It is not what its kind has to be; the sentence names the package.
        """
        made = self.load()()
        self._check(self.kind not in _BASES or isinstance(made, _base(self.kind)), made)
        return made

    @property
    def _whose(self) -> str:
        where = f" ({self.make})" if isinstance(self.make, str) else ""
        return f"`{self.name}` of {self.package}{where}"

    def _found(self) -> Any:
        if not isinstance(self.make, str):
            return self.make
        module, _, name = self.make.partition(":")
        try:
            return getattr(import_module(module), name)
        except Exception as error:  # whatever a stranger's module raises, who it was is what helps
            raise FcitError(f"{self._whose} cannot be loaded: {with_place(error)}.") from error

    def _check(self, fits: bool, found: Any) -> None:
        if not fits:
            module, _, name = _BASES[self.kind].partition(":")
            raise FcitError(f"{self._whose} is {found!r}, which has not the base {name}; derive it from {module}.{name}.")


@dataclass(frozen=True)
class ServerRule(Part):
    """A registered server rule.

    Attributes:
        averages: Its result is the mean of the replies, weighted by their examples.
        remembers_numbers: It remembers something of single numbers of A and B, which must mean the same in every round; so it
            does not go with LoRA aggregations that give them another basis.
        robust_from: Fewest replies with which it withstands what its options (or None) set it up for; None for a rule that
            promises nothing.
        sees_mean_alone: Its result is the same if the replies are one whose weights are their mean, weighted by examples, and
            it sends and wants no more than weights: so it goes with `fcit_secure_sum` and with `fcit_round_order: relay`.
    """

    averages: bool = False
    remembers_numbers: bool = False
    robust_from: Callable[[Any], int] | None = None
    sees_mean_alone: bool = False


#: For each kind of parts the key that chooses one, None where records of a dataset do, and the class of its parts.
KINDS: Mapping[str, tuple[str | None, type[Part]]] = {
    "partitioners": ("fcit_partition", Part),
    "methods": ("fcit_method", Part),
    "server_rules": ("fcit_server_rule", ServerRule),
    "lora_aggregations": ("fcit_lora_aggregation", Part),
    "identity_encoders": ("fcit_identity_encoder", Part),
    "metrics": (None, Part),
}


def as_part(kind: str, registered: Any) -> Part:
    """What a hook returned, as a part: a class or function may carry ``options`` and ``cannot_go_with`` itself."""
    if isinstance(registered, Part):
        return registered
    _, part = KINDS[kind]
    return part(registered, getattr(registered, "options", None), getattr(registered, "cannot_go_with", {}))
