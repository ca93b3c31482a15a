"""Local trainings that cannot take a step, known from the plan: no full batch, or a learning rate of 0 from first to last."""

import copy
from typing import Any

import torch
from llamafactory.train.trainer_utils import create_custom_scheduler
from transformers import get_scheduler


def why_idle(training_args: Any, records: int, steps: int, processes: int) -> str | None:
    """Why a local training changes nothing.

    Args:
        training_args: LLaMA-Factory's training arguments.
        records: Records that it is of.
        steps: Its optimizer steps (:func:`fcit_plugin.plan.work.optimizer_steps`).
        processes: Processes that share each step.

    Returns:
        A clause without a subject; None for a training that takes a step.
    """
    if steps == 0:
        batch = training_args.per_device_train_batch_size * processes
        return f"has {records} records, which are no batch of {batch} with `dataloader_drop_last`"
    if not _moves(training_args, steps):
        return f"is {steps} step{'s' * (steps > 1)} long, under a warm-up that begins at a learning rate of 0"
    return None


def _moves(training_args: Any, steps: int) -> bool:
    """Whether the schedule has a learning rate above 0 in any of its steps: mostly in the first, or in the second."""
    args = copy.copy(training_args)
    args.lr_scheduler_kwargs = copy.deepcopy(args.lr_scheduler_kwargs)
    create_custom_scheduler(args, steps)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(
        args.lr_scheduler_type,
        optimizer=optimizer,
        num_warmup_steps=args.get_warmup_steps(steps),
        num_training_steps=steps,
        scheduler_specific_kwargs=args.lr_scheduler_kwargs,
    )
    for _ in range(steps - 1):
        if optimizer.param_groups[0]["lr"] > 0:
            return True
        optimizer.step()
        scheduler.step()
    return optimizer.param_groups[0]["lr"] > 0
