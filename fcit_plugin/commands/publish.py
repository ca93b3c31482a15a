"""``fcit-cli publish``: a folder to give away out of an output folder."""

import argparse
from pathlib import Path

from .command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="OUTPUT_FOLDER", help="output_dir of a finished run")
    parser.add_argument("--to", type=Path, metavar="DIR", help="folder to write (default: OUTPUT_FOLDER/published)")
    parser.add_argument("--model", metavar="NAME", help="what others call the base model (default: as the run names it)")
    parser.add_argument("--encoder", metavar="NAME", help="what others call a text encoder that the run names by its folder")


def _run(args: argparse.Namespace) -> None:
    from ..serving.publish import publish

    to = args.to or args.run / "published"
    publish(args.run, to, model=args.model, encoder=args.encoder)
    print(f"Written to {to}: what serving needs, and nothing of clients. The rest stays in {args.run}.")


PUBLISH = Command("publish", "write a folder to give away, without what clients told", _add_arguments, _run)
