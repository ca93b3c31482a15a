"""Seams: ``llamafactory.launcher`` and ``llamafactory.v1.launcher``, one of which is the first that hears of a command line."""

import sys

import wrapt

from ..errors import FcitError
from ..recipe.environment import USE_V1
from ..recipe.watch import watch


def install(launcher_module) -> None:
    """Wrap ``launch``, so that bad input ends in a sentence from the very start; and so does the trainer of USE_V1=1."""

    def wrapper(wrapped, instance, args, kwargs):
        if watch(sys.argv[2:]) and launcher_module.__name__ == "llamafactory.v1.launcher":
            raise FcitError(USE_V1)
        return wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(launcher_module, "launch", wrapper)
