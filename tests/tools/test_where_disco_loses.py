"""tools/where_disco_loses.py: the parts of a finished run's loss add up, and are none where routing is right."""

import runpy
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from runs import report_of, run_recipe

SCRIPT = Path(__file__).parents[2] / "tools" / "where_disco_loses.py"


@pytest.fixture
def looked_at(tmp_path, monkeypatch, capsys):
    """Runs the script on a recipe's output; gives the rows of its tables."""

    def look(keys):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(keys), encoding="utf-8")
        monkeypatch.syspath_prepend(SCRIPT.parent)  # as it is where a script is run
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(recipe), "--out", str(tmp_path / "cosines")])
        capsys.readouterr()
        runpy.run_path(str(SCRIPT), run_name="__main__")
        lines = capsys.readouterr().out.splitlines()
        return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]

    return look


def test_the_parts_of_each_data_set_add_up_to_what_it_has_when_told_the_task(looked_at, text_keys, text_run, tmp_path):
    rows = looked_at(text_keys)
    report, found = report_of(text_run), {row[0]: row for row in rows[2:-1]}
    assert list(found) == report["datasets"]
    for name, last in zip(report["datasets"], report["accuracy"][-1], strict=True):
        as_run, interference, routing, told, forgotten = map(float, found[name][3:8])
        assert as_run == pytest.approx(last, abs=0.01), "what the run itself has measured"
        assert as_run + interference + routing == pytest.approx(told, abs=0.02)
        first = next(
            row[report["datasets"].index(name)] for row in report["accuracy"] if row[report["datasets"].index(name)] is not None
        )
        assert forgotten == pytest.approx(first - last, abs=0.01)
    assert Image.open(tmp_path / "cosines.png").width > 300


def test_of_a_disco_plus_run_each_part_is_measured_alone(looked_at, llava_recipe):
    """Both parts together are the run; neither of them is what `disco` makes of the same training."""
    keys = {"freeze_multi_modal_projector": False, "learning_rate": 0.1, "fcit_zero_shot": False, "fcit_eval_restricted": False}
    runs = {name: llava_recipe(name, fcit_method=name, **keys) for name in ("disco", "disco_plus")}
    last = {name: report_of(run_recipe(recipe)) for name, recipe in runs.items()}
    rows = looked_at(runs["disco_plus"])
    parts = rows[[row[1] for row in rows].index("disco") :]
    assert parts[0] == ["dataset", "disco", "with kinds", "with projectors", "disco_plus"]
    for row, disco, plus in zip(parts[2:-1], *(last[name]["accuracy"][-1] for name in runs), strict=True):
        assert (float(row[1]), float(row[4])) == pytest.approx((disco, plus), abs=0.01)
