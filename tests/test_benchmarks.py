"""The scripts in benchmarks/ run, in a tiny form, and print the figures that they are for. No time is asserted."""

import re
import subprocess
import sys

import pytest
from runs import ROOT

#: Script -> arguments of its tiny form, and what it must print.
TINY = {
    "activation": (["--sizes", "8x16", "--subspaces", "1", "4", "--repeats", "2"], r"8x16 +4 +prefill +[\d.]+ +[\d.]+ +2\.80"),
    "imports": (["--repeats", "1"], r"the plugin adds [\d.]+ ms[\s\S]*ratio with it [\d.]+"),
    "local_training": (["--steps", "1", "--repeats", "1"], r"fcit / plain: [\d.]+"),
}


@pytest.mark.parametrize("name", TINY)
def test_the_script_prints_its_figures(name):
    arguments, expected = TINY[name]
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(expected, done.stdout), done.stdout


def test_the_documents_name_every_script():
    text = (ROOT / "docs" / "performance.md").read_text()
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        assert path.name == "timing.py" or f"benchmarks/{path.name}" in text, path.name
