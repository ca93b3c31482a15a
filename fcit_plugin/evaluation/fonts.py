"""Fonts of pictures: names in Chinese, Japanese and Korean are drawn where the machine has a font for them."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from functools import cache

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

logger = logging.getLogger(__name__)

#: Families that have these letters, those first that have most of them.
_WIDE = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK TC", "Noto Sans CJK KR", "Noto Sans SC", "Noto Sans JP"),
    *("Source Han Sans SC", "Source Han Sans", "Source Han Sans JP", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei"),
    *("Droid Sans Fallback", "IPAexGothic", "IPAGothic", "TakaoGothic", "VL Gothic", "Noto Serif CJK SC", "Noto Serif CJK JP"),
    *("Microsoft YaHei", "SimHei", "Yu Gothic", "Meiryo", "MS Gothic", "PingFang SC", "Hiragino Sans", "Arial Unicode MS"),
)
_MISSING = "missing from font(s)"


def families() -> list[str]:
    """The families that are drawn with: matplotlib's own first, so that nothing else looks different."""
    there = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _WIDE if name in there)]


@contextlib.contextmanager
def with_all_letters(figure: Figure) -> Iterator[None]:
    """Within the block a figure is drawn with all letters that the machine has; others are told of once.

    Args:
        figure: what is drawn. Its texts have matplotlib's generic family, of which only the first font is looked into.
    """
    names = families()
    with mpl.rc_context({"font.family": names, "text.parse_math": False}), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for text in figure.findobj(Text) if len(names) > 1 else ():
            text.set_fontfamily(names)
        yield
    others = [warning for warning in caught if _MISSING not in str(warning.message)]
    if len(others) < len(caught):
        _tell_once()
    for warning in others:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


@cache
def _tell_once() -> None:
    logger.warning(
        "Some letters of names are boxes in the pictures, for no font of this machine has them; install one, such as Debian's "
        "package fonts-noto-cjk, and remove matplotlib's font cache (%s).",
        mpl.get_cachedir(),
    )
