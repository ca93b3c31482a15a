"""What the plugin adds to imports: ``python benchmarks/imports.py``.

At the end of ``import torch`` PyTorch looks for plugins, with or without ours, then loads and calls what it finds. The first
figure is the time of loading and calling ours, in fresh processes; the second compares ``llamafactory-cli version`` with
and without it.
"""

import argparse
import os
import shutil
import subprocess
import sys
from statistics import median

from timing import alternate, ratio

#: Prints the seconds of ``import torch`` without plugins, and those of ours.
STEP = """
import time
from importlib.metadata import entry_points
start = time.perf_counter()
import torch
middle = time.perf_counter()
(ours,) = (point for point in entry_points(group="torch.backends") if point.name == "fcit_plugin")
found = time.perf_counter()
ours.load()()
print(middle - start, time.perf_counter() - found)
"""


def run(command: list[str], autoload: bool) -> str:
    """The output of a command, with PyTorch's loading of plugins on or off."""
    env = {**os.environ, "TORCH_DEVICE_BACKEND_AUTOLOAD": "1" if autoload else "0"}
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    run([sys.executable, "-c", STEP], autoload=False)  # so that files are in the cache
    pairs = [map(float, run([sys.executable, "-c", STEP], autoload=False).split()) for _ in range(args.repeats)]
    torch, step = zip(*pairs, strict=True)
    print(f"import torch: {median(torch):.2f} s; the plugin adds {median(step) * 1e3:.1f} ms (goal: 10)")
    command = [shutil.which("llamafactory-cli") or "llamafactory-cli", "version"]
    calls = {"with": lambda: run(command, autoload=True), "without": lambda: run(command, autoload=False)}
    seconds = alternate(calls, args.repeats)
    found = ratio(seconds["with"], seconds["without"])
    print(f"llamafactory-cli version: {median(seconds['without']):.2f} s without the plugin, ratio with it {found:.3f}")


if __name__ == "__main__":
    main()
