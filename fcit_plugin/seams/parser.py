"""Seam: ``llamafactory.hparams.parser`` - take the ``fcit_*`` keys out, leave the rest as it was."""

import contextlib
import logging
import sys

import wrapt

from ..arguments.reasons import all_reasons
from ..recipe.environment import check_environment
from ..recipe.read import read_recipe, split_keys
from ..recipe.request import InferArguments, TrainArguments, attach_request, read_infer_request, read_train_request
from ..recipe.typed_recipe import TypedKeys, as_typed, check_typed
from ..recipe.watch import watch

logger = logging.getLogger(__name__)


def install(parser_module) -> None:
    """Wrap the three functions that read arguments, and let our log lines come out as LLaMA-Factory's do."""
    logging.getLogger("fcit_plugin").parent = parser_module.logging.get_logger()

    def reader(wrapped, instance, args, kwargs):
        given = args[0] if args else kwargs.get("args")
        ours = watch(sys.argv[1:] if given is None else given)
        if not ours or given is not None:
            return wrapped(*args, **kwargs)
        found = read_recipe(wrapped, sys.argv[1:])
        if isinstance(found, dict) and split_keys(found)[1] is not None:
            found = TypedKeys(found)
            if missing := check_typed(sys.argv[1:], found):
                logger.warning(
                    f"The run that has left {sys.argv[1]} had {' '.join(missing)} behind it on the command line, which counts "
                    "no longer."
                )
            found.typed = as_typed(sys.argv[1:])
        return found

    def train(wrapped, instance, args, kwargs):
        with all_reasons():  # LLaMA-Factory's own among them
            keys, request = read_train_request(parser_module.read_args(*args, **kwargs), parser_module._TRAIN_ARGS)
            with contextlib.nullcontext() if request is None or request.stage is None else _quiet():
                parsed = wrapped(keys)
            attach_request(request, TrainArguments(*parsed))
        return parsed

    def infer(wrapped, instance, args, kwargs):
        keys, request = read_infer_request(parser_module.read_args(*args, **kwargs), parser_module._INFER_ARGS)
        parsed = wrapped(keys)
        attach_request(request, InferArguments(*parsed))
        return parsed

    def ray(wrapped, instance, args, kwargs):
        found = wrapped(*args, **kwargs)  # where this says so, Ray's workers are the first to read the recipe
        if found.use_ray and split_keys(args[0] if args else kwargs["args"])[1] is not None:
            check_environment()
        return found

    wrapt.wrap_function_wrapper(parser_module, "read_args", reader)
    wrapt.wrap_function_wrapper(parser_module, "get_ray_args", ray)
    wrapt.wrap_function_wrapper(parser_module, "get_train_args", train)
    wrapt.wrap_function_wrapper(parser_module, "get_infer_args", infer)


def _quiet() -> contextlib.AbstractContextManager[None]:
    """Other libraries only warn; see :mod:`..engine.quiet`."""
    from ..engine.quiet import quiet_others  # only now: a run without us shall not pay for it

    return quiet_others()
