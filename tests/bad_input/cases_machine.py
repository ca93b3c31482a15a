"""What the machine cannot give: packages, devices, a folder to write to, room on the disk."""

import ctypes
import resource
import subprocess
import sys
from functools import cache

import pytest
from bench import Bench, Case
from crashes import in_a_child

_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS of sched.h


def mount(options: str):
    """Sees to it that the child, and it alone, has a file system of its own in the place of the output folder."""

    def setup(b: Bench) -> None:
        _own_mounts()
        out = b.folder / "out"
        out.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(out)], check=True)

    return setup


def _own_mounts() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


@cache
def may_mount() -> bool:
    """Whether this user may give a child process its own mounts."""

    def mounts() -> None:
        _own_mounts()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=True, capture_output=True)

    return in_a_child(mounts) == 0


def needs_mounts(b: Bench) -> None:
    """Skips a case where that is not allowed; the case with a limit of file sizes is there instead."""
    if not may_mount():
        pytest.skip("this user may not mount")


def small_files(b: Bench) -> None:
    """No file of the child may grow beyond this size: a write fails half-way, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def without(*modules: str):
    """Hides packages from the child."""
    return lambda b: sys.modules.update(dict.fromkeys(modules))


CASES = [
    Case("a package that is not installed", ("liger-kernel", "pip install"), {"enable_liger_kernel": True}),
    Case(
        "a package of an extra that is not installed",
        ("`fcit_dp_noise_multiplier`", 'pip install "fcit-plugin[privacy]"'),
        {"fcit_dp_noise_multiplier": 1.0, "fcit_dp_clipping_norm": 1.0},
        setup=without("dp_accounting"),
    ),
    Case("bf16 weights on a CPU", ("`pure_bf16`", "device"), {"pure_bf16": True}),
    Case("a DeepSpeed file that is not there", ("ds.json",), {"deepspeed": "ds.json"}),
    Case("an output folder that the system forbids", ("`output_dir` /proc/out",), {"output_dir": "/proc/out"}),
    Case(
        "an output folder on a read-only disk",
        ("`output_dir`", "Read-only"),
        spoil=needs_mounts,
        setup=mount("size=1m,ro"),
    ),
    Case(
        "a full disk",
        ("/out/", "No space left", "start again"),
        spoil=needs_mounts,
        setup=mount("size=64k"),
        loads=True,
    ),
    Case(
        "a file that may not grow",
        ("/out/", "File too large", "start again"),
        {"lora_rank": 64},
        setup=small_files,
        loads=True,
    ),
]
