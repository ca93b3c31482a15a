"""tools/transfer_matrix.py: without a learning rate a start is what it was, so cells are what the run itself has measured."""

import runpy
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from runs import report_of, run_recipe

from fcit_plugin.errors import FcitError

SCRIPT = Path(__file__).parents[2] / "tools" / "transfer_matrix.py"


@pytest.fixture
def tables(tmp_path, monkeypatch, capsys):
    """Runs the script on a recipe's output; gives the rows of its two tables."""

    def look(keys, *more):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(keys), encoding="utf-8")
        monkeypatch.syspath_prepend(SCRIPT.parent)  # as it is where a script is run
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(recipe), "--steps", "2", "--out", str(tmp_path / "matrix"), *more])
        capsys.readouterr()
        runpy.run_path(str(SCRIPT), run_name="__main__")
        lines = capsys.readouterr().out.splitlines()
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
        second = next(number for number, row in enumerate(rows) if row[0].startswith("score"))
        return rows[:second], rows[second:]

    return look


def test_without_a_learning_rate_the_starts_are_answered_as_they_are(tables, text_keys, text_run, tmp_path):
    losses, scores = tables(text_keys | {"learning_rate": 0.0})
    report = report_of(text_run)
    assert losses[0][1:] == scores[0][1:] == report["datasets"], "a task of its own each"
    # a fresh subspace adds nothing: the untuned model
    for row, untuned in ((losses[2], report["likelihood_untuned"]), (scores[2], report["zero_shot"])):
        assert [float(cell) for cell in row[1:]] == pytest.approx([untuned[name] for name in report["datasets"]], abs=0.006)
    own = [[cell for cell in row[1:] if cell.startswith("(")] for row in losses[3:]]
    assert own == [[row[1 + k]] for k, row in enumerate(losses[3:])], "each subspace has a task of its own"
    # a subspace of the run is the run, told the task; here there is no projector, and routing is right
    for k, name in enumerate(report["datasets"]):
        gained = report["likelihood_untuned"][name] - report["likelihood"][-1][k]
        assert float(losses[3 + k][1 + k].strip("()")) == pytest.approx(gained, abs=0.02)
        gained = report["accuracy"][-1][k] - report["zero_shot"][name]
        assert float(scores[3 + k][1 + k].strip("()")) == pytest.approx(gained, abs=0.02)
    assert Image.open(tmp_path / "matrix.png").width > 300


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fcit_method": "sequential"}, "Each subspace of .* has learned every task"),
        ({"fcit_eval_likelihood": False}, "take the key out"),
    ],
)
def test_what_there_is_nothing_to_see_in_is_refused(changes, told, tables, text_recipe):
    keys = text_recipe("one", **changes)
    run_recipe(keys)
    with pytest.raises(FcitError, match=told):
        tables(keys)


def test_trained_starts_are_others(tables, text_keys, text_run):
    before = {path: path.read_bytes() for path in text_run.rglob("*") if path.is_file()}
    still, _ = tables(text_keys | {"learning_rate": 0.0})
    moved, _ = tables(text_keys | {"learning_rate": 0.1})
    assert all(one[1:] != other[1:] for one, other in zip(still[2:], moved[2:], strict=True))
    assert before == {path: path.read_bytes() for path in text_run.rglob("*") if path.is_file()}, "the run is left as it was"
