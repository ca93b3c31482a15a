"""What a report says of the machine: one kind of processor reads alike, another one does not."""

import os
import platform
import subprocess

import pytest
import torch

from fcit_plugin.machine import machine, processor

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8488C
flags\t\t: fpu vme

processor\t: 1
model\t\t: 999
"""
ARM = "processor\t: 0\nBogoMIPS\t: 2100.00\nCPU implementer\t: 0x41\n"


def capability():
    return torch.backends.cpu.get_cpu_capability()


@pytest.mark.parametrize(
    ("text", "expected"),
    [(X86, "Intel(R) Xeon(R) Platinum 8488C, family 6, model 143"), (ARM, None), ("", None), (None, None)],
)
def test_a_processor_has_its_first_ones_names_or_what_the_system_calls_it(tmp_path, text, expected):
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    assert processor(path) == f"{expected or platform.processor() or 'of no known kind'}, {capability()}"


@pytest.mark.parametrize("changed", [("model name", "Other"), ("cpu family", "7"), ("model\t", "144")])
def test_other_kinds_read_otherwise(tmp_path, changed):
    name, value = changed
    lines = [f"{name}: {value}" if line.startswith(name) else line for line in X86.splitlines()]
    for number, text in enumerate((X86, "\n".join(lines))):
        (tmp_path / str(number)).write_text(text)
    assert processor(tmp_path / "0") != processor(tmp_path / "1")


def test_this_machine_is_named_as_the_system_names_it():
    told = machine(torch.device("cpu"))
    assert told.startswith(f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors (")
    assert told.endswith(f"{capability()}), cpu")
    seen = subprocess.run(["lscpu"], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=True).stdout
    names = [line.partition(":")[2].strip() for line in seen.splitlines() if line.startswith("Model name:")]
    assert all(name in told for name in names)
