"""What becomes of one of LLaMA-Factory's keys in the fcit stages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

WORKS, REFUSED, NO_EFFECT = "works", "refused", "no effect"

#: The test of the keys that work without one of their own, and of those without effect.
LEARNED = "tests/recipe/test_theirs.py::test_a_client_learns_what_llamafactory_learns"
SAME = "tests/recipe/test_theirs.py::test_a_key_without_effect_changes_no_bit"
REFUSES = "tests/recipe/test_theirs.py::test_a_refused_key_is_named"


@dataclass(frozen=True)
class Row:
    """One key.

    Attributes:
        status: Works as in LLaMA-Factory's own LoRA tuning, is refused where it is not at its default, or has no effect.
        words: What it does here, why it is refused, or what takes its place; goes on after "`key`" or stands alone.
        value: Another value than its default, to prove it with; ``{tmp}`` is a folder.
        beside: Keys that this value needs beside it.
        test: What shows it.
    """

    status: str
    words: str
    value: Any = None
    beside: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    test: str = ""


Rows = dict[str, Row]


@dataclass(frozen=True)
class With:
    """A value that needs other keys beside it."""

    value: Any
    beside: Mapping[str, Any]


def beside(value: Any, **others: Any) -> With:
    """A value that needs other keys beside it."""
    return With(value, others)


def learned(words: str = "", **values: Any) -> Rows:
    """Keys with which a client learns, bit for bit, what LLaMA-Factory learns by itself."""
    return {key: _with_value(WORKS, words, value, LEARNED) for key, value in values.items()}


def shown(test: str, words: str, *keys: str) -> Rows:
    """Keys that work, which a test of their own shows."""
    return {key: Row(WORKS, words, test=f"tests/{test}") for key in keys}


def refused(words: str, *keys: str) -> Rows:
    """Keys that are refused.

    Args:
        words: Why, and what to do instead: goes on after "`key` cannot be used with the fcit stages: ".
        keys: Their names.
    """
    return {key: Row(REFUSED, words, test=REFUSES) for key in keys}


def refused_later(test: str, words: str, *keys: str) -> Rows:
    """Keys of which more than the recipe has to be known to refuse them; others do, and have a test of their own."""
    return {key: Row(REFUSED, words, test=f"tests/{test}") for key in keys}


def without_effect(words: str, **values: Any) -> Rows:
    """Keys that change no bit of what a run learns and reports.

    Args:
        words: What takes their place, or which command they are for.
        values: Another value than its default for each.
    """
    return {key: _with_value(NO_EFFECT, words, value, SAME) for key, value in values.items()}


def _with_value(status: str, words: str, value: Any, test: str) -> Row:
    if isinstance(value, With):
        return Row(status, words, value.value, value.beside, test)
    return Row(status, words, value, test=test)
