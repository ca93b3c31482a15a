"""Seams: LLaMA-Factory's workflows of the stages that can train a client - the three fcit stages run ours instead."""

import wrapt

#: LLaMA-Factory's functions, each in a module of its own.
_WORKFLOWS = {"dpo": "run_dpo", "kto": "run_kto"}


def install(workflow_module) -> None:
    """Wrap the module's workflow."""

    def wrapper(wrapped, instance, args, kwargs):
        finetuning_args = args[3] if len(args) > 3 else kwargs["finetuning_args"]
        stage = getattr(finetuning_args, "fcit_stage", None)
        if stage is None:
            return wrapped(*args, **kwargs)
        from ..engine.stages import run_stage  # imports Flower and the trainer: only when needed

        return run_stage(stage, *args[:4], finetuning_args.fcit_generating_args)

    name = _WORKFLOWS.get(workflow_module.__name__.split(".")[-2:][0], "run_sft")
    wrapt.wrap_function_wrapper(workflow_module, name, wrapper)
