"""LLaMA-Factory's own view of a recipe: its classes of keys, its templates, and whether it and we take a recipe as a whole."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..autoload import autoload
from .theirs import NO_EFFECT, REFUSED, TABLE, without_effect


def classes() -> tuple[type, ...]:
    """LLaMA-Factory's argument classes of a training."""
    autoload()  # where PyTorch's own is switched off
    from llamafactory.hparams import parser

    found: tuple[type, ...] = tuple(parser._TRAIN_ARGS)
    return found


def template_of(model: str) -> str | None:
    """The chat template that LLaMA-Factory has for a model; None for one that it does not know.

    Args:
        model: Its name on a hub, or a folder with such a name.
    """
    from llamafactory.extras.constants import DEFAULT_TEMPLATE, SUPPORTED_MODELS

    name = Path(model).name.lower()
    for known, sources in SUPPORTED_MODELS.items():
        if any(name == path.rpartition("/")[2].lower() for path in sources.values()):
            return DEFAULT_TEMPLATE.get(known)
    return None


def left_out(keys: Mapping[str, Any], local_stage: str) -> dict[str, str]:
    """The keys of a recipe of LLaMA-Factory's that an fcit stage refuses, or that have no effect in it, and why.

    Args:
        keys: The recipe.
        local_stage: What trains a client.
    """
    rows = {name: row for part in TABLE.values() for name, row in part.items() if name in keys}
    gone = {name: row.words for name, row in rows.items() if row.status in (REFUSED, NO_EFFECT)}  # also at their defaults
    return {**gone, **without_effect(keys, classes(), "fcit", local_stage)}


def check_whole(keys: Mapping[str, Any]) -> None:
    """Refuse a recipe that LLaMA-Factory or we refuse before anything is loaded, as a dry run does.

    Args:
        keys: The recipe.

    Raises:
        FcitError: One sentence that names the key.
        ValueError: The same of LLaMA-Factory's.
    """
    classes()
    from llamafactory.hparams import get_train_args

    before = dict(os.environ)
    loggers = {name: logging.getLogger(name) for name in ("llamafactory", "transformers")}
    levels = {name: found.level for name, found in loggers.items()}
    for found in loggers.values():
        found.setLevel(logging.ERROR)  # what a run says of its keys, it says when it runs
    try:
        get_train_args({**keys, "fcit_dry_run": True})
    finally:
        for name, found in loggers.items():
            found.setLevel(levels[name])
        os.environ.clear()
        os.environ.update(before)  # LLaMA-Factory and the Trainer leave marks in it
