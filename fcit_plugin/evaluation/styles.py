"""How a method looks in pictures: one color and one marker, the same in all of them, which all kinds of eyes tell apart."""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..plugins import registry

# Okabe and Ito's colors, which all kinds of eyes tell apart, without their yellow, which is lost on white; markers say it
# once more
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#222222")
MARKERS = "osD^vPX"
#: What older reports call a method.
_OLD_NAMES = {"fedavg": "sequential"}
_PACKAGE = "fcit-plugin"
#: Bounds are gray.
_BOUNDS = {"zero_shot": "*", "local": "p", "centralized": "h", "centralized_equal": "<", "oracle": "d"}
_GRAY = "#777777"
#: Lines of one color in one picture: the first whole, the others broken.
_LINES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1)), (0, (6, 1, 1, 1, 1, 1)), (0, (2, 4)))


@dataclass(frozen=True)
class Style:
    """A look in one picture.

    Attributes:
        color: Of the method.
        marker: Of the method.
        number: How many of the same color and marker are before it in the picture; what has any is hollow and broken.
        bar: The same of the color alone, for bars have no marker.
    """

    color: str
    marker: str
    number: int = 0
    bar: int = 0

    @property
    def line(self) -> Any:
        """The kind of its line, as matplotlib has it."""
        return _LINES[self.number % len(_LINES)]

    @property
    def face(self) -> str:
        """What its markers are filled with."""
        return "white" if self.number else self.color

    @property
    def bar_face(self) -> str:
        """What its bars are filled with."""
        return "white" if self.bar else self.color

    @property
    def hatch(self) -> str | None:
        """What its bars are hatched with, from the third of a color on."""
        return None if self.bar < 2 else "/\\x-+."[self.bar % 6] * 3


def look_of(method: str) -> tuple[str, str]:
    """The color and the marker of a method or a bound: of ours by their order, of others by their name."""
    name, ours = _OLD_NAMES.get(method, method), _looks_of_ours()
    if name in _BOUNDS:
        return _GRAY, _BOUNDS[name]
    if name in ours:
        return ours[name]
    free = [(color, marker) for color in COLORS for marker in MARKERS if (color, marker) not in ours.values()]
    return free[zlib.crc32(name.encode(errors="replace")) % len(free)]


def _looks_of_ours() -> dict[str, tuple[str, str]]:
    """The looks of the methods that come with the plugin, in the order in which they are registered."""
    ours = [name for name, part in registry("methods").items() if part.package.split(" ")[0] == _PACKAGE]
    return {
        name: (COLORS[number % len(COLORS)], MARKERS[(number + number // len(COLORS)) % len(MARKERS)])
        for number, name in enumerate(ours)
    }


def styles(methods: Sequence[str]) -> list[Style]:
    """The looks of methods in one picture; what shares one there is told apart by its lines and by how it is filled.

    Args:
        methods: By name, several of one name if they are variants of it.
    """
    colors, found = Counter[str](), list[Style]()
    looks = [look_of(method) for method in methods]
    taken: set[tuple[str, str, int]] = set()
    for color, marker in looks:
        # when all lines of a look are in use, variants go on with markers that nothing else of the color has
        spare = [other for other in MARKERS if (color, other) not in looks]
        free = [(other, number) for other in (marker, *spare) for number in range(len(_LINES) + 1)]
        own = next((one for one in free if (color, *one) not in taken), (marker, len(taken)))
        taken.add((color, *own))
        found.append(Style(color, *own, colors[color]))
        colors[color] += 1
    return found
