"""What of the machine decides last digits: the kind of processor, how many, and the device."""

import os
import platform
from pathlib import Path

import torch

from .files import read_text

#: Where Linux describes its processors.
CPUINFO = Path("/proc/cpuinfo")


def machine(device: torch.device) -> str:
    """System, processors and device; runs whose machines read differently may differ in last digits.

    Args:
        device: What the run computes on.
    """
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors ({processor()}), {_name_of(device)}"


def processor(cpuinfo: Path = CPUINFO) -> str:
    """The kind of processor by all the names that it has, and the instructions that torch takes on it.

    Args:
        cpuinfo: File in Linux's format (https://docs.kernel.org/filesystems/proc.html); elsewhere there is none.
    """
    told = _first_of(read_text(cpuinfo)) if cpuinfo.exists() else {}
    name = told.get("model name") or platform.processor() or "of no known kind"
    numbers = [f"{label} {told[key]}" for key, label in (("cpu family", "family"), ("model", "model")) if key in told]
    return ", ".join([name, *numbers, torch.backends.cpu.get_cpu_capability()])


def _first_of(text: str) -> dict[str, str]:
    """What a file tells of the first processor."""
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
