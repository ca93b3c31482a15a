"""Test sets of ``routing.py``: instructions of 42 kinds from ``benchmarks/routing/``, reworded, wrapped and misspelled."""

import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("routing")
GROUPS = ("mini", "reasoning", "everyday", "everyday2")
HALVES = ("development", "held_out")
TYPO_SHARE, TYPO_LETTERS = 0.3, 5


@dataclass(frozen=True)
class Case:
    """A question.

    Attributes:
        kind: Whose it is.
        turns: What the user has said, the question last.
    """

    kind: str
    turns: tuple[str, ...]


@cache
def kinds() -> dict[str, dict[str, Any]]:
    """What the files say on each kind, in their order."""
    return {name: about for group in GROUPS for name, about in _read(group).items()}


@cache
def _read(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def training() -> dict[str, list[str]]:
    """Kind -> its training instructions."""
    return {name: _filled(about["templates"], about["fill"]) for name, about in kinds().items()}


def test_sets(half: str) -> dict[str, list[Case]]:
    """Name of a set -> its questions.

    Args:
        half: One of ``HALVES``; ``own`` (new payloads in a kind's own templates) is the same in both.
    """
    wrappers = _read("wrappers")[half]
    reworded = [Case(name, (text,)) for name, about in kinds().items() for text in about[half]]
    first = wrappers["first turn"]
    own = {name: _filled(about["templates"], _read("own")[name]) for name, about in kinds().items()}
    sets = {
        "own": [Case(name, (text,)) for name, texts in own.items() for text in texts],
        "reworded": reworded,
        "typos": [Case(case.kind, (misspelled(case.turns[0]),)) for case in reworded],
        "polite": _wrapped(reworded, wrappers["polite"]),
        "preamble": _wrapped(reworded, wrappers["preamble"]),
        "follow-up": [Case(case.kind, (first[i % len(first)], *case.turns)) for i, case in enumerate(reworded)],
        "upper": [Case(case.kind, (case.turns[0].upper(),)) for case in reworded],
    }
    for language in ("german", "chinese"):
        known = [Case(name, (about[language],)) for name, about in kinds().items() if language in about]
        sets[language] = known[HALVES.index(half) :: 2]
    return sets


def misspelled(text: str) -> str:
    """The text with two neighbors swapped in some of its longer words; the same for the same text."""
    draw = random.Random(text)
    return " ".join(_swapped(word, draw) for word in text.split(" "))


def _swapped(word: str, draw: random.Random) -> str:
    if len(word) < TYPO_LETTERS or not word.isalpha() or draw.random() > TYPO_SHARE:
        return word
    at = draw.randrange(1, len(word) - 2)
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _filled(templates: list[str], rows: list[Any]) -> list[str]:
    texts = [form.format(*([row] if isinstance(row, str) else row)) for form in templates for row in rows]
    return list(dict.fromkeys(texts))


def _wrapped(cases: list[Case], frames: list[str]) -> list[Case]:
    return [Case(case.kind, (frame.format(case.turns[0]),)) for case in cases for frame in frames]
