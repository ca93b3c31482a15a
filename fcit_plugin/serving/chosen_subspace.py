"""``/subspace``: what a user of ``llamafactory-cli chat`` types to choose who answers. No torch."""

from typing import Any

from ..errors import FcitError
from .asking import check_subspace, routing_of

#: The line that is no message to the model begins with it.
COMMAND = "/subspace"
#: After it: each message activates its own subspaces again.
AUTO = "auto"


class ChosenSubspace:
    """Which subspace a user has chosen by typing; it stays until another is chosen.

    Attributes:
        subspace: The one that is to answer alone; None for those that each message activates.
    """

    def __init__(self) -> None:
        self.subspace: int | None = None

    def take(self, line: str, model: Any) -> str | None:
        """Take a line that chooses.

        Args:
            line: As typed.
            model: The model that is talked to.

        Returns:
            What to tell the user of it; None of a line that is a message to the model, as all are to one without subspaces.
        """
        words, routing = line.split(), routing_of(model)
        if routing is None or words[:1] != [COMMAND]:
            return None
        if words[1:] == [AUTO]:
            self.subspace = None
            return "Each message activates its own subspaces."
        if len(words) == 2 and words[1].isdecimal() and len(words[1]) < 20:
            wanted = int(words[1])
            try:
                check_subspace(model, wanted)
            except FcitError as error:
                return str(error)
            self.subspace = wanted
            return f"Subspace {named(routing, wanted)} answers alone, until `{COMMAND} {AUTO}`."
        return help_of(model)


def help_of(model: Any) -> str:
    """What can be typed, with the subspaces that can answer."""
    routing = routing_of(model)
    known = ", ".join(named(routing, k) for k in routing.valid_subspaces)
    return (
        f"`{COMMAND} NUMBER` has one subspace answer alone, `{COMMAND} {AUTO}` those that each message activates; "
        f"those that can answer: {known or 'none'}."
    )


def named(routing: Any, k: int) -> str:
    """A subspace with what it was trained for."""
    tasks = ", ".join(routing.tasks[k])
    return f"{k} ({tasks})" if tasks else str(k)
