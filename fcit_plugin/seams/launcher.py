"""Seam: ``llamafactory.launcher`` - the first that hears of a command line, and the one that starts torchrun."""

import sys

import wrapt

from ..recipe.watch import watch


def install(launcher_module) -> None:
    """Wrap ``launch``, so that bad input ends in a sentence from the very start."""

    def wrapper(wrapped, instance, args, kwargs):
        watch(sys.argv[2:])
        return wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(launcher_module, "launch", wrapper)
