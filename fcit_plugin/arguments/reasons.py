"""Why a recipe is refused: all reasons that can be told at once come in one message."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ..errors import FcitError, one_line

if TYPE_CHECKING:
    from . import FcitArguments

#: What does not go with a key, by key: whether a recipe has it, and why, of its value.
Unfit = Mapping[str, tuple[Callable[["FcitArguments"], bool], str]]


class Refusal(FcitError):
    """A recipe is refused for several reasons.

    Args:
        reasons: A sentence each.
    """

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        numbered = [f"({number}) {reason}" for number, reason in enumerate(reasons, start=1)]
        super().__init__(f"{len(numbered)} things in the recipe cannot be: {' '.join(numbered)}")


def _refusal(reasons: Sequence[str]) -> FcitError:
    once = list(dict.fromkeys(reasons))
    return FcitError(once[0]) if len(once) == 1 else Refusal(once)


_KEPT: ContextVar[list[str] | None] = ContextVar("reasons", default=None)


def refuse(sentence: str) -> None:
    """Refuse a recipe: at once, or within :func:`all_reasons` at the end of that block.

    Raises:
        FcitError: The sentence.
    """
    kept = _KEPT.get()
    if kept is None:
        raise FcitError(sentence)
    kept.append(sentence)


def refuse_beside(args: "FcitArguments", chosen: str, unfit: Unfit) -> None:
    """Refuse what does not go with a key that a recipe has, each by name.

    Args:
        args: The recipe's keys.
        chosen: That key, with its value where that matters.
        unfit: What does not go with it.

    Raises:
        FcitError: The sentence names both keys.
    """
    for key, (has, why) in unfit.items():
        if has(args):
            refuse(f"`{key}: {getattr(args, key)}` cannot be used with `{chosen}`: it {why}. Change one of them.")


@contextlib.contextmanager
def all_reasons() -> Iterator[None]:
    """Within the block reasons are kept; what raises one ends it, for what follows depends on that.

    Raises:
        FcitError: There was a reason; the message has them all.
    """
    kept: list[str] = []
    token = _KEPT.set(kept)
    try:
        yield
    except ValueError as error:  # LLaMA-Factory's and transformers' own say what is wrong, too
        found = _reasons_of(error)
        if not kept:
            raise
        raise _refusal([*kept, *found]) from error
    finally:
        _KEPT.reset(token)
    if kept:
        raise _refusal(kept)


@contextlib.contextmanager
def going_on() -> Iterator[None]:
    """Within :func:`all_reasons`: what the block refuses is kept, and what stands behind the block is looked at too.

    Raises:
        FcitError: Nobody collects reasons.
    """
    try:
        yield
    except FcitError as error:
        if _KEPT.get() is None:
            raise
        for reason in _reasons_of(error):
            refuse(reason)


def _reasons_of(error: ValueError) -> Sequence[str]:
    if isinstance(error, Refusal):
        return error.reasons
    line = one_line(error)
    return [line if line[-1] in ".?!)" else f"{line}."]
