"""``fcit-cli completion``: what a shell needs to complete verbs, flags and files."""

import argparse
from collections.abc import Callable, Iterable

from .command import Command, Theirs, make_parser

#: Shells that are served, and where the script goes.
SHELLS = {
    "bash": 'eval "$(fcit-cli completion bash)"   in ~/.bashrc',
    "zsh": "fcit-cli completion zsh > ~/.zfunc/_fcit-cli, where ~/.zfunc is in fpath before compinit runs",
    "tcsh": "fcit-cli completion tcsh > ~/.fcit-cli.csh, with `source ~/.fcit-cli.csh` in ~/.tcshrc",
}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    shells = "; ".join(f"{shell}: {where}" for shell, where in SHELLS.items())
    parser.add_argument("shell", choices=tuple(SHELLS), help=shells)


def completion(verbs: Callable[[], Iterable[Command | Theirs]]) -> Command:
    """The verb.

    Args:
        verbs: All that are completed.
    """

    def run(args: argparse.Namespace) -> None:
        import shtab

        def files(parser: argparse.ArgumentParser) -> None:
            parser.add_argument("files", nargs="*", metavar="FILE")

        commands = [
            verb if isinstance(verb, Command) else Command(verb.name, verb.help, files, lambda args: None) for verb in verbs()
        ]
        parser = make_parser(commands)
        _complete_files(parser, shtab.FILE)
        print(shtab.complete(parser, shell=args.shell))

    return Command("completion", "print what a shell needs to complete verbs, flags and files", _add_arguments, run)


def _complete_files(parser: argparse.ArgumentParser, how: object) -> None:
    """Let every argument that is a path, or LLaMA-Factory's own, be completed by files."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in dict.fromkeys(action.choices.values()):
                _complete_files(child, how)
        elif action.choices is None and action.nargs != 0 and action.metavar in _FILES:
            action.complete = how  # type: ignore[attr-defined]  # where shtab looks for it


#: How arguments are called that name a file or a folder.
_FILES = ("FILE", "DIR", "RUN", "OTHER", "OUTPUT_DIR", "GRID", "RECIPE", "RECIPE|KEY=VALUE", "SHARE|FILE", "TO")
