"""LLaMA-Factory's keys that ask for evaluation: an fcit stage evaluates in its own way, and takes them as a wish for that."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..arguments import FcitArguments
from ..arguments.reasons import refuse

#: With the values that ask for nothing.
ASKING = {"do_eval": (False, None), "eval_strategy": ("no", None), "predict_with_generate": (False, None)}


def take_evaluation(recipe: dict[str, Any], fcit: FcitArguments) -> list[str]:
    """Take these keys out of a recipe; LLaMA-Factory would look for datasets of its Trainer's own evaluation.

    Args:
        recipe: LLaMA-Factory's keys; changed in place.
        fcit: Ours.

    Returns:
        Those that ask for evaluation.

    Raises:
        FcitError: One asks for what ``fcit_eval_every: never`` rules out.
    """
    asking = [key for key, nothing in ASKING.items() if recipe.pop(key, None) not in nothing]
    wants = [*asking, *(key for key in ("val_size", "eval_dataset") if recipe.get(key))]
    if wants and fcit.fcit_eval_every == "never":
        refuse(f"`{wants[0]}` asks for evaluation, and `fcit_eval_every: never` for none; take one of them out.")
    return asking


def notes(stage: str, asking: Iterable[str], ignored: Mapping[str, str], fcit: FcitArguments) -> list[str]:
    """What to say of keys that are taken in another way than LLaMA-Factory takes them.

    Args:
        stage: The fcit stage.
        asking: From :func:`take_evaluation`.
        ignored: From :func:`.theirs.without_effect`.
        fcit: Our keys.
    """
    found = []
    if stage != "fcit":
        ignored = {**ignored, **dict.fromkeys(asking, "it belongs to `stage: fcit`")}
    elif asking:
        when = "after the last stage" if fcit.fcit_eval_every == "last" else f"after every {fcit.fcit_eval_every}"
        when += " (`fcit_eval_every`)"
        found.append(f"{_listed(asking)}: test records are answered and scored {when}.")
    by_reason: dict[str, list[str]] = {}
    for key, reason in ignored.items():
        by_reason.setdefault(reason, []).append(key)
    if by_reason:
        found.append(
            "Without effect in this run: " + "; ".join(f"{_listed(keys)} ({why})" for why, keys in by_reason.items()) + "."
        )
    return found


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys)
