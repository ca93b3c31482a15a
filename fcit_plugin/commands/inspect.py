"""``fcit-cli inspect OUTPUT_DIR``: what a run holds, and whether its files are right."""

import argparse
from pathlib import Path

from .command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output_dir", type=Path, metavar="OUTPUT_DIR", help="output folder of a run")


def _run(args: argparse.Namespace) -> int:
    from ..state.inspection import inspect

    found = inspect(args.output_dir)
    print("\n".join(found.lines))
    return 1 if found.corrupt else 0


INSPECT = Command("inspect", "show what a run holds and check its sums", _add_arguments, _run)
