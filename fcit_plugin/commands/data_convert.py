"""``fcit-cli data convert``: a download of another benchmark, whose records are no dataset of LLaMA-Factory's, becomes one."""

import argparse
from pathlib import Path

from ..files import of_user
from .command import Command

TEXT15, FEDLLM = "text15", "fedllm"
"""What is converted, as ``--benchmark`` has it."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--benchmark", choices=(TEXT15, FEDLLM), required=True, help="whose files they are")
    parser.add_argument(
        "--from", dest="source", type=Path, required=True, metavar="DIR", help="your clone of its repository, with its data"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write, new or empty")
    parser.add_argument("--datasets", metavar="A,B", help="datasets, such as text15_yelp or fedllm_aya; default: all")


def _run(args: argparse.Namespace) -> None:
    from ..fcit_benchmark import fedllm, text15
    from ..fcit_benchmark.benchmarks import NOT_VERIFIED

    convert = {TEXT15: text15.convert, FEDLLM: fedllm.convert}[args.benchmark]
    done = convert(of_user(args.source), of_user(args.out), args.datasets)
    for file, count in done.written.items():
        print(f"{args.out / file}: {count:,} records")
    for note in done.notes:
        print(note)
    print("In a recipe:")
    for key, value in done.keys.items():
        print(f"  {key}: {value}")
    if args.benchmark == FEDLLM:
        print(f"What its files look like was read from {fedllm.CODE} ({fedllm.COMMIT}), {NOT_VERIFIED}.")


DATA_CONVERT = Command(
    "data convert",
    "turn a download of another benchmark into LLaMA-Factory's form",
    _add_arguments,
    _run,
)
