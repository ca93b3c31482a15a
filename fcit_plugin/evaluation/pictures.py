"""The sheet that every picture is drawn on: names come from anywhere, so they stand there letter for letter."""

import contextlib
import logging
import math
from collections.abc import Callable, Iterable
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from ..errors import FcitError, printable, with_place
from ..files import write_bytes
from .fonts import with_all_letters

logger = logging.getLogger(__name__)

#: Inches of a page, on its side; no picture is wider.
PAGE = 11.0
#: Points of the smallest letters.
SMALLEST = 4.0
#: What would be another one each day.
_UNDATED: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "png": {"Software": None},
}


class NothingToDraw(FcitError):
    """A picture would be empty, for nothing of the kind was measured."""


class PlainFigure(Figure):
    """A figure in whose texts a `$` is a dollar and begins no formula, however it is drawn: saved, or shown by the board."""

    __module__ = Figure.__module__  # by which gradio knows a figure of matplotlib's

    def draw(self, renderer: RendererBase) -> None:
        """Draw it."""
        with with_all_letters(self):  # texts that come while it is drawn, such as those of ticks, are plain by it, too
            for text in self.findobj(Text):
                assert isinstance(text, Text)
                text.set_parse_math(False)
                text.set_text(printable(text.get_text()))  # no font takes half a letter; names of ticks come later
            super().draw(renderer)


def ticks(count: int, room: float, letters: int = 1, turned: bool = True) -> tuple[range, float]:
    """Which of many places along an axis are named, that no name lies on another, and the points of its letters.

    Args:
        count: How many places.
        room: Inches from one to the next.
        letters: Of the longest name.
        turned: Whether names lie side by side, such as slanted ones or those of rows; else one follows the other.
    """
    needed = 1.5 if turned else 0.65 * letters + 1.2  # in heights of a letter
    # numbers in a row are read from few; names that are left out are not known
    size = min(10.0, max(SMALLEST if turned else 2 * SMALLEST, 72 * room / needed))
    return range(0, count, max(1, math.ceil(needed * size / (72 * room) - 1e-9))), size


def tick_names(names: Iterable[str]) -> list[str]:
    """Return names as they can stand at ticks, where matplotlib takes them from each time; they leave room for the picture."""
    return [name if len(name) <= 48 else f"{name[:45]}..." for name in map(printable, names)]


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure of so many inches, no wider than a page, and its axes."""
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    figure = PlainFigure(figsize=(min(width, PAGE), height), dpi=150, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def save_figure(figure: Figure, path: str | PathLike[str]) -> None:
    """Write a picture that is the same for the same input: without date and version.

    Args:
        figure: the picture.
        path: of a file that ends in .pdf, or else of a PNG file.
    """
    kind, picture = "pdf" if str(path).endswith(".pdf") else "png", BytesIO()
    with with_all_letters(figure):
        figure.savefig(picture, format=kind, metadata=_UNDATED[kind])
    write_bytes(Path(path), picture.getvalue())


def is_drawn(draw: Callable[[Path], None], path: Path) -> bool:
    """Draw a picture that stands beside numbers: where it cannot be drawn that is told, and is no reason to lose those.

    Args:
        draw: Writes it to a path.
        path: Its file; one that is there from before goes where there is no new one.

    Returns:
        Whether it is there: not without anything to draw, either, which is no fault.
    """
    try:
        draw(path)
    except Exception as error:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        if not isinstance(error, NothingToDraw):
            logger.warning("%s could not be drawn (%s); all else is written.", path, with_place(error))
        return False
    return True
