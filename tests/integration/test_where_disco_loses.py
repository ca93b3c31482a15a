"""scripts/where_disco_loses.py: the parts of a finished run's loss add up, and are none where routing is right."""

import runpy
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from runs import report_of

SCRIPT = Path(__file__).parents[2] / "scripts" / "where_disco_loses.py"


@pytest.fixture
def printed(text_keys, text_run, tmp_path, monkeypatch, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(text_keys), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(recipe), "--out", str(tmp_path / "cosines")])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    return capsys.readouterr().out


def test_the_parts_of_each_data_set_add_up_to_what_it_has_when_told_the_task(printed, text_run, tmp_path):
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("|")]
    report, found = report_of(text_run), {row[0]: row for row in rows[2:-1]}
    assert list(found) == report["datasets"]
    for name, last in zip(report["datasets"], report["accuracy"][-1], strict=True):
        as_run, interference, routing, told, forgotten = map(float, found[name][3:8])
        assert as_run == pytest.approx(last, abs=0.01), "what the run itself has measured"
        assert as_run + interference + routing == pytest.approx(told, abs=0.02)
        first = next(row[report["datasets"].index(name)] for row in report["accuracy"] if row[report["datasets"].index(name)] is not None)
        assert forgotten == pytest.approx(first - last, abs=0.01)
    assert Image.open(tmp_path / "cosines.png").width > 300
