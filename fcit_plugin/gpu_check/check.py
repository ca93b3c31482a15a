"""What a check is, and how it ends."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bench import Bench


class NotHeldError(Exception):
    """What a check asserts does not hold; the sentence says what was found."""


class SkippedError(Exception):
    """A check has nothing to look at here; the sentence says why."""


@dataclass(frozen=True)
class Check:
    """One group of assertions.

    Attributes:
        name: By which it is asked for.
        asserts: What holds if it succeeds, as the end of a table's row.
        run: Does it, and returns figures worth telling, which may be empty. Raises :class:`NotHeldError` and
            :class:`SkippedError`.
        gpus: How many GPUs it takes; as many processes stand for them on the CPU.
        on_cpu: Why it says nothing on a CPU; None where it does.
        limit: Seconds after which it is ended.
    """

    name: str
    asserts: str
    run: "Callable[[Bench], str]"
    gpus: int = 1
    on_cpu: str | None = None
    limit: float = 240


@dataclass(frozen=True)
class Outcome:
    """How a check ended.

    Attributes:
        check: Which.
        word: held, failed or skipped.
        told: Figures, what did not hold, or why it was skipped.
        seconds: How long it took.
        log: The last lines of its output, of one that failed.
    """

    check: Check
    word: str
    told: str = ""
    seconds: float = 0.0
    log: list[str] = field(default_factory=list)


def hold(holds: bool, otherwise: str) -> None:
    """Assert something.

    Args:
        holds: Whether it is so.
        otherwise: What to say if it is not.

    Raises:
        NotHeldError: It is not.
    """
    if not holds:
        raise NotHeldError(otherwise)
