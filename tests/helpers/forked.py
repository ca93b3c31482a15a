"""A command line run in a forked child: exit code and stderr are the real ones, the imports are paid once."""

import functools
import importlib
import importlib.util
import logging
import os
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from children import fork
from transformers import AutoModelForImageTextToText, AutoModelForSeq2SeqLM, AutoModelForTextToWaveform

MARK = "fcit-plugin: "
HINT = " (LLAMAFACTORY_VERBOSITY=DEBUG shows the traceback)"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def sentences(self) -> list[str]:
        """The plugin's own lines on stderr, without mark and hint."""
        lines = [line.rpartition("\r")[2] for line in self.stderr.splitlines() if MARK in line]
        return [line.partition(MARK)[2].removesuffix(HINT) for line in lines]


def command(
    arguments: list[str],
    folder: Path,
    env: dict[str, str] | None = None,
    setup: Callable[[], None] = lambda: None,
    program: str = "llamafactory.cli",
) -> Ended:
    """Run ``llamafactory-cli`` with these arguments in a fork of this process, as the interpreter would end it.

    Args:
        arguments: What follows the program's name.
        folder: Where its output is caught.
        env: Environment variables on top.
        setup: Called in the child first, such as to set limits.
        program: The module whose ``main`` is run.
    """
    return _ended(_start(arguments, folder, env or {}, setup, program), folder)


def ranks(arguments: list[str], processes: int, folder: Path, setup: Callable[[], None] = lambda: None) -> str:
    """Run ``llamafactory-cli`` with these arguments in as many processes as torchrun would start for it.

    What torchrun itself does is left out, and that each process imports all anew: test_torchrun.py has both.

    Args:
        arguments: What follows the program's name.
        processes: How many.
        folder: Where their output is caught.
        setup: Called in each of them first.

    Returns:
        The output of all, one after the other.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    env |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes))
    folders = [folder / f"rank{rank}" for rank in range(processes)]
    started = []
    for rank, own in enumerate(folders):
        own.mkdir(exist_ok=True)
        started.append(_start(arguments, own, env | dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)), setup))
    ended = [_ended(child, own) for child, own in zip(started, folders, strict=True)]
    shown = "\n".join(one.stdout + one.stderr for one in ended)
    assert not any(one.code for one in ended), f"{arguments} ended with {[one.code for one in ended]}:\n{shown[-6000:]}"
    return shown


@functools.cache
def warm() -> None:
    """Import what every run imports in its course, which forks would each do anew."""
    importlib.import_module("llamafactory.train.tuner")
    for auto in (AutoModelForImageTextToText, AutoModelForSeq2SeqLM, AutoModelForTextToWaveform):
        auto._model_mapping.keys()  # LLaMA-Factory asks all of them, and they import all configurations
    if importlib.util.find_spec("bitsandbytes"):
        importlib.import_module("bitsandbytes")  # PEFT does


def without_shared_memory() -> None:
    """Keep DeepSpeed from compiling, for a minute, the one collective for inference on CPUs that training does not call."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _start(
    arguments: list[str],
    folder: Path,
    env: dict[str, str],
    setup: Callable[[], None] = lambda: None,
    program: str = "llamafactory.cli",
) -> int:
    """Fork a child that runs the program; its number."""
    warm()
    child = fork()
    if child == 0:
        code = 70  # the test's own fault
        try:
            for number, path in enumerate(_outputs(folder), start=1):
                file = path.open("wb")
                os.dup2(file.fileno(), number)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
            for handler in logging.getLogger("llamafactory").handlers:
                if isinstance(handler, logging.StreamHandler):
                    handler.stream = sys.stdout  # what it had may be closed
            os.environ.update(env)
            sys.argv = ["llamafactory-cli", *arguments]
            sys.excepthook = sys.__excepthook__
            setup()
            code = _run(importlib.import_module(program).main)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return child


def _ended(child: int, folder: Path) -> Ended:
    _, status = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), *(path.read_text(errors="replace") for path in _outputs(folder)))


def _outputs(folder: Path) -> list[Path]:
    return [folder / "stdout.txt", folder / "stderr.txt"]


def _run(main: Callable[[], None]) -> int:
    try:
        main()
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else 0 if exit.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0
