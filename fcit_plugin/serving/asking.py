"""What a request asks of the routing, and what it is told of it: which subspace answered, and how near it was. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from ..data.instructions import ROUTING
from ..errors import FcitError

if TYPE_CHECKING:
    import numpy as np

#: Key of a request, and keyword argument of LLaMA-Factory's ``ChatModel.chat`` and ``stream_chat``, that names a subspace.
SUBSPACE = "fcit_subspace"
#: Keyword argument that hands an :class:`Ask` to a routed model's ``generate``.
ASK = "fcit_ask"


class Answered(TypedDict):
    """Who answered a request, as its reply tells it (``fcit``).

    Attributes:
        subspace: The one that weighed most; None: the base model alone.
        tasks: What this one was trained for.
        weight: What it weighed.
        cosine: How near the request was to it, from -1 to 1; None where nothing is known of it.
        far: Whether the request was far from all that the run learned.
        asked: Whether the request itself named the subspace.
        weights: What each subspace weighed.
    """

    subspace: int | None
    tasks: list[str]
    weight: float
    cosine: float | None
    far: bool
    asked: bool
    weights: list[float]


@dataclass
class Ask:
    """One request's.

    Attributes:
        subspace: The subspace that is to answer alone; None for those that the request itself activates.
        answered: Who has answered; None as long as nobody has.
    """

    subspace: int | None = None
    answered: Answered | None = None


def answered(weights: "np.ndarray", cosines: "np.ndarray", far: bool, tasks: Sequence[Sequence[str]], asked: bool) -> Answered:
    """Who answers a request.

    Args:
        weights: What the subspaces weigh, [K].
        cosines: How near the request is to each, [K].
        far: Whether it is far from all of them.
        tasks: What each was trained for.
        asked: Whether the request names the subspace.
    """
    k = int(abs(weights).argmax()) if weights.any() else None
    return Answered(
        subspace=k,
        tasks=[] if k is None else list(tasks[k]),
        weight=0.0 if k is None else round(float(weights[k]), 4),
        cosine=None if k is None else round(float(cosines[k]), 4),
        far=far,
        asked=asked,
        weights=[round(float(weight), 4) for weight in weights],
    )


def sentence(who: Answered) -> str:
    """The same in words."""
    if who["subspace"] is None:
        return "the base model alone answered"
    named = f" ({', '.join(who['tasks'])})" if who["tasks"] else ""
    far = ", far from what the run learned" if who["far"] else ""
    return f"subspace {who['subspace']}{named} answered, weight {who['weight']:.2f}, cosine {who['cosine']:.2f}{far}"


def routing_of(model: Any) -> Any:
    """The routing of a routed model; None of any other."""
    return getattr(model, ROUTING, None)


def check_subspace(model: Any, subspace: int | None) -> None:
    """Refuse a request that names a subspace which cannot answer.

    Args:
        model: The model that is asked, routed or not.
        subspace: As the request has it; None for none.

    Raises:
        FcitError: There is no such subspace, or it is not in use; the sentence names those that are.
    """
    if subspace is None:
        return
    routing = routing_of(model)
    if routing is None:
        raise FcitError(f"`{SUBSPACE}` names a subspace of an FCIT run, and this model has none; take it out of the request.")
    valid = routing.valid_subspaces
    if isinstance(subspace, bool) or subspace not in valid:
        there = ", ".join(map(str, valid[:50])) or "none"
        raise FcitError(f"`{SUBSPACE}` is {subspace!r}; the subspaces that can answer are {there}.")


def taken_out(arguments: dict[str, Any]) -> Ask:
    """What the keyword arguments of a chat ask, which are left without it."""
    wanted, ask = arguments.pop(SUBSPACE, None), arguments.pop(ASK, None)
    return Ask(wanted) if ask is None else ask
