"""Public instructions that ship with the package: what they share is what all instructions share; nothing is a client's."""

from collections.abc import Callable
from importlib.resources import files

#: What people say around an instruction.
_WRAPPERS: tuple[Callable[[str], str], ...] = (
    "Good morning! I have a little request, if I may: {} Many thanks in advance, and have a nice day!".format,
    "Hey, hope you're doing well. I was sitting here with my coffee and wondered... {} Would be great, cheers!".format,
    "Dear assistant, I am new here and not sure how this works. {} I would be very grateful for your help.".format,
    str.upper,
)


def _paragraphs(name: str) -> list[list[str]]:
    text = (files(__package__) / name).read_text(encoding="utf-8")
    return [part.splitlines() for part in text.strip().split("\n\n")]


def public_kinds() -> list[list[str]]:
    """Twenty kinds of instructions in five wordings each."""
    return _paragraphs("public_kinds.txt")


def wrapped_kinds() -> list[list[str]]:
    """The same, each wording also in three wrappers and in upper case: 25 texts a kind."""
    return [[*wordings, *(wrap(text) for text in wordings for wrap in _WRAPPERS)] for wordings in public_kinds()]


def public_pairs() -> list[list[str]]:
    """Twenty other instructions, each with one that asks for the same in other words."""
    return _paragraphs("public_pairs.txt")
