"""Seam: ``llamafactory.train.sft.workflow.run_sft`` - the three fcit stages run our workflow instead."""

import wrapt


def install(workflow_module) -> None:
    """Wrap ``run_sft``."""

    def wrapper(wrapped, instance, args, kwargs):
        finetuning_args = args[3] if len(args) > 3 else kwargs["finetuning_args"]
        stage = getattr(finetuning_args, "fcit_stage", None)
        if stage is None:
            return wrapped(*args, **kwargs)
        from .stages import run_stage  # imports Flower and the trainer: only when needed

        return run_stage(stage, *args[:5])

    wrapt.wrap_function_wrapper(workflow_module, "run_sft", wrapper)
