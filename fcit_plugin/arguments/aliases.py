"""Old names of keys and of their values: read for one minor version more, with a warning."""

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

from ..errors import FcitError

logger = logging.getLogger(__name__)

#: Old key -> its name now.
KEYS = {"fcit_reference": "fcit_bound"}

#: Key -> old value -> its name now.
VALUES = {"fcit_method": {"fedavg": "sequential"}}


def current_keys(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with the present names of its keys.

    Args:
        recipe: Keys and values; not changed.

    Raises:
        FcitError: A key is there by both of its names.
    """
    found = {}
    for key, value in recipe.items():
        if key in KEYS:
            if KEYS[key] in recipe:  # the one that came last would count, and nobody would know
                raise FcitError(f"`{key}` is the old name of `{KEYS[key]}`, which is there, too; take `{key}` out.")
            _warn_once(f"`{key}` is now called `{KEYS[key]}`; the old name goes with the next version.")
        found[KEYS.get(key, key)] = value
    return found


def use_current_values(keys: Any) -> None:
    """Put the present names of values in place of old ones.

    Args:
        keys: The recipe's keys, as attributes; changed in place.
    """
    for key, names in VALUES.items():
        value = getattr(keys, key)
        if isinstance(value, str) and value in names:
            _warn_once(f"`{key}: {value}` is now called `{names[value]}`; the old name goes with the next version.")
            setattr(keys, key, names[value])


@cache
def _warn_once(text: str) -> None:
    logger.warning(text)
