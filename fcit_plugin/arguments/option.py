"""What keys are made of: one option, the options of a part, and checks that several keys need."""

import contextlib
import enum
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import field, fields
from types import MappingProxyType, NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import FcitError, nearest
from ..files import parse_json
from .reasons import refuse

if TYPE_CHECKING:
    from . import FcitArguments

#: A value that the encoder, or the base model, gives once it is loaded (:mod:`fcit_plugin.engine.settling`).
AUTO = "auto"


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    unfit: Mapping[str, str] | None = None,
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    shown: bool = True,
) -> Any:
    """A key: its default, its help, and which values are valid.

    Args:
        default: Its value where a recipe does not name it.
        help: What it is for, in a sentence.
        choices: The only valid values.
        unfit: Values that one may expect beside them, and why they are none, as the end of a sentence.
        least: The least valid number.
        above: The number that a valid one is greater than.
        below: The number that a valid one is less than.
        shown: Whether its value may stand where keys are printed; not that of a secret.
    """
    limits = {"least": least, "above": above, "below": below}
    metadata: dict[str, Any] = {"help": help}
    if choices is not None:
        metadata["choices"] = Choices(choices, unfit or {})
    if any(limit is not None for limit in limits.values()):
        metadata[_LIMITS] = limits
    return field(default=default, metadata=metadata, repr=shown)


_LIMITS = "limits"


class Choices(list[str]):
    """The valid values of a key; of a key's metadata the parser of the command line takes whatever there is.

    Args:
        values: The values.
        unfit: See :func:`option`.
    """

    def __init__(self, values: Sequence[str], unfit: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(values)
        self.unfit = dict(unfit)


class Options:
    """The keys of one registered part (:class:`fcit_plugin.parts.Part`): the base of a dataclass whose fields they are.

    Their names begin with ``fcit_``; types, choices and limits are checked when one is made.

    Raises:
        FcitError: A key has a value that cannot work; the sentence names it.
    """

    def __post_init__(self) -> None:
        """Check each key by itself."""
        check_types(self)
        check_limits(self)

    def complete(self, args: "FcitArguments") -> None:
        """Give keys that the recipe left out values which depend on other keys."""

    def check(self, args: "FcitArguments") -> None:
        """Refuse what does not go with other keys of ours.

        Raises:
            FcitError: The sentence names both keys.
        """

    def check_training(self, model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any) -> None:
        """Refuse what does not go with LLaMA-Factory's keys.

        Args:
            model_args: LLaMA-Factory's model arguments.
            data_args: Its data arguments.
            training_args: Its training arguments.
            finetuning_args: Its fine-tuning arguments.

        Raises:
            FcitError: The sentence names both keys.
        """


def check_types(keys: Any) -> None:
    """Refuse values of another type than the key's, and None where the key needs a value.

    Args:
        keys: An instance of a dataclass of keys.

    Raises:
        FcitError: The sentence names the key.
    """
    for name, hint in get_type_hints(type(keys)).items():  # HfArgumentParser changes the types of the fields
        value = getattr(keys, name)
        kinds = get_args(hint) or (hint,)
        if value is None and NoneType not in kinds:
            refuse(f"`{name}` has no value; give one of type {kinds[0].__name__}, or take the key out.")
        if value is not None:
            check_type(name, value, hint)


def check_limits(keys: Any) -> None:
    """Refuse numbers outside of the limits that the keys' options name, and values that are none of their choices.

    Args:
        keys: An instance of a dataclass of keys.

    Raises:
        FcitError: The sentence names the key.
    """
    for item in fields(keys):
        value, limits = getattr(keys, item.name), item.metadata.get(_LIMITS, {})
        choices = item.metadata.get("choices")
        if value is None:
            continue
        check_choice(item.name, value, choices)
        if limits.get("above") == 0 and limits.get("below") is None:
            check_positive(keys, item.name)
        elif limits and not _within(value, **limits):
            refuse(f"`{item.name}` must be {_limits_in_words(**limits)}, got {value}.")


def check_choice(name: str, value: Any, choices: Sequence[str] | None) -> None:
    """Refuse a value that is none of a key's choices, where it has any; None is not looked at.

    Raises:
        FcitError: The sentence names the key, and why the value is none or the nearest choice.
    """
    if choices and value is not None and value not in choices:
        unfit = choices.unfit.get(str(value)) if isinstance(choices, Choices) else None
        why = f", which {unfit}" if unfit else f"; {nearest(str(value), choices)}"
        refuse(f"`{name}` is {value!r}{why}")


def check_text(name: str, value: Any, hint: Any, several: bool) -> None:
    """Refuse what is no text for a key of texts, such as names and folders; None is not looked at.

    Args:
        name: The key.
        value: Its value.
        hint: Its type; nothing is said of one that is more than texts, lists and mappings.
        several: It takes a list or a mapping as well, whatever its type says.

    Raises:
        FcitError: The sentence names the key.
    """
    either = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = {get_origin(kind) or kind for kind in either} - {NoneType}
    if str not in kinds or any(not isinstance(kind, type) or issubclass(kind, (int, float, enum.Enum)) for kind in kinds):
        return
    takes_list = several or any(issubclass(kind, list) for kind in kinds)
    takes_mapping = several or any(issubclass(kind, dict) for kind in kinds)
    wrong = (isinstance(value, list) and not takes_list) or (isinstance(value, Mapping) and not takes_mapping)
    if wrong or isinstance(value, (int, float)):
        remedy = "; put it in quotes if that is one" if isinstance(value, (int, float)) else ""
        refuse(f"`{name}` takes a text, got {value!r}{remedy}.")


def check_texts(args: Any, *names: str) -> None:
    """Refuse a list of something else than texts.

    Raises:
        FcitError: The sentence names the key.
    """
    for name in names:
        value = getattr(args, name)
        if value is not None and not (isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value)):
            refuse(f"`{name}` is {value!r}; it takes a list of texts, or one with commas.")


