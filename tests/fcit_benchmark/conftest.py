"""Copies of a small FCIT-mini to break."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def root(small_mini, tmp_path) -> Path:
    """A copy of it that a test may break."""
    return shutil.copytree(small_mini, tmp_path / "root")


@pytest.fixture
def edit(root) -> Callable[[str, Callable[[Any], Any]], None]:
    """Changes a JSON file of the copy in place."""

    def change(file: str, how: Callable[[Any], Any]) -> None:
        content = json.loads((root / file).read_text())
        how(content)
        (root / file).write_text(json.dumps(content))

    return change
