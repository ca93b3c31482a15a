"""Names come from anywhere, and each picture shows them letter for letter; one that fails takes nothing else with it."""

import io
import json
import logging
from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text
from reports import two_stages
from test_side_by_side import report

from fcit_plugin.errors import printable
from fcit_plugin.evaluation import report as report_module
from fcit_plugin.evaluation.matrix import AccuracyMatrix
from fcit_plugin.evaluation.pictures import NothingToDraw, is_drawn
from fcit_plugin.evaluation.plots import (
    plot_accuracy_matrices,
    plot_accuracy_matrix,
    plot_partition,
    plot_subspaces,
    training_loss,
)
from fcit_plugin.evaluation.report import PARTITION_PNG, REPORT_JSON, Report
from fcit_plugin.evaluation.side_by_side import MEASURES, side_by_side
from fcit_plugin.evaluation.side_by_side_plots import plot_bars, plot_curves, plot_finals, plot_matrices, plot_traffic

#: What means something to matplotlib, to TeX, to Python's formats or to a terminal, and what fonts lack.
NAMES = (
    *("$10%-$20% {}", "a$b_c_d$e {:.1f} %s", "${A}_${B}", r"$\frac$ \$5", "_hidden", "", "a\nb\tc\x00\x1b[31m", "\ud800"),
    *("\u202e中文客户 🙂 e\u0301", "$" + "x" * 300),
)


def groups(name):
    return side_by_side(name, {name: [report(name)], "other": [report("other")]})


def matrix(name):
    made = AccuracyMatrix()
    made.add(0, {name: 12.0})
    return made


#: Each picture there is, with a name in each place that one comes to, and whether it stands there whole.
PICTURES = {
    "matrix": lambda name, path: plot_accuracy_matrix(matrix(name), path, name),
    "matrices": lambda name, path: plot_accuracy_matrices({name: [[5.0]], "b": [[5.0]]}, [name], path, name),
    "subspaces": lambda name, path: plot_subspaces([{"task": name, "subspace": 0}], path, name),
    "partition": lambda name, path: plot_partition(
        [{"task": name, "dataset": f"{name}2", "records": [1, 2]}], path, name, [name, "b"], name
    ),
    "curves": lambda name, path: plot_curves(groups(name), path),
    "finals": lambda name, path: plot_finals(groups(name), path),
    "group matrices": lambda name, path: plot_matrices(groups(name), path),
    "bars": lambda name, path: plot_bars(groups(name), {name: MEASURES["Last"]}, path, name),
    "traffic": lambda name, path: plot_traffic(groups(name), path),
}


@pytest.fixture
def no_formulas(monkeypatch):
    """Nothing may be taken for a formula."""

    def parse(*args, **kwargs):
        raise AssertionError("a name was read as a formula")

    monkeypatch.setattr(MathTextParser, "parse", parse)


@pytest.mark.parametrize("picture", PICTURES)
def test_every_picture_takes_every_name_as_it_stands(picture, tmp_path, figures, no_formulas):
    for name in (*NAMES, "".join(NAMES)):
        kind = "png" if name in NAMES else "pdf"
        PICTURES[picture](name, tmp_path / f"p.{kind}")
        # what the renderer got: without line breaks, for long texts are wrapped, and cut where they are too long
        shown = ["".join(text.get_text().split()) for text in figures[-1].findobj(Text)]
        wanted = "".join(printable(name)[:40].split())
        assert any(wanted in text for text in shown), (name, shown)
        assert (tmp_path / f"p.{kind}").read_bytes()[:4] in (b"\x89PNG", b"%PDF")


@pytest.mark.parametrize("picture", ["curves", "finals", "bars", "traffic"])
def test_every_group_is_in_the_legend_whatever_it_is_called(picture, tmp_path, figures):
    for name in ("_hidden", "_child0", "", "$a$"):
        PICTURES[picture](name, tmp_path / "p.png")
        (legend,) = figures[-1].legends
        shown = [text.get_text().strip() for text in legend.get_texts()]
        assert name in shown


def test_a_figure_that_others_draw_has_no_formulas_either(no_formulas):
    figure = training_loss([], "a $b_c_d$ e")  # as the board shows it: not saved by us
    figure.savefig(io.BytesIO(), format="png")
    training_loss([{"step": 1, "stage": 0, "loss": 1.0}], "${A}_${B}").savefig(io.BytesIO(), format="svg")


def named_report():
    name = "${A}_${B}"
    share = {"task": name, "dataset": name, "records": [3, 4]}
    return replace(two_stages(), datasets=[name, "a$b_c_d$e"], partition=[share], client_names=["$10%-$20%", "b"])


def test_a_report_with_such_names_is_written_with_all_its_pictures(tmp_path, no_formulas, caplog):
    named_report().write(tmp_path)
    assert Report.read(tmp_path) == named_report()
    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert pictures == ["accuracy_matrix.png", "partition.png", "subspaces.png"] and not caplog.records


@pytest.mark.parametrize("failing", ["plot_accuracy_matrix", "plot_subspaces", "plot_partition"])
@pytest.mark.parametrize("error", [ValueError("a bad font"), RuntimeError("no"), MemoryError(), OSError(5, "I/O error")])
def test_a_picture_that_cannot_be_drawn_takes_nothing_else_with_it(failing, error, tmp_path, monkeypatch, caplog):
    two_stages().write(tmp_path / "whole")
    two_stages().write(tmp_path / "run")  # an earlier one, whose pictures may not stand beside new numbers

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(report_module, failing, fail)
    with caplog.at_level(logging.WARNING):
        replace(two_stages(), seed=4).write(tmp_path / "run")
    lost = {path.name for path in (tmp_path / "whole").iterdir()} - {path.name for path in (tmp_path / "run").iterdir()}
    assert len(lost) == 1 and lost.pop() in caplog.text
    assert json.loads((tmp_path / "run" / REPORT_JSON).read_text())["seed"] == 4


def test_what_is_half_drawn_leaves_no_file(tmp_path, monkeypatch):
    def savefig(figure, file, **how):
        file.write(b"half")
        raise ValueError("the rest fails")

    monkeypatch.setattr(Figure, "savefig", savefig)
    two_stages().write(tmp_path)
    assert not list(tmp_path.glob("*.png*")) and Report.read(tmp_path) == two_stages()


def test_an_empty_picture_and_one_that_fails_are_told_apart(tmp_path):
    with pytest.raises(NothingToDraw):
        plot_partition([], tmp_path / PARTITION_PNG)
    assert not is_drawn(lambda path: plot_partition([], path), tmp_path / PARTITION_PNG)
