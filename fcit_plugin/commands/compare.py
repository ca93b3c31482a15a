"""``fcit-cli compare``: a grid of runs, and the document that puts them side by side."""

import argparse
import signal
import sys
from pathlib import Path

from ..errors import FcitError
from .command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("grid", type=Path, metavar="GRID", help="grid file, such as recipes/compare/mini.yaml")
    parser.add_argument(
        "--only", action="append", default=[], metavar="PATTERN", help="run cells whose name has a part like this"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes at a time (default: the grid's, or the cores there are)"
    )
    parser.add_argument(
        "--from",
        dest="given",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="results files, such as results/mini.jsonl: the runs in them count as finished",
    )
    parser.add_argument(
        "--to",
        type=Path,
        metavar="FILE",
        help="put each run that has ended into a results file at once, a line a run; those in it by then count as finished",
    )
    parser.add_argument("--overwrite", action="store_true", help="run cells again that were made from other keys")
    parser.add_argument("--paper", type=Path, metavar="DIR", help="write tables as CSV and LaTeX, pictures as PDF there")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="check the keys of the cells that are to run, list all and stop")
    what.add_argument("--report-only", action="store_true", help="write the document from what is there")


def _run(args: argparse.Namespace) -> int:
    from ..compare.document import write_document, write_for_paper
    from ..compare.grid_file import Cell, GridFile, choose_cells
    from ..compare.results import Results, write_runs
    from ..compare.runner import check_cells, run_cells
    from ..evaluation.report import Report
    from ..folders import check_file_place, check_folder_place

    if args.jobs is not None and args.jobs < 1:
        raise FcitError(f"`--jobs {args.jobs}`: it takes at least one process.")
    if args.dry_run and (args.to or args.paper):
        raise FcitError("`--dry-run` writes nothing; leave out `--to` and `--paper`, or take `--report-only` in its place.")
    grid = GridFile(args.grid)
    if not args.dry_run:
        check_file_place(grid.document, "document")
        if args.to:
            check_file_place(args.to, "--to")
        if args.paper:
            check_folder_place(args.paper, "--paper")
    results = Results(grid, args.given, args.to)

    def keep(cell: Cell, report: Report) -> None:
        if args.to:
            write_runs(grid, {cell.name: report}, args.to)

    cells = choose_cells(grid.cells, args.only)
    if args.dry_run:
        states = {cell.name: results.state_of(cell) for cell in cells}
        check_cells(cells, lambda cell: states[cell.name])
        width = max(map(len, states))
        print("\n".join(f"{name:{width}}  {state.status.value}" for name, state in states.items()))
        print(f"{len(cells)} cells.")
        return 0
    failures = []
    if not args.report_only:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the processes end too
        failures = run_cells(grid, cells, args.jobs, args.overwrite, results.state_of, keep)
    reports = results.reports()
    missing = write_document(grid, reports, results.test_records())
    print(f"{len(grid.cells) - len(missing)} of {len(grid.cells)} cells are in {grid.document}.")
    if args.paper:
        print(f"{len(write_for_paper(grid, reports, args.paper))} tables and pictures for a paper are in {args.paper}.")
    if args.to:
        print(f"{args.to} has {write_runs(grid, reports, args.to, results.recipes())} runs.")
    for failure in failures:
        print(f"{failure.cell.name} {failure.reason}", file=sys.stderr)
    return 1 if failures else 0


COMPARE = Command(
    "compare",
    "run a grid of recipes and write the document that compares them",
    _add_arguments,
    _run,
)
