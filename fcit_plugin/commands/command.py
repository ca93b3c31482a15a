"""What a verb of ``fcit-cli`` is, and how a list of them becomes one argument parser."""

import argparse
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True)
class Command:
    """One verb.

    Attributes:
        name: One or two words, such as ``report`` or ``data mini``.
        help: What it does, in a few words.
        add_arguments: Adds its arguments to a parser.
        run: Does it. Returns the exit code, None for 0; what goes wrong is raised as ImportError, OSError or ValueError
            with a sentence for the user.
    """

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]

    def usage(self) -> str:
        """How it is called, on one line."""
        parser = argparse.ArgumentParser(prog=f"fcit-cli {self.name}", add_help=False)
        self.add_arguments(parser)
        return " ".join(parser.format_usage().split()).removeprefix("usage: ")


@dataclass(frozen=True)
class Theirs:
    """A verb of LLaMA-Factory's, which gets what is behind it.

    Attributes:
        name: The verb.
        arguments: How it is called.
        help: What it does, in a few words.
    """

    name: str
    help: str
    arguments: str = ""

    def usage(self) -> str:
        """How it is called, on one line."""
        return f"fcit-cli {self.name} {self.arguments}".strip()


@dataclass(frozen=True)
class Group:
    """Verbs for one purpose.

    Attributes:
        title: The purpose.
        verbs: They, in the order in which they are needed.
    """

    title: str
    verbs: Sequence[Command | Theirs]


def make_parser(commands: Iterable[Command]) -> argparse.ArgumentParser:
    """The parser of ``fcit-cli``; the namespace it gives has the :class:`Command` as ``command``.

    Args:
        commands: The verbs. Those of two words whose first is the same share a parser of that word; a verb of that word alone
            is what it does without a second.
    """
    commands = list(commands)
    alone = {command.name: command for command in commands if " " not in command.name}
    top = argparse.ArgumentParser(prog="fcit-cli")
    words = top.add_subparsers(metavar="verb", required=True)
    groups: dict[str, argparse._SubParsersAction] = {}
    for command in commands:
        first, _, second = command.name.partition(" ")
        if second and first not in groups:
            group = words.choices[first] if first in alone else words.add_parser(first, help=_seconds(commands, first))
            groups[first] = group.add_subparsers(metavar="what", required=first not in alone)
        parser = (groups[first] if second else words).add_parser(
            second or first, help=command.help, description=f"{command.help[0].upper()}{command.help[1:]}."
        )
        command.add_arguments(parser)
        parser.set_defaults(command=command)
    return top


def _seconds(commands: Iterable[Command], first: str) -> str:
    """What stands behind a first word."""
    names = (command.name.partition(" ")[2] for command in commands if command.name.startswith(f"{first} "))
    return ", ".join(names)


def usage_lines(calls: Iterable[tuple[str, str]], width: int = 100) -> list[str]:
    """How things are called and, on the lines below, what they do.

    Args:
        calls: Pairs of a call and its explanation.
        width: The most characters of a line.
    """
    wrap = partial(textwrap.wrap, width=width, break_long_words=False, break_on_hyphens=False)
    lines = []
    for call, text in calls:
        lines += wrap(call, initial_indent="  ", subsequent_indent=" " * 10)
        lines += wrap(text, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return lines
