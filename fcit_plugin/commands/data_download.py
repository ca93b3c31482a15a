"""``fcit-cli data download``: instructions and partitions from the Hugging Face hub."""

import argparse
from pathlib import Path

from ..errors import FcitError
from ..files import of_user
from .command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="root of the benchmark to fill")
    parser.add_argument(
        "--parts",
        default="instructions",
        metavar="A,B",
        help="instructions, partitioned_data, or both with a comma (default: instructions)",
    )


def _run(args: argparse.Namespace) -> None:
    from ..fcit_benchmark.hub import PARTS, download

    parts = args.parts.split(",")
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise FcitError(f"`--parts` has no `{unknown[0]}`; it takes {' and '.join(PARTS)}.")
    fetched = download(of_user(args.root).absolute(), parts)
    for part in sorted(fetched.new.keys() | fetched.kept.keys()):
        print(f"{args.root / part}: {fetched.new[part]:,} files written, {fetched.kept[part]:,} were there and stay.")
    if fetched.unknown:
        print(f"{len(fetched.unknown):,} files have no place in the benchmark: {', '.join(fetched.unknown[:5])} ...")
    for part in parts:
        fetched.require(part)
    print("Images come from their own sources; `fcit-cli data verify` names them.")


DATA_DOWNLOAD = Command(
    "data download",
    "fetch instructions and partitions from the hub",
    _add_arguments,
    _run,
)
