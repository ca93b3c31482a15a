"""``fcit-cli join``: one output folder out of two."""

import argparse
from pathlib import Path

from .command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", type=Path, metavar="RUN", help="output_dir of a run")
    parser.add_argument("second", type=Path, metavar="OTHER", help="output_dir of another run on the same base model")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--threshold", type=float, metavar="X", help="cosine from which two subspaces are of one kind (default: RUN's own)"
    )


def _run(args: argparse.Namespace) -> None:
    from ..errors import FcitError
    from ..serving.join import join_folders

    if args.first.resolve() == args.second.resolve():
        raise FcitError(f"{args.first} and {args.second} are one run, whose counts would be twice what they are; name another.")
    joined = join_folders(args.first, args.second, args.out, args.threshold)
    for j, place in enumerate(joined.places):
        tasks = ", ".join(joined.state.tasks[place])
        what = "merged into" if place < joined.num_first else "kept as"
        print(f"Subspace {j} of {args.second}: {what} {place} ({tasks}).")
    if joined.state.projectors:
        print("Subspaces that were merged have the mean of their projectors, the others their own.")
    elif joined.state.shared:
        print(
            "The projector is the mean of both runs' by their counts. Each run's subspaces were trained with its own: "
            "evaluate before you rely on it."
        )
    print(f"{len(joined.state.subspaces)} subspaces written to {args.out}.")


JOIN = Command("join", "one output folder out of two runs on one base model", _add_arguments, _run)
