"""Writes four text-only datasets from the task generators of the PyPI package ``reasoning-gym`` (Apache-2.0, https://arxiv.org/abs/2505.24760)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...errors import FcitError
from ..write import write_lists
from .packages import require

#: By dataset: the generator, its settings, and what it asks for.
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "reasoning_family": ("family_relationships", {}),  # how two people are related: a word such as mother-in-law
    "reasoning_syllogism": ("syllogism", {}),  # whether a conclusion follows: Yes or No
    "reasoning_weekday": ("calendar_arithmetic", {"tasks": ["weekday_of_date"]}),  # the day of the week of a date
    "reasoning_letters": ("letter_counting", {"max_words": 8}),  # how often a letter occurs: a number
}

#: Questions to draw for each that is kept: generators repeat themselves.
_SPARE = 4


def prepare(out: Path, train: int = 640, test: int = 100, seed: int = 0) -> None:
    """Writes the datasets, as a user's own text data would stand; the same arguments give the same files.

    Args:
        out: Folder to write, to be used as ``dataset_dir``.
        train: Training records per dataset.
        test: Test records per dataset; none of their questions occurs in training.
        seed: Seed of the generators.

    Raises:
        MissingPackage: ``reasoning-gym`` is not installed.
        FcitError: A generator has not that many different questions, or something of another one is there.
    """
    require("reasoning_gym", "reasoning-gym")
    from reasoning_gym import create_dataset

    info, files = {}, {}
    for name, (generator, settings) in TASKS.items():
        # a generator's record i is drawn from its seed + i
        drawn = create_dataset(generator, seed=seed * 1_000_000, size=_SPARE * (train + test), **settings)
        records = _distinct(drawn, train + test, name)
        for entry, part in ((name, records[:train]), (f"{name}_test", records[train:])):
            info[entry], files[entry] = {"file_name": f"{entry}.json"}, part
    write_lists(Path(out), info, files)


def _distinct(drawn: Iterable[dict], count: int, name: str) -> list[dict[str, str]]:
    """The first records with questions that did not come before."""
    found: dict[str, str] = {}
    for record in drawn:
        found.setdefault(record["question"].strip(), record["answer"])
        if len(found) == count:
            return [{"instruction": question, "input": "", "output": answer} for question, answer in found.items()]
    raise FcitError(f"{count} questions of {name} were asked for, but only {len(found)} different ones were found.")
