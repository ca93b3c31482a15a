"""Seams: ``llamafactory.launcher`` and ``llamafactory.v1.launcher``, one of which is the first that hears of a command line."""

import sys

import wrapt

from ..errors import FcitError
from ..recipe.environment import USE_V1, start_together
from ..recipe.watch import watch


def install(launcher_module) -> None:
    """Wrap ``launch``, so that bad input ends in a sentence from the very start; and so does the trainer of USE_V1=1.

    A recipe that lets several clients train on one device starts as many processes as that takes.
    """

    def wrapper(wrapped, instance, args, kwargs):
        if watch(sys.argv[2:]):
            if launcher_module.__name__ == "llamafactory.v1.launcher":
                raise FcitError(USE_V1)
            if sys.argv[1:2] == ["train"]:
                start_together(sys.argv[2:])
        return wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(launcher_module, "launch", wrapper)
