"""Makes checks, each in a process of its own with a time limit, and says how they went."""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from .. import __version__
from ..descendants import Descendants
from ..files import read_object
from .check import Check, Outcome

#: Of which the versions are told.
PACKAGES = ("torch", "transformers", "peft", "llamafactory", "accelerate", "deepspeed", "bitsandbytes", "flash-attn", "flwr")
#: File in a check's folder that says how it ended.
OUTCOME = "outcome.json"
#: Last lines of a check's output that are shown when it fails.
SHOWN = 12
#: How many times longer a check may take on a CPU.
_CPU_IS_SLOWER = 5


def machine(device: str) -> list[str]:
    """Card, driver and versions, a line each.

    Args:
        device: ``cuda`` or ``cpu``.
    """
    lines = [f"fcit-plugin {__version__}, Python {platform.python_version()}, {platform.platform()}"]
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"no {package}")
    if device == "cuda":
        for number in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(number)
            lines.append(f"GPU {number}: {card.name}, {card.total_memory / 2**30:.0f} GiB, {card.major}.{card.minor}")
        lines.append(f"driver {_driver()}, CUDA {torch.version.cuda}")
    else:
        lines.append(f"CPU, {len(os.sched_getaffinity(0))} cores")
    return [*lines, ", ".join(versions)]


def _driver() -> str:
    try:
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        told = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return "unknown (no nvidia-smi)"
    return told[0] if told else "unknown"


def limit_of(check: Check, device: str) -> float:
    """Seconds that a check may take; a CPU is given more."""
    return check.limit * (_CPU_IS_SLOWER if device == "cpu" else 1)


def make(
    check: Check,
    device: str,
    folder: Path,
    limit: float | None = None,
    program: Sequence[str] = (sys.executable, "-m", __package__),
) -> Outcome:
    """Make one check in a process of its own.

    Args:
        check: Which.
        device: ``cuda`` or ``cpu``.
        folder: Empty, for its files.
        limit: Seconds after which it is ended; None for its own.
        program: What makes it, which is told its name, the device and the folder.
    """
    if device == "cpu" and check.on_cpu is not None:
        return Outcome(check, "skipped", f"not on a CPU: {check.on_cpu}")
    if device == "cuda" and torch.cuda.device_count() < check.gpus:
        return Outcome(check, "skipped", f"it takes {check.gpus} GPUs")
    limit = limit or limit_of(check, device)
    start = time.monotonic()
    family = Descendants()
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*program, check.name, device, str(folder)],
            env=_environment(device, check.gpus) | family.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the terminal's signals are not for it
        )
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            return Outcome(check, "failed", f"not done after {limit:.0f} s", limit, _end_of(folder))
        finally:
            _end(process, family)
    seconds = time.monotonic() - start
    if not (folder / OUTCOME).exists():
        return Outcome(check, "failed", f"its process ended with {process.returncode}", seconds, _end_of(folder))
    told = read_object(folder / OUTCOME)
    return Outcome(check, told["word"], told["told"], seconds, _end_of(folder) if told["word"] == "failed" else [])


def _end(process: subprocess.Popen, family: Descendants) -> None:
    process.kill()
    family.end()
    process.wait()


def _end_of(folder: Path) -> list[str]:
    lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.rpartition("\r")[2] for line in lines if line.strip()][-SHOWN:]


def _environment(device: str, gpus: int) -> dict[str, str]:
    """As many GPUs as a check takes: with more, LLaMA-Factory would take them all."""
    own = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "MPLBACKEND": "Agg"}
    if device == "cuda":
        there = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
        own["CUDA_VISIBLE_DEVICES"] = ",".join(there.split(",")[:gpus])
        own["NVIDIA_TF32_OVERRIDE"] = "0"  # or convolutions of float32 would have ten bits
    else:
        own["CUDA_VISIBLE_DEVICES"] = ""
    return {**os.environ, **own}


def make_all(
    checks: Iterable[Check], device: str, told: Callable[[Outcome], None], seconds: float | None = None
) -> list[Outcome]:
    """Make checks, one after the other.

    Args:
        checks: Which.
        device: ``cuda`` or ``cpu``.
        told: Called with each outcome at once.
        seconds: What is left undone after this time is skipped; None: nothing is.
    """
    outcomes, start = [], time.monotonic()
    for check in checks:
        left = None if seconds is None else seconds - (time.monotonic() - start)
        if left is not None and left < 5:
            outcome = Outcome(check, "skipped", "no time was left (`--minutes`)")
        else:
            with tempfile.TemporaryDirectory(prefix="fcit-gpu-check-") as folder:
                limit = None if left is None else min(left, limit_of(check, device))
                outcome = make(check, device, Path(folder), limit)
        told(outcome)
        outcomes.append(outcome)
    return outcomes


def table(outcomes: Iterable[Outcome]) -> list[str]:
    """Outcomes as a Markdown table, a line each."""
    rows = ["| check | asserts | outcome | s | |", "|---|---|---|---:|---|"]
    for one in outcomes:
        told = " ".join(one.told.split()).replace("|", "/")
        rows.append(f"| {one.check.name} | {one.check.asserts} | {one.word} | {one.seconds:.0f} | {told} |")
    return rows
