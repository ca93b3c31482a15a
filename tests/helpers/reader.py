"""One way in: how good files are made, and how they are read."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Reader:
    """One way in.

    Attributes:
        name: What it is called.
        make: Writes good files into a folder.
        read: Reads what is in the folder, and does with it what is done with it later; it raises FcitError, or returns the
            sentences on what is wrong.
        spoil: Patterns of the files that are spoilt; all of them if there are none.
        free: Patterns of the places (``file:key.key``) whose values may be anything.
        optional: Patterns of files that need not be there.
        unread: Patterns of files that it has no use for.
        takes: Files with ways to spoil them that it may take all the same.
        whole: Patterns of files that are named as a whole, without the place in them.
        own: The user names these files himself, so links in their place are his.
        names: What is named in place of the file, by pattern of the file.
        mend: Called when a file has been changed, to make sums right again.
        share: How many cases it takes in a turn: those that take long take fewer.
    """

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path], Iterable[str]]
    spoil: Sequence[str] = ("*",)
    free: Sequence[str] = ()
    optional: Sequence[str] = ()
    unread: Sequence[str] = ()
    takes: Sequence[tuple[str, str]] = ()
    whole: Sequence[str] = ()
    own: Sequence[str] = ()
    names: dict[str, str] = field(default_factory=dict)
    mend: Callable[[Path], None] = lambda folder: None
    share: int = 4
