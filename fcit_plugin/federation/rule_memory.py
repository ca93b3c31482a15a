"""What a Flower strategy remembers from round to round, as arrays for the server's state, and back.

A state may come from anywhere, so what is put back is a value of state: an attribute that a rule's constructor sets to None, a
number, a list, a dictionary or an array, and that is none of its settings. Methods and settings stay the recipe's.
"""

import inspect
import re
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from flwr.serverapp.strategy import Strategy

from ..errors import FcitError, with_place
from ..files import SOUND_COPY
from ..state.names import RULES

#: Set again by ``configure_train`` in every round: the weights sent out, which the state holds anyway.
_OF_THE_ROUND = "current_arrays"
_OF_A_LIST = re.compile(r"(\w+)\[(\d{1,9})\]")
#: What an attribute may be in which something is remembered, beside None for nothing yet.
_VALUES = (float, list, dict, np.ndarray)
#: In the key of an array its place within an attribute: an index, a key, or None for an attribute that is an array or a number.
Place = int | str | None


@runtime_checkable
class RemembersItself(Protocol):
    """A strategy that says what it remembers from round to round."""

    def state(self) -> Mapping[str, np.ndarray]:
        """What it remembers, by names of its own."""
        ...

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take up what an earlier instance remembered, from :meth:`state`."""
        ...


def memory_of(rule: Strategy, fresh: Strategy) -> dict[str, np.ndarray]:
    """What a strategy remembers: what its ``state()`` gives, otherwise the arrays and numbers on it that a fresh one has not.

    Returns:
        Arrays by ``name``, ``name/key`` or ``name[index]``.

    Raises:
        FcitError: It remembers something that this does not find, or where :func:`recall` would not put it back.
    """
    if isinstance(rule, RemembersItself):
        return dict(rule.state())
    found: dict[str, Any] = {}
    for name, value in vars(rule).items():
        if name == _OF_THE_ROUND:
            continue
        before, own = vars(fresh).get(name), dict[str, Any]()
        if isinstance(value, float):
            own = {name: value} if value != before else {}
        else:
            own = _arrays(name, value)
            if _differ(_others(value), _others(before)):
                raise FcitError(
                    f"The server rule {_named(rule)} remembers `{name}`, which is a {type(value).__name__}, and only arrays, "
                    "dictionaries and lists of arrays, and floats are kept; give the rule `state()` and `load_state()`."
                )
        if own and (why := _no_state(fresh, name)) is not None:
            raise FcitError(
                f"The server rule {_named(rule)} remembers `{name}`, which {why}, so that it would not be put back; have its "
                "constructor set an attribute of another name, or give the rule `state()` and `load_state()`."
            )
        found |= own
    return {key: np.array(value) for key, value in found.items()}


def recall(rule: Strategy, arrays: Mapping[str, np.ndarray], owner: str, file: str = RULES) -> None:
    """Put back what :func:`memory_of` took off; list entries come in the order of their index.

    Args:
        rule: A fresh rule.
        arrays: What it shall remember.
        owner: Whose rule it is.
        file: Where that comes from.

    Raises:
        FcitError: It is nothing that such a rule remembers; the sentence names the file.
    """
    if isinstance(rule, RemembersItself):
        if arrays:
            rule.load_state(arrays)
        return
    for name, parts in _attributes(arrays).items():
        setattr(rule, name, _value(rule, name, parts, f"{file} has `{owner}/{name}`"))


def check_memory(
    rule: Strategy,
    arrays: Mapping[str, np.ndarray],
    like: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    owner: str,
    file: str,
) -> None:
    """Refuse what a rule cannot take up, before a round is begun with it.

    What is remembered of each weight has to be there for each weight, and in its shape.

    Args:
        rule: A fresh rule.
        arrays: What it shall remember.
        like: What such a rule remembers after a round.
        shapes: Those of its weights, in their order.
        owner: Whose rule it is.
        file: Where that comes from.

    Raises:
        FcitError: The sentence names the file and what is wrong in it.
    """
    if isinstance(rule, RemembersItself):
        try:
            rule.load_state(arrays)
        except Exception as error:  # it may be anybody's code
            said = str(error).rstrip(".") if isinstance(error, FcitError) else with_place(error)
            raise FcitError(f"{file} has of `{owner}` what {_named(rule)} cannot take up: {said}; {_REMEDY}.") from error
        return
    recall(rule, arrays, owner, file)
    known = _attributes(like)
    for name, parts in _attributes(arrays).items():
        if name in known and (why := _unlike(parts, known[name], shapes)) is not None:
            raise FcitError(f"{file} has `{owner}/{name}`, {why}; {_REMEDY}.")


_REMEDY = f"{SOUND_COPY}, or go on with the `fcit_server_rule` and the model that it was written with"


def _attributes(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[Place, np.ndarray]]:
    """The arrays by attribute, and by their place in it."""
    found: dict[str, dict[Place, np.ndarray]] = {}
    for key, value in arrays.items():
        name, slash, inner = key.partition("/")
        place: Place = inner if slash else None
        if not slash and (match := _OF_A_LIST.fullmatch(key)):
            name, place = match[1], int(match[2])
        found.setdefault(name, {})[place] = value
    return found


def _value(rule: Strategy, name: str, parts: Mapping[Place, np.ndarray], what: str) -> Any:
    """What an attribute becomes; ``what`` begins the sentence that refuses it."""
    if (why := _no_state(rule, name)) is not None:
        raise FcitError(f"{what}, which {why} in {_named(rule)}, and nothing that it remembers; {_REMEDY}.")
    before, places = vars(rule)[name], [*parts]
    value: Any = None
    if places == [None]:
        (array,) = parts.values()
        value = array if array.ndim or isinstance(before, np.ndarray) else array.item()
    elif all(isinstance(place, str) for place in places):
        value = {**parts}
    elif {*places} == {*range(len(places))}:
        value = [parts[place] for place in range(len(places))]
    kinds = [kind for kind in _VALUES if before is None or isinstance(before, kind)]
    if not isinstance(value, tuple(kinds)):
        raise FcitError(f"{what} in another form than {_named(rule)}, where it is {kinds[0].__name__}; {_REMEDY}.")
    return value


def _no_state(fresh: Strategy, name: str) -> str | None:
    """Why an attribute of a fresh rule is no value of state; None if it is one."""
    if name not in vars(fresh):
        return "is a method" if callable(getattr(fresh, name, None)) else "no constructor sets"
    if name == _OF_THE_ROUND:
        return "is set in each round"
    constructors = [vars(base)["__init__"] for base in type(fresh).__mro__ if inspect.isfunction(vars(base).get("__init__"))]
    if any(name in inspect.signature(constructor).parameters for constructor in constructors):
        return "is a setting"
    return None if vars(fresh)[name] is None or isinstance(vars(fresh)[name], _VALUES) else "is a setting"


def _unlike(
    parts: Mapping[Place, np.ndarray], like: Mapping[Place, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> str | None:
    """Why the arrays of an attribute are not of the form of those that a round leaves there; None if they are."""
    forms, known = ({(type(place), array.dtype.kind) for place, array in those.items()} for those in (parts, like))
    if not forms <= known:
        return "which is of another form than the rule's own"
    if None in like:
        return None if parts[None].ndim == like[None].ndim else "which is of another shape than the rule's own"
    if [array.shape for array in like.values()] == [*shapes.values()] and 0 in like:
        found = [parts[place].shape for place in range(len(parts))]
        return None if found == [*shapes.values()] else "whose arrays are not of the shapes of the weights"
    of = {place: _weight(place, shapes) for place in parts}
    if all(_weight(place, shapes) for place in like):
        for place, weight in of.items():
            if weight is None:
                return f"with {str(place)[:200]!r}, which is no weight"
            if parts[place].shape != shapes[weight]:
                return f"with {str(place)[:200]!r} of shape {parts[place].shape}, not {shapes[weight]}"
        missing = [key for key in shapes if key not in parts]
        if missing and all(key in like for key in shapes):
            return f"without {missing[0]}"
    return None


def _weight(place: Place, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The weight that an array of a dictionary is of: it is named by it, or by a client and it; None if it is of none."""
    name = str(place)
    return next((key for key in (name, name.partition("/")[2]) if key in shapes), None)


def _named(rule: Strategy) -> str:
    return f"{type(rule).__module__}.{type(rule).__name__}"


def _arrays(name: str, value: Any) -> dict[str, np.ndarray]:
    """The arrays that an attribute is or has."""
    if isinstance(value, dict):
        return {f"{name}/{key}": item for key, item in value.items() if isinstance(item, np.ndarray)}
    if isinstance(value, list):
        return {f"{name}[{i}]": item for i, item in enumerate(value) if isinstance(item, np.ndarray)}
    return {name: value} if isinstance(value, np.ndarray) else {}


def _others(value: Any) -> Any:
    """What :func:`_arrays` leaves of an attribute; None for nothing."""
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if not isinstance(item, np.ndarray)} or None
    if isinstance(value, list):
        return [item for item in value if not isinstance(item, np.ndarray)] or None
    return None if isinstance(value, np.ndarray) else value


def _differ(value: Any, fresh: Any) -> bool:
    """Whether something was remembered; of objects that can only be compared with themselves it cannot be told."""
    if type(value) is not type(fresh):
        return value is not None
    if isinstance(value, torch.Tensor):
        return not torch.equal(value, fresh)
    return type(value).__eq__ is not object.__eq__ and value != fresh  # type: ignore[comparison-overlap]
