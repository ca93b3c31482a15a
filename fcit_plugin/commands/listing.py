"""Defects of the benchmark as lines for the terminal, and the arguments of the verbs that read it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import printable
from ..files import of_user

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from ..fcit_benchmark.records import Defect


def add_root(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of every verb that reads the benchmark."""
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="root of the benchmark (instructions/ and datasets/); default: FCIT_DATA_DIR, else FCIT-mini",
    )
    parser.add_argument("--datasets", metavar="A,B", help="datasets, such as fcit_arxivqa; default: all")


def root_of(args: argparse.Namespace) -> Path:
    """The root that ``--root`` names, else the default one."""
    from ..data.root import benchmark_root

    return of_user(args.root).absolute() if args.root else benchmark_root()


def plain_console(width: int | None, soft_wrap: bool = False) -> "Console":
    """A terminal on which names stand as they are: a `[` in one begins no style, and `:car:` is no picture.

    Args:
        width: Characters a line; None for the terminal's.
        soft_wrap: Leave it to the terminal to break lines.
    """
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False, width=width, soft_wrap=soft_wrap)


def plain_table(title: str) -> "Table":
    """A table without columns, under a title on one line, however narrow the table is."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    one_line = Text(printable(title), "table.title", no_wrap=True, overflow="ignore")
    return Table(box=SIMPLE_HEAD, pad_edge=False, title=one_line, title_justify="left")


def defect_lines(defects: "Sequence[Defect]", show: int | None = None) -> list[str]:
    """A line for each defect.

    Args:
        defects: The defects.
        show: How many of a kind to show for each file; a line more says how many there are.
    """
    groups: dict[tuple[str, str], list[Defect]] = {}
    for defect in defects:
        groups.setdefault((defect.file, defect.kind), []).append(defect)
    lines = []
    for (file, kind), members in groups.items():
        lines += [str(defect) for defect in members[:show]]
        if show is not None and len(members) > show:
            lines.append(f"{file}: {len(members) - show:,} more of the kind `{kind}` (`--show N`, `--json FILE`).")
    return lines
