"""Seams: ``llamafactory.launcher`` and ``llamafactory.v1.launcher``, one of which is the first that hears of a command line."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import wrapt

from ..errors import FcitError
from ..recipe.environment import USE_V1, start_together
from ..recipe.watch import watch


def install(launcher_module) -> None:
    """Wrap ``launch``, so that bad input ends in a sentence from the very start; and so does the trainer of USE_V1=1.

    A recipe that lets several clients train on one device starts as many processes as that takes.
    """

    def wrapper(wrapped, instance, args, kwargs):
        if not watch(sys.argv[2:]):
            return wrapped(*args, **kwargs)
        if launcher_module.__name__ == "llamafactory.v1.launcher":
            raise FcitError(USE_V1)
        if sys.argv[1:2] == ["train"]:
            start_together(sys.argv[2:])
        with _words_kept_whole(launcher_module):
            return wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(launcher_module, "launch", wrapper)


@contextlib.contextmanager
def _words_kept_whole(launcher_module: ModuleType) -> Iterator[None]:
    """Within the block torchrun is handed the words of the command line as they are.

    LLaMA-Factory puts the line together as one text and splits it at blanks, so that a recipe in a folder with a blank in its
    name is two that are not there, and of ``output_dir=/runs/May 3`` a part is lost.
    """

    def run(command: Any, **how: Any) -> Any:
        words = [str(launcher_module.__file__), *sys.argv[1:]]
        pieces = " ".join(words).split()
        if isinstance(command, list) and command[-len(pieces) :] == pieces:
            command = command[: -len(pieces)] + words
        return subprocess.run(command, **how)

    theirs = launcher_module.subprocess
    launcher_module.subprocess = SimpleNamespace(run=run)  # type: ignore[attr-defined]  # it is any module
    try:
        yield
    finally:
        launcher_module.subprocess = theirs  # type: ignore[attr-defined]  # likewise
