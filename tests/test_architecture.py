"""What a newcomer may rely on: a method is named where it lives, files are short, no room holds the house."""

import re

import pytest
from runs import ROOT

from fcit_plugin.continual.methods import METHODS

PACKAGE = ROOT / "fcit_plugin"
#: Methods whose names are words of the language, or the default of a key.
WORDS = ("disco", "sequential", "replay")


def modules() -> dict[str, str]:
    """The text of every module of the package, by its path."""
    return {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}


@pytest.mark.parametrize("name", [name for name in METHODS if name not in WORDS])
def test_a_method_is_named_in_its_own_files_and_one_registration(name):
    word = re.compile(rf"\b{name}\b|\b{name.replace('_', '')}\b", re.IGNORECASE)
    found = {path for path, text in modules().items() if word.search(text)}
    own = METHODS[name].make.partition(":")[0].rpartition(".")[0].removeprefix("fcit_plugin.").replace(".", "/")
    checked = {path for path in found if path.startswith("gpu_check/")}  # recipes that are tried on a GPU
    assert {path for path in found - checked if not path.startswith(f"{own}/")} == {"continual/methods.py"}


def test_no_file_is_over_400_lines_and_no_room_over_18_percent():
    lines = {path: len(text.splitlines()) for path, text in modules().items()}
    assert {path: n for path, n in lines.items() if n > 400} == {}
    rooms: dict[str, int] = {}
    for path, n in lines.items():
        rooms[path.partition("/")[0]] = rooms.get(path.partition("/")[0], 0) + n
    total = sum(lines.values())
    assert {room: n / total for room, n in rooms.items() if n > 0.18 * total} == {}
