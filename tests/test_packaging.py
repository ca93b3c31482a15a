"""The built wheel holds what the checkout holds, and registers the plugin."""

import configparser
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from runs import ROOT

PACKAGE = ROOT / "fcit_plugin"
#: files beside the code that the plugin reads at run time
DATA = ["dataset_info/dataset_info.json", "knowledge/reference_instructions.txt"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel of a copy of the checkout, so that no build folder is left in it."""
    root = tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns(".git", ".*", "build", "dist", "*.egg-info", "__pycache__", "outputs", "saves")
    shutil.copytree(ROOT, root / "checkout", symlinks=True, ignore=ignore)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(root), "."]
    done = subprocess.run(command, cwd=root / "checkout", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = root.glob("fcit_plugin-*.whl")
    return zipfile.ZipFile(path)


def test_every_module_of_the_checkout_is_in_the_wheel(wheel):
    modules = {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*.py")}
    assert modules - set(wheel.namelist()) == set()


def test_the_data_files_are_in_the_wheel_as_files(wheel):
    base_model = [
        str(path.relative_to(PACKAGE)) for path in (PACKAGE / "samples" / "mini" / "base_model").glob("*") if path.is_file()
    ]
    for name in [*DATA, *base_model]:
        assert wheel.read(f"fcit_plugin/{name}") == (PACKAGE / name).read_bytes()


def test_the_wheel_holds_no_tests_and_stays_small(wheel):
    assert {Path(name).parts[0] for name in wheel.namelist() if ".dist-info/" not in name} == {"fcit_plugin"}
    assert sum(item.compress_size for item in wheel.infolist()) < 20e6


def test_the_wheel_registers_the_plugin_and_the_console_script(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    found = configparser.ConfigParser()
    found.read_string(wheel.read(name).decode())
    assert dict(found["torch.backends"]) == {"fcit_plugin": "fcit_plugin.autoload:autoload"}
    assert dict(found["console_scripts"]) == {"fcit-cli": "fcit_plugin.cli:main"}


def test_the_metadata_name_version_licence_and_bounds(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    lines = wheel.read(name).decode().splitlines()
    from fcit_plugin import __version__

    for line in ("Name: fcit-plugin", f"Version: {__version__}", "Requires-Python: >=3.11"):
        assert line in lines
    assert any(line.startswith("License") and "Apache-2.0" in line for line in lines)
    required = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    for part in ("llamafactory", "torch", "transformers", "peft", "trl", "datasets", "flwr", "pluggy", "wrapt"):
        assert any(line.startswith((f"{part}>", f"{part}<")) for line in required), part
    assert {line.split(": ")[1] for line in lines if line.startswith("Provides-Extra")} >= {"deepspeed", "ray", "dev"}
    assert any("llamafactory" in line and ">=0.9.5" in line for line in required)


def test_every_recipe_is_readable_and_names_an_fcit_stage_or_an_fcit_folder():
    import yaml

    from fcit_plugin.arguments import FCIT_STAGES, check_names

    recipes = sorted((ROOT / "recipes").glob("*.yaml"))
    assert recipes
    for path in recipes:
        keys = yaml.safe_load(path.read_text())
        assert keys.get("stage") in FCIT_STAGES or "adapter_name_or_path" in keys, path
        check_names([key for key in keys if key.startswith("fcit_")])
