"""What the groups of keys have in common: one option, and checks that several of them need."""

import json
import math
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ..errors import FcitError


def option(default: Any, help: str, **metadata: Any) -> Any:
    """A key: its default, its help, and ``choices`` if only these are valid."""
    return field(default=default, metadata={"help": help, **metadata})


def check_at_least(args: Any, least: int, *names: str) -> None:
    """Refuse a number below the least one; None, where the key allows it, means no limit.

    Raises:
        FcitError: One sentence that names the key.
    """
    for name in names:
        value = getattr(args, name)
        if value is not None and value < least:
            optional = getattr(type(args), name) is None
            raise FcitError(
                f"`{name}` must be at least {least}{', or left out for no limit' if optional else ''}, got {value}."
            )


def check_positive(args: Any, *names: str) -> None:
    """Refuse what is not greater than 0 or not finite; None, where the key allows it, passes.

    Raises:
        FcitError: One sentence that names the key.
    """
    for name in names:
        value = getattr(args, name)
        if value is not None and not 0 < value < math.inf:
            raise FcitError(f"`{name}` must be greater than 0 and finite, got {value}.")


def settle_parameters(args: Any, choice: str, what: str, parameters: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse parameters of another choice than the one made, and fill in the defaults of its own.

    A registered choice of others, which is not among ``parameters``, may take any of the keys.

    Args:
        args: The keys.
        choice: Key of the choice.
        what: What is chosen, in a word.
        parameters: For each choice the keys that it takes, with its defaults.

    Raises:
        FcitError: One sentence that names the key and the choices that take it.
    """
    chosen = getattr(args, choice)
    for key in sorted({key for keys in parameters.values() for key in keys}):
        owners = [name for name, keys in parameters.items() if key in keys]
        if getattr(args, key) is not None and chosen in set(parameters) - set(owners):
            raise FcitError(f"`{key}` belongs to `{choice}` {', '.join(owners)}; the {what} is {chosen}.")
    for key, default in parameters.get(chosen, {}).items():
        if getattr(args, key) is None:
            setattr(args, key, default)


def comma_separated(text: str) -> list[str]:
    """The parts of a comma-separated text."""
    return [part.strip() for part in text.split(",") if part.strip()]


def nested_list(key: str, value: Any) -> Any:
    """A list of lists, given as such (YAML) or as JSON text (command line); None passes.

    Raises:
        FcitError: It is none; the sentence names the key.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise FcitError(f"`{key}` is not a list of lists in JSON: {error}.") from error
    if value is not None and not (isinstance(value, list) and all(isinstance(row, list) for row in value)):
        raise FcitError(f"`{key}` must be a list of lists, e.g. [[a], [b]], got {value!r}.")
    return value
