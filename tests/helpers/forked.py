"""A command line run in a forked child: exit code and stderr are the real ones, the imports are paid once."""

import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

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
    paths = [folder / "stdout.txt", folder / "stderr.txt"]
    child = os.fork()
    if child == 0:
        code = 70  # the test's own fault
        try:
            signal.alarm(120)  # by default it ends the process
            torch.set_num_threads(1)  # a fork has none of OpenMP's other threads, and would wait for them for ever
            for number, path in enumerate(paths, start=1):
                file = path.open("wb")
                os.dup2(file.fileno(), number)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
            for handler in logging.getLogger("llamafactory").handlers:
                if isinstance(handler, logging.StreamHandler):
                    handler.stream = sys.stdout  # what it had may be closed
            os.environ.update(env or {})
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
    _, status = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), *(path.read_text(errors="replace") for path in paths))


def _run(main: Callable[[], None]) -> int:
    try:
        main()
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else 0 if exit.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0
