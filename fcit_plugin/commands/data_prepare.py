"""``fcit-cli data prepare``: the released files as plain LLaMA-Factory datasets."""

import argparse
from pathlib import Path

from .command import Command
from .listing import add_root, defect_lines, root_of

#: Their files have other forms, and none of them needs to be another one for this plugin.
_OF_ANOTHER = (
    "`fcit-cli data prepare` converts the latter alone, and a recipe reads the others as they are, with `fcit_data_dir` at "
    "their root (docs/guide/benchmarks.md)"
)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_root(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--drop-broken", action="store_true", help="leave broken records out, and say which")


def _run(args: argparse.Namespace) -> int:
    from ..fcit_benchmark.benchmarks import choose
    from ..fcit_benchmark.prepare import prepare

    root = root_of(args)
    result = prepare(root, args.out, choose(args.datasets, of_another=_OF_ANOTHER), args.drop_broken)
    for line in defect_lines(result.defects):
        print(line)
    if not result.written:
        whole = sum(defect.record is None for defect in result.defects)
        advice = "fix or fetch the files above" if whole else "fix them, or leave them out with --drop-broken"
        print(f"{len(result.defects):,} defects; {advice}. Nothing was written.")
        return 1
    for file, records in result.dropped.items():
        print(f"Left out {len(records):,} of {file}: {', '.join(map(str, records))}.")
    print(f"{sum(result.written.values()):,} records in {len(result.written)} datasets written to {args.out}. In a recipe:")
    print(f"  dataset_dir: {args.out.absolute()}\n  media_dir: {root / 'datasets'}")
    return 0


DATA_PREPARE = Command(
    "data prepare",
    "convert the FCIT benchmark to plain LLaMA-Factory datasets",
    _add_arguments,
    _run,
)
