"""Pictures for a page: none is wider, PDF beside PNG, names of other scripts are drawn."""

import logging

import matplotlib as mpl
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from test_side_by_side import report

from fcit_plugin.evaluation import fonts
from fcit_plugin.evaluation.matrix import AccuracyMatrix
from fcit_plugin.evaluation.pictures import PAGE
from fcit_plugin.evaluation.plots import (
    plot_accuracy_matrices,
    plot_accuracy_matrix,
    plot_partition,
    plot_subspaces,
    plot_training_loss,
)
from fcit_plugin.evaluation.side_by_side import MEASURES, side_by_side
from fcit_plugin.evaluation.side_by_side_plots import plot_bars, plot_curves, plot_finals, plot_matrices, plot_traffic

LONG = "a dataset with a name that nobody would want to read on the axis of any picture"


def matrix(count, name=LONG):
    made = AccuracyMatrix()
    for stage in range(count):
        made.add(stage, {f"{name} {i}": 50.0 for i in range(stage + 1)})
    return made


def many(count=30):
    return side_by_side("custom", {f"{LONG} {i}": [report(f"method_{i}", a=(90, i), b=3 * i)] for i in range(count)})


#: Each picture there is, of more than fits on a page.
PICTURES = {
    "matrix": lambda path: plot_accuracy_matrix(matrix(22), path, LONG * 3),
    "matrices": lambda path: plot_accuracy_matrices(
        {LONG: matrix(9).rows, "b": matrix(9).rows}, matrix(9).datasets, path, LONG
    ),
    "subspaces": lambda path: plot_subspaces([{"task": f"{LONG} {i}", "subspace": i} for i in range(40)], path),
    "partition": lambda path: plot_partition([{"task": LONG, "dataset": f"{i}", "records": [i, 1]} for i in range(40)], path),
    "loss": lambda path: plot_training_loss([{"step": i, "loss": 1.0, "stage": i} for i in range(40)], path),
    "curves": lambda path: plot_curves(many(), path),
    "finals": lambda path: plot_finals(many(), path),
    "group matrices": lambda path: plot_matrices(many(3), path),
    "bars": lambda path: plot_bars(many(), {"Last": MEASURES["Last"]}, path, LONG),
    "traffic": lambda path: plot_traffic(many(), path),
}


@pytest.mark.parametrize("name", PICTURES)
def test_no_picture_is_wider_than_a_page(name, tmp_path, figures):
    PICTURES[name](tmp_path / "p.png")
    assert figures[-1].get_figwidth() <= PAGE
    image = mpl.image.imread(tmp_path / "p.png")
    assert image.shape[1] <= PAGE * 150
    assert image[:, [0, -1]].min() > 0.9, "something is cut off at the edge"


@pytest.mark.parametrize("name", ["matrix", "curves"])
def test_a_pdf_is_one_and_the_same_for_the_same_input(name, tmp_path):
    for number in (1, 2):
        PICTURES[name](tmp_path / f"{number}.pdf")
    one, two = ((tmp_path / f"{number}.pdf").read_bytes() for number in (1, 2))
    assert one == two and one.startswith(b"%PDF-") and b"CreationDate" not in one


@pytest.fixture
def wide_font(tmp_path):
    """A font of the family Noto Sans CJK SC whose only letter is a black square."""
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "doctor"])
    builder.setupCharacterMap({ord("医"): "doctor"})
    pen = TTGlyphPen(None)
    for step in ((0, 0), (0, 800), (800, 800), (800, 0)):
        (pen.moveTo if step == (0, 0) else pen.lineTo)(step)
    pen.closePath()
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "doctor": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "doctor": (1000, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Noto Sans CJK SC", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "wide.ttf")
    before = list(font_manager.fontManager.ttflist)
    font_manager.fontManager.addfont(tmp_path / "wide.ttf")
    yield
    font_manager.fontManager.ttflist[:] = before


def test_names_of_other_scripts_are_drawn_where_there_is_a_font(wide_font, tmp_path, caplog):
    fonts._tell_once.cache_clear()
    plot_accuracy_matrix(matrix(2, "医"), tmp_path / "there.png")
    plot_accuracy_matrix(matrix(2, "x"), tmp_path / "other.png")
    assert "Noto Sans CJK SC" in fonts.families() and not caplog.messages
    there, other = (mpl.image.imread(tmp_path / f"{name}.png")[..., :3] for name in ("there", "other"))
    assert (there < 0.3).all(axis=-1).sum() > (other < 0.3).all(axis=-1).sum() + 100, "the squares"


def test_without_one_it_is_said_once_what_to_install(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(fonts, "families", lambda: ["DejaVu Sans"])
    fonts._tell_once.cache_clear()
    with caplog.at_level(logging.WARNING, "fcit_plugin"):
        monkeypatch.setattr(logging.getLogger("fcit_plugin"), "parent", logging.getLogger())
        for _ in range(2):
            plot_accuracy_matrix(matrix(2, "医"), tmp_path / "p.png")
    assert len([text for text in caplog.messages if "fonts-noto-cjk" in text]) == 1


def test_fonts_are_nobody_elses_business(tmp_path):
    before = dict(mpl.rcParams)
    plot_accuracy_matrix(matrix(2), tmp_path / "p.png")
    assert dict(mpl.rcParams) == before and np.isfinite(PAGE)
