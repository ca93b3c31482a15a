"""The wheel holds what the checkout holds and no more, and works where the checkout cannot be seen."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from runs import ROOT

from fcit_plugin import __version__

PACKAGE = ROOT / "fcit_plugin"
#: files beside the code that the plugin reads at run time
DATA = [
    "py.typed",
    "knowledge/reference_instructions.txt",
    *(str(path.relative_to(PACKAGE)) for path in (PACKAGE / "drafts" / "package_template").iterdir()),
]
#: folders at the top of the checkout that are in the package of the wheel
FOLDERS = ["dataset_info", "recipes"]

#: what an installed plugin says of itself, from where the checkout is not
ASK = """
import importlib.metadata, json, sys
import torch
import fcit_plugin
autoloaded = "fcit_plugin.autoload" in sys.modules
from fcit_plugin import plugins
from fcit_plugin.shipped import shipped
print(json.dumps({
    "version": importlib.metadata.version("fcit-plugin"),
    "autoloaded": autoloaded,
    "modules": sorted({module.__file__ for name, module in sys.modules.items() if name.startswith("fcit_plugin")}),
    "shipped": [str(shipped("recipes") / "fcit_mini_disco.yaml"), str(shipped("dataset_info") / "dataset_info.json")],
    "method": plugins.registry("methods")["disco"].load().__name__,
}))
"""


@pytest.fixture(scope="module")
def wheel_path(tmp_path_factory) -> Path:
    """The wheel of a copy of the checkout, so that no build folder is left in it."""
    root = tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "reports", "results", "saves")
    shutil.copytree(ROOT, root / "checkout", symlinks=True, ignore=ignore)
    run("wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", root, ".", cwd=root / "checkout")
    (path,) = root.glob("fcit_plugin-*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(wheel_path) -> zipfile.ZipFile:
    return zipfile.ZipFile(wheel_path)


@pytest.fixture(scope="module")
def installed(wheel_path, tmp_path_factory) -> Path:
    """A virtual environment with the wheel, which sees this environment's packages but for the checkout.

    A path that a .pth file names is searched, but .pth files in it, as an editable install leaves, are not obeyed.
    """
    venv = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(venv), "platbase": str(venv)}))
    (site / "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    run("--python", python, "install", "--no-deps", "--no-index", wheel_path)
    return python


def without_the_checkout() -> dict[str, str]:
    """An environment whose Python does not find the checkout, which may stand in PYTHONPATH."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}


def run(*arguments, cwd=None) -> None:
    """Runs pip."""
    command = [sys.executable, "-m", "pip", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=without_the_checkout(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def outside(folder: Path, *command) -> str:
    """What a command prints in a folder from which the checkout cannot be seen."""
    done = subprocess.run([*map(str, command)], cwd=folder, env=without_the_checkout(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_wheel_holds_every_file_of_the_checkout_that_it_needs(wheel):
    wanted = {path.relative_to(ROOT) for path in PACKAGE.rglob("*.py")}
    wanted |= {Path("fcit_plugin", name) for name in DATA}
    for folder in ("base_model", "templates"):
        wanted |= {path.relative_to(ROOT) for path in PACKAGE.rglob(f"{folder}/*") if path.is_file()}
    files = {str(path): ROOT / path for path in wanted}
    for folder in FOLDERS:
        paths = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
        assert paths
        files |= {f"fcit_plugin/{path.relative_to(ROOT)}": path for path in paths}
    assert not files.keys() - set(wheel.namelist())
    assert [name for name, path in files.items() if wheel.read(name) != path.read_bytes()] == []


def test_the_wheel_holds_nothing_else_and_stays_small(wheel):
    names = [Path(name) for name in wheel.namelist() if ".dist-info/" not in name]
    assert {name.parts[0] for name in names} == {"fcit_plugin"}
    assert not {"tests", "tools", "benchmarks", "__pycache__"} & {part for name in names for part in name.parts}
    assert sum(item.compress_size for item in wheel.infolist()) < 20e6


def test_the_wheel_registers_the_plugin_and_the_console_script(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    found = configparser.ConfigParser()
    found.read_string(wheel.read(name).decode())
    assert dict(found["torch.backends"]) == {"fcit_plugin": "fcit_plugin.autoload:autoload"}
    assert dict(found["fcit_plugin"]) == {"builtin": "fcit_plugin.builtin"}
    assert dict(found["console_scripts"]) == {"fcit-cli": "fcit_plugin.cli:main"}


def test_the_metadata_name_version_license_author_and_bounds(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    lines = wheel.read(name).decode().splitlines()
    for line in (
        "Name: fcit-plugin",
        f"Version: {__version__}",
        "Requires-Python: >=3.11",
        "Author: the fcit-plugin developers",
    ):
        assert line in lines
    assert any(line.startswith("License") and "Apache-2.0" in line for line in lines)
    required = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    for part in ("llamafactory", "torch", "transformers", "peft", "trl", "datasets", "flwr", "pluggy", "wrapt"):
        assert any(line.startswith((f"{part}>", f"{part}<")) for line in required), part
    assert {line.split(": ")[1] for line in lines if line.startswith("Provides-Extra")} >= {"deepspeed", "dev"}
    assert any("llamafactory" in line and ">=0.9.5" in line for line in required)


def test_the_newest_entry_of_the_changelog_is_of_this_version():
    newest = re.search(r"^## ([0-9.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest[1] == __version__


def test_an_installed_wheel_works_where_there_is_no_checkout(installed, tmp_path):
    told = json.loads(outside(tmp_path, installed, "-c", ASK).splitlines()[-1])
    assert told["version"] == __version__
    assert told["autoloaded"]
    home = str(installed.parents[1])
    assert [path for path in told["modules"] if not path.startswith(home)] == []
    assert all(path.startswith(home) and Path(path).is_file() for path in told["shipped"])
    assert told["method"] == "Disco"


def test_recipes_and_the_beginning_of_a_package_come_with_an_installed_wheel(installed, tmp_path):
    cli = installed.with_name("fcit-cli")
    assert "fcit_text_tiny" in outside(tmp_path, cli, "recipes")
    assert outside(tmp_path, cli, "recipes", "show", "fcit_text_tiny") == (ROOT / "recipes" / "fcit_text_tiny.yaml").read_text()
    outside(tmp_path, cli, "init", "--plugin", "gentle-pull")
    assert (tmp_path / "fcit-gentle-pull" / "fcit_gentle_pull" / "method.py").is_file()


def test_the_console_script_of_an_installed_wheel_answers(installed, tmp_path):
    shown = outside(tmp_path, installed.with_name("fcit-cli"), "help")
    assert shown.startswith("fcit-cli: federated continual instruction tuning") and "fcit-cli report" in shown
