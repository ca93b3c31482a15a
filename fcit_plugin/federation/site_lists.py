"""Sites that join a run while it goes on: from the next stage on; those that were there keep their numbers."""

from collections.abc import Sequence

from ..errors import FcitError


def clients_by_stage(lists: Sequence[Sequence[str]], names: Sequence[str]) -> dict[int, int]:
    """For each stage that a run has begun, how many sites there were then.

    Args:
        lists: Their names, by stage.
        names: The names that the recipe lists now.

    Raises:
        FcitError: These do not begin with the earlier ones; the sentence names the first that differs.
    """
    before = lists[-1] if lists else ()
    for number, name in enumerate(before):
        now = names[number] if number < len(names) else None
        if now != name:
            raise FcitError(
                f"Site {number} was {name} as this run began, and in `fcit_sites` it is {now or 'missing'}; the list only "
                "grows, at its end, and one that leaves is marked as removed."
            )
    return {stage: len(row) for stage, row in enumerate(lists)}
