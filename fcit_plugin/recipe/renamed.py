"""Keys that a later transformers knows by another name alone: recipes of either time run with either."""

from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

#: From 5.0 on `warmup_steps` takes a share of the steps, too, and in its last versions `warmup_ratio` was put into it.
_RENAMED = {"warmup_ratio": "warmup_steps"}


def with_known_names(keys: dict[str, Any], known: "Iterable[type[DataclassInstance]]") -> dict[str, Any]:
    """A recipe's keys, those renamed that the installed transformers does not know any more.

    Args:
        keys: The keys of the recipe.
        known: LLaMA-Factory's argument classes.
    """
    names = {item.name for part in known for item in fields(part)}
    found = dict(keys)
    for old, new in _RENAMED.items():
        if old in found and old not in names:
            value = found.pop(old)
            found |= {} if value is None else {new: value}
    return found
