"""Roots of the benchmark to tell apart."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def roots(small_mini, tmp_path) -> tuple[Path, Path]:
    """Two roots of the benchmark, with one and with two records of ArxivQA alone, and FCIT-mini's images."""
    rows = json.loads((small_mini / "instructions/ArxivQA/train_4w.json").read_text())
    for name, count in (("one", 1), ("two", 2)):
        (tmp_path / name / "instructions/ArxivQA").mkdir(parents=True)
        (tmp_path / name / "instructions/ArxivQA/train_4w.json").write_text(json.dumps(rows[:count]))
        (tmp_path / name / "datasets").symlink_to(small_mini / "datasets")
    return tmp_path / "one", tmp_path / "two"