def _within(value: float, least: float | None, above: float | None, below: float | None) -> bool:
    return (
        math.isfinite(value)
        and (least is None or value >= least)
        and (above is None or value > above)
        and (below is None or value < below)
    )


def _limits_in_words(least: float | None, above: float | None, below: float | None) -> str:
    if below is None:
        return f"at least {least:g}" if least is not None else f"greater than {above:g}"
    return f"from {least:g} to less than {below:g}" if least is not None else f"greater than {above:g} and less than {below:g}"


def check_type(name: str, value: Any, hint: Any) -> None:
    """Refuse a value that a type hint does not allow; None is not looked at.

    Raises:
        FcitError: One sentence that names the key.
    """
    kinds = [kind for kind in (get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)) if kind is not NoneType]
    choices = _choices(kinds)
    if choices and value not in choices:
        quotes = " (YAML reads a bare no as false: put it in quotes)" if value is False else ""
        refuse(f"`{name}` is {value!r}{quotes}; {nearest(str(value), choices)}")
    if len(kinds) == 1 and kinds[0] in _NUMBERS:
        right = isinstance(value, _NUMBERS[kinds[0]]) and isinstance(value, bool) == (kinds[0] is bool)
        if not right:
            refuse(f"`{name}` takes a value of type {kinds[0].__name__}, got {value!r}.")
        elif isinstance(value, int) and value.bit_length() > 63:
            refuse(f"`{name}` is a number of some {value.bit_length() * 3 // 10} digits; none so large is of use.")


_NUMBERS: dict[Any, Any] = {int: int, float: (int, float), bool: bool}


def _choices(kinds: Sequence[Any]) -> list[str]:
    """The values of an enumeration or of a literal; transformers writes the former as "enumeration or str"."""
    if len(kinds) == 1 and get_origin(kinds[0]) is Literal:
        return list(get_args(kinds[0]))
    enums = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, enum.Enum)]
    return [member.value for member in enums[0]] if enums and set(kinds) <= {enums[0], str} else []


def check_at_least(args: Any, least: int, *names: str) -> None:
    """Refuse a number below the least one; None, where the key allows it, means no limit.

    Raises:
        FcitError: One sentence that names the key.
    """
    for name in names:
        value = getattr(args, name)
        if value is not None and value < least:
            optional = ", or left out" if getattr(type(args), name) is None else ""
            optional += " for no limit" if optional and "_max_" in name else ""
            refuse(f"`{name}` must be at least {least}{optional}, got {value}.")


def check_positive(args: Any, *names: str) -> None:
    """Refuse what is not greater than 0 or not finite; None, where the key allows it, passes.

    Raises:
        FcitError: One sentence that names the key.
    """
    for name in names:
        value = getattr(args, name)
        if value is not None and not 0 < value < math.inf:
            refuse(f"`{name}` must be greater than 0 and finite, got {value}.")


def number_or_auto(value: Any) -> Any:
    """The number that a text of the command line means; anything else, such as ``auto``, as it is, for the check to see."""
    if isinstance(value, str) and value != AUTO:
        with contextlib.suppress(ValueError):
            return float(value)
    return value


def comma_separated(text: str) -> list[str]:
    """The parts of a comma-separated text."""
    return [part.strip() for part in text.split(",") if part.strip()]


def nested_list(key: str, value: Any, of_names: bool = False) -> Any:
    """A list of lists, given as such (YAML) or as JSON text (command line); None passes.

    Args:
        key: The key.
        value: What it is given.
        of_names: A bare name stands for a list of this one.

    Raises:
        FcitError: It is none; the sentence names the key.
    """
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except json.JSONDecodeError as error:
            raise FcitError(f"`{key}` is not a list of lists in JSON: {error}.") from error
    if of_names:
        value = each_alone(value)
    if value is not None and not (isinstance(value, list) and all(isinstance(row, list) for row in value)):
        raise FcitError(f"`{key}` must be a list of lists, e.g. [[a], [b]], got {value!r}.")
    return value


def each_alone(rows: Any) -> Any:
    """A list whose bare names are lists of one name; anything else as it is."""
    return [[row] if isinstance(row, str) else row for row in rows] if isinstance(rows, list) else rows
