"""What an entry's ``split`` takes of the records of its files, such as ``train[5:]`` or ``train[:10%]+train[90%:]``."""

import re
from functools import cache
from itertools import pairwise

import numpy as np

_NAME = re.compile(r"\w+(?:\.\w+)*")


def is_part(split: str | None) -> bool:
    """Whether it may take other records than all of them as they stand."""
    return split is not None and ("[" in split or "+" in split)


def _ranges(split: str, total: int) -> list[tuple[str, int, int]]:
    from datasets import ReadInstruction

    names = {found.group() for part in split.split("+") if (found := _NAME.match(part.strip()))}
    found = ReadInstruction.from_spec(split).to_absolute(dict.fromkeys(names, total))
    return [(one.splitname, one.from_ or 0, total if one.to is None else one.to) for one in found]


def numbers_of(split: str | None, total: int) -> np.ndarray:
    """The records that a split takes, int64, in its order; those of a file, all of which are called train.

    Args:
        split: The entry's ``split``; None for all.
        total: How many records there are.

    Raises:
        ValueError: There is no such split.
    """
    if split in (None, "train", "all"):
        return np.arange(total)
    assert split is not None
    found = _ranges(split, total)
    if other := [name for name, *_ in found if name not in ("train", "all")]:
        raise ValueError(f"there is no {other[0]!r}, only 'train'")
    return np.concatenate([np.arange(begin, end) for _, begin, end in found])


@cache
def overlaps(split: str) -> bool:
    """Whether a split takes a record twice, as far as can be told without the records."""
    if "+" not in split:
        return False
    try:
        found = sorted(_ranges(split, 1_000_000))
    except (ValueError, AssertionError):  # whoever reads it says so
        return False
    return any(name == after and begin < end for (name, _, end), (after, begin, _) in pairwise(found))
