"""``fcit-cli data verify``: what of the benchmark is there, what is missing, what is broken."""

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from .command import Command
from .listing import add_root, defect_lines, plain_console, plain_table, root_of

if TYPE_CHECKING:
    from rich.text import Text

    from ..fcit_benchmark.verify import DatasetReport, Report


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..fcit_benchmark.benchmarks import BENCHMARKS
    from ..fcit_benchmark.layout import IMAGES_HOW

    add_root(parser)
    parser.add_argument("--benchmark", choices=BENCHMARKS, default="fcit", help="whose root it is (default: fcit)")
    parser.add_argument(
        "--images",
        choices=IMAGES_HOW,
        default="first",
        help="all: read every image; first: read the first of each file, look that the others are there (default); none",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report with every defect to this file")
    parser.add_argument("--show", type=int, default=5, metavar="N", help="defects of a kind shown for each file (5)")


def _run(args: argparse.Namespace) -> int:
    from ..fcit_benchmark.benchmarks import BENCHMARKS, choose
    from ..fcit_benchmark.verify import verify
    from ..files import write_json
    from ..folders import check_file_place

    if args.json:
        check_file_place(args.json, "--json")
    benchmark = BENCHMARKS[args.benchmark]
    report = verify(root_of(args), choose(args.datasets, benchmark.name), args.images)
    if args.json:
        write_json(args.json, report.as_json())
    _print(report, args.show, benchmark.title)
    if benchmark.name != "fcit":
        print(benchmark.source)
    return 0 if report.green else 1


def _print(report: "Report", show: int, benchmark: str) -> None:
    table = plain_table(f"{benchmark} benchmark in {report.root}")
    table.add_column("dataset")
    for title in ("train", "test", "images"):
        table.add_column(title, justify="right")
    for title in ("partitions", "state"):
        table.add_column(title)
    for dataset in report.datasets:
        table.add_row(*_row(dataset))
    console = plain_console(None if sys.stdout.isatty() else 160, soft_wrap=True)
    console.print(table)
    defects = report.defects
    for line in defect_lines(defects, show):
        console.print(line)
    if defects:
        console.print()
    if report.green:
        total = sum(len(file.records) for dataset in report.datasets for file in (dataset.train, dataset.test))
        console.print(f"All green: {len(report.datasets)} datasets, {total:,} records.", style="green")
    else:
        kinds = Counter(defect.kind for defect in defects)
        counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
        console.print(f"{len(defects):,} defects: {counts}.", style="red")


def _row(dataset: "DatasetReport") -> "list[str | Text]":
    from rich.text import Text

    found = "not looked at" if dataset.images_found is None else f"{dataset.images_found:,} of {dataset.images:,}"
    betas: dict[str, set[str]] = {}
    for partition in dataset.partitions:
        betas.setdefault(partition.kind, set()).add(partition.beta)
    partitions = "; ".join(f"{kind} {', '.join(sorted(found))}" for kind, found in betas.items())
    count = len(dataset.defects)
    state = Text(f"{count:,} defect{'s' * (count != 1)}", "red") if count else Text("green", "green")
    return [dataset.layout.key, *(_count(f.records) for f in (dataset.train, dataset.test)), found, partitions or "-", state]


def _count(records: list) -> str:
    return f"{len(records):,}" if records else "-"


DATA_VERIFY = Command(
    "data verify",
    "check the FCIT benchmark, or another one, on disk: what is there, missing, broken",
    _add_arguments,
    _run,
)
