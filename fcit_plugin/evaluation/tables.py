"""Rows of text cells as a table for the terminal and in Markdown."""

import re
from collections.abc import Sequence

from ..errors import printable

Rows = Sequence[Sequence[str]]


def align(rows: Rows, *, numbers: bool = False) -> list[str]:
    """Return lines of columns that are two spaces apart, each as wide as its widest cell.

    Args:
        rows: cells, the same number in each row.
        numbers: pad all but the first column at the left; else all at the right, but for the end of a line.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if not numbers:
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    first, *others = widths
    return [
        "  ".join([name.ljust(first), *(cell.rjust(width) for cell, width in zip(cells, others, strict=True))])
        for name, *cells in rows
    ]


def plain(rows: Rows) -> str:
    """Return a table of numbers for the terminal, the header row first and a line under it."""
    header, *lines = align(rows, numbers=True)
    return "\n".join([header, "-" * len(header), *lines])


def markdown(rows: Rows) -> str:
    """Return a Markdown table, header row first, the first column to the left and the others to the right."""
    rows = [[escaped(cell) for cell in row] for row in rows]
    rule = ["---", *["---:"] * (len(rows[0]) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]])


#: What means something in Markdown or HTML within a line, and what makes a link of an address. An underscore within a word
#: is only an underscore.
_MEANS_SOMETHING = re.compile(r"[&<>|`*\\\[\]~$@]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|\.(?<=www\.)", re.IGNORECASE)


#: What makes a heading, a list or a rule of a line that begins with it.
_BEGINS_SOMETHING = re.compile(r"^(\d*)([#.)+=-])")


def escaped(text: str) -> str:
    """A text within a line of Markdown, in a cell of a table or elsewhere: it shows as it is and does nothing.

    Entities are used, for Markdown has several dialects of what a backslash does, above all in tables.
    """
    return _inert(_in_one_line(text))


def code(text: str) -> str:
    """A text as code on one line of Markdown, not in a table: between more backticks than it has in a row itself."""
    line = _in_one_line(text) or " "
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if "`" in (line[0], line[-1]) else ""
    return f"{fence}{space}{line}{space}{fence}"


def prose(text: str) -> str:
    """A sentence as a line of Markdown: what it has between backticks is code, all else shows as it is and does nothing."""
    pieces = _in_one_line(text).split("`")
    if len(pieces) % 2:
        line = "".join(
            (code(piece) if piece.strip() else _inert(f"`{piece}`")) if i % 2 else _inert(piece)
            for i, piece in enumerate(pieces)
        )
    else:  # one of them belongs to a name
        line = escaped(text)
    return _BEGINS_SOMETHING.sub(lambda found: f"{found[1]}&#{ord(found[2])};", line)


def _in_one_line(text: str) -> str:
    return " ".join(printable(text).split())


def _inert(line: str) -> str:
    return _MEANS_SOMETHING.sub(lambda found: "".join(f"&#{ord(letter)};" for letter in found[0]), line)
