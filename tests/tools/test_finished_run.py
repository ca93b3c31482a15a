"""tools/finished_run.py: where pictures go."""

import runpy
from pathlib import Path

import pytest

png = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "finished_run.py"))["png"]


@pytest.mark.parametrize("name", ["a", "beta 0.5", "v1.2", "a.jpg", ".hidden", "a.png"])
def test_the_name_of_a_picture_keeps_its_dots(name):
    path = png(Path("folder") / name)
    assert path.parent == Path("folder") and path.name == f"{name.removesuffix('.png')}.png"
