"""Seams: LLaMA-Factory's workflows of the stages that can train a client - the three fcit stages run ours instead."""

import inspect

import wrapt

from ..recipe.request import Request

#: LLaMA-Factory's functions, each in a module of its own.
_WORKFLOWS = {"dpo": "run_dpo", "kto": "run_kto"}


def install(workflow_module) -> None:
    """Wrap the module's workflow."""
    name = _WORKFLOWS.get(workflow_module.__name__.split(".")[-2:][0], "run_sft")
    signature = inspect.signature(getattr(workflow_module, name))

    def wrapper(wrapped, instance, args, kwargs):
        given = signature.bind(*args, **kwargs).arguments
        request = Request.of(given["finetuning_args"])
        if request is None or request.stage is None:
            return wrapped(*args, **kwargs)
        from ..engine.stages import run_stage  # imports Flower and the trainer: only when needed

        parts = (given[name] for name in ("model_args", "data_args", "training_args", "finetuning_args"))
        return run_stage(request, *parts, given.get("callbacks"))

    wrapt.wrap_function_wrapper(workflow_module, name, wrapper)
