"""``fcit-cli report``: several runs side by side."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from .command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="output_dir of a run, or its fcit_report.json")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for table.md, table.csv, table.tex and pictures (PNG, PDF)"
    )
    parser.add_argument(
        "--html",
        action="store_true",
        help="write fcit_report.html, one page for the browser: of one run beside its report, of several here (or to --out)",
    )


def _run(args: argparse.Namespace) -> None:
    from ..evaluation.report import Report, report_file
    from ..evaluation.side_by_side import compare, render
    from ..evaluation.tables import plain
    from ..folders import check_folder_place

    if args.out:
        check_folder_place(args.out, "--out")
    paths = {os.path.realpath(report_file(path)): path for path in args.runs}  # a run that is named twice counts once
    comparisons = compare({name: Report.read(name) for name in paths.values()})
    print(render(comparisons, plain))
    if args.out:
        _write(comparisons, args.out)
        print(f"\nWritten to {args.out}.")
    if args.html:
        from ..state.pages import write_page

        beside = next(iter(paths)) if len(paths) == 1 else ""
        written = write_page({name: name for name in paths.values()}, args.out or os.path.dirname(beside) or ".")
        print(f"\nOpen {written} in a browser.")


def _write(comparisons: Sequence, folder: Path) -> None:
    from ..evaluation.latex import latex
    from ..evaluation.side_by_side import render, write_csv
    from ..evaluation.side_by_side_plots import plot_curves, plot_finals
    from ..evaluation.tables import markdown
    from ..files import write_text

    write_text(folder / "table.md", render(comparisons, markdown) + "\n")
    write_csv(comparisons, folder / "table.csv")
    write_text(folder / "table.tex", latex(comparisons))
    for number, comparison in enumerate(comparisons):
        if all(report.last is None for group in comparison.groups for report in group.reports):
            continue
        suffix = f"_{number + 1}" if len(comparisons) > 1 else ""
        for kind in ("png", "pdf"):
            plot_curves(comparison, folder / f"curves{suffix}.{kind}")
            plot_finals(comparison, folder / f"final_scores{suffix}.{kind}")


REPORT = Command("report", "put runs side by side: tables, and curves over stages", _add_arguments, _run)
