"""``fcit-cli doctor``: what a bug report should say of the machine, in one block to paste."""

import argparse
import importlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from ..files import of_user
from .command import Command

#: Told beside what the plugin requires: what it can use.
_OPTIONAL = ("deepspeed", "bitsandbytes", "flash-attn", "vllm", "pycocoevalcap", "dp-accounting", "liger-kernel")
#: Environment variables that change what a run does; only whether a secret's folder is set is told.
_VARIABLES = (
    *("FCIT_CACHE", "FCIT_DATA_DIR", "LLAMAFACTORY_VERBOSITY", "TORCH_DEVICE_BACKEND_AUTOLOAD", "DISABLE_VERSION_CHECK"),
    *("HF_HUB_OFFLINE", "HF_HOME", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "FORCE_TORCHRUN", "NPROC_PER_NODE", "USE_RAY"),
)
_GIB = 1 << 30


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def _run(args: argparse.Namespace) -> int:
    problems: list[str] = []
    print("```")
    for title, lines in (
        ("system", _system()),
        ("packages", _packages(problems)),
        ("plugins", _plugins(problems)),
        ("seams", _seams(problems)),
        ("devices", _devices()),
        ("programs", _programs()),
        ("disk", _disk(problems)),
        ("environment", _environment()),
    ):
        print("\n".join(f"{title if not number else '':<12}{line}" for number, line in enumerate(lines)), flush=True)
    found = problems or ["nothing that is wrong"]
    print("\n".join(f"{'found' if not number else '':<12}{line}" for number, line in enumerate(found)))
    print("```")
    return 1 if problems else 0


def _system() -> Iterator[str]:
    from .. import __version__

    yield f"fcit-plugin {__version__}, Python {platform.python_version()}, {platform.platform()}"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    yield f"{os.cpu_count()} cores, {memory:.0f} GiB memory"


def _packages(problems: list[str]) -> Iterator[str]:
    """What the plugin requires, and whether what is installed fits."""
    from packaging.requirements import Requirement

    told = []
    for line in requires("fcit-plugin") or ():
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _version(requirement.name)
        told.append(f"{requirement.name} {found or 'missing'}")
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            problems.append(f"{requirement.name} is {found or 'not there'}, and the plugin needs {requirement.specifier}")
    yield ", ".join(told)
    yield ", ".join(f"{name} {_version(name) or 'not there'}" for name in _OPTIONAL) + " (all optional)"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _plugins(problems: list[str]) -> Iterator[str]:
    from ..errors import FcitError
    from ..parts import KINDS
    from ..plugins import registry

    try:
        owners = {part.package: None for kind in KINDS for part in registry(kind).values()}
        yield ", ".join(owners)
    except (FcitError, ImportError) as error:
        problems.append(str(error))
        yield str(error)


def _seams(problems: list[str]) -> Iterator[str]:
    """Whether each module of LLaMA-Factory that is hooked takes its hook."""
    from ..autoload import FAILED, SEAMS, autoload

    autoload()
    broken = []
    for module in SEAMS:
        if module.startswith("llamafactory.v1"):
            continue  # its newer half is there in some versions alone, and loads what others need not have
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever LLaMA-Factory's modules raise, it is what the report is for
            broken.append(f"{module} cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}")
    broken += [f"{module} does not fit: {why}" for module, why in FAILED.items()]
    problems += broken
    yield from broken or [f"all {len(SEAMS)} fit LLaMA-Factory {_version('llamafactory')}"]


def _devices() -> Iterator[str]:
    import torch

    from ..machine import processor

    yield f"processor: {processor()}"
    yield f"torch {torch.__version__}, CUDA {torch.version.cuda or 'not built in'}, {torch.get_num_threads()} threads"
    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        yield f"GPU {number}: {card.name}, {card.total_memory / _GIB:.0f} GiB, compute capability {card.major}.{card.minor}"
    if not torch.cuda.is_available():
        yield "no GPU that PyTorch can use"


def _programs() -> Iterator[str]:
    for name, option, use in (
        ("java", "-version", "for the COCO caption scores"),
        ("nvidia-smi", "--version", "the driver of GPUs"),
        ("g++", "--version", "for DeepSpeed's own code"),
    ):
        path = shutil.which(name)
        if path is None:
            yield f"{name}: not there ({use})"
            continue
        try:
            done = subprocess.run([path, option], capture_output=True, text=True, timeout=20)
            lines = (done.stdout or done.stderr).strip().splitlines() or ["says nothing"]
        except (OSError, subprocess.TimeoutExpired) as error:
            lines = [f"does not run: {type(error).__name__}"]
        yield f"{name}: {lines[0]}"


def _disk(problems: list[str]) -> Iterator[str]:
    from ..cache import cache_folder

    folders = {"here": Path.cwd()}
    try:
        folders["the plugin's cache"] = cache_folder()
    except OSError as error:
        problems.append(f"there is no cache: {error.strerror} ({error.filename})")
    folders["Hugging Face's cache"] = of_user(os.environ.get("HF_HOME") or "~/.cache/huggingface")
    for what, folder in folders.items():
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        usage = shutil.disk_usage(there)
        yield f"{what}: {usage.free / _GIB:.0f} of {usage.total / _GIB:.0f} GiB free ({folder})"
        if usage.free < _GIB:
            problems.append(f"less than 1 GiB of disk is free in {folder}")


def _environment() -> Iterator[str]:
    yield ", ".join(f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ) or "nothing set"


DOCTOR = Command(
    "doctor",
    "say what is installed, what fits and what is missing, as a block to paste into a bug report",
    _no_arguments,
    _run,
)
