"""Local trainings that cannot take a step, known from the plan: no full batch, or a learning rate of 0 from first to last."""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import torch
from llamafactory.train.trainer_utils import create_custom_scheduler
from transformers import get_scheduler

from ..errors import FcitError, one_line

#: A piece of a schedule that several trainings share: which, from 0, and of how many; None for one of its own.
Piece: TypeAlias = tuple[int, int] | None


def possible_pieces(piece: Callable[[int, int, int], Piece], round: int, longest: int) -> Iterator[Piece]:
    """The pieces that a client may train with whose place in its chain is not known yet.

    Args:
        piece: By round, place and links (:meth:`fcit_plugin.federation.program.Program.piece`).
        round: r.
        longest: How many clients a chain has at most; 1 where nobody passes anything on.
    """
    if piece(round, 0, 1) is None:  # then it is for everybody
        yield None
        return
    for links in range(1, longest + 1):
        yield from dict.fromkeys(piece(round, place, links) for place in range(links))


def why_idle(
    training_args: Any, records: int, steps: int, processes: int, pieces: Iterable[Piece] = (None,), known: bool = True
) -> str | None:
    """Why a local training changes nothing.

    Args:
        training_args: LLaMA-Factory's training arguments.
        records: Records that it is of.
        steps: Its optimizer steps (:func:`fcit_plugin.plan.work.optimizer_steps`).
        processes: Processes that share each step.
        pieces: Those of a schedule that it may have; it is idle if it is with each of them. They are made as they are looked
            at: among a thousand clients in turn there are half a million, and the first mostly tells.
        known: Whether the schedule is the Trainer's own; of DeepSpeed's nothing is said.

    Returns:
        A clause without a subject; None for a training that takes a step.
    """
    if steps == 0:
        batch = training_args.per_device_train_batch_size * processes
        return f"has {records} records, which are no batch of {batch} with `dataloader_drop_last`"
    if not known:
        return None
    shared = False
    for piece in pieces:
        if _moves(training_args, steps, piece):
            return None
        shared = piece is not None
    where = "in a piece of the schedule that is all at" if shared else "under a warm-up that begins at"
    return f"is {steps} step{'s' * (steps > 1)} long, {where} a learning rate of 0"


def _moves(training_args: Any, steps: int, piece: Piece) -> bool:
    """Whether the schedule, or a piece of it, has a rate above 0 in any of its steps: mostly in the first, or in the second."""
    place, links = piece or (0, 1)
    args = copy.copy(training_args)
    args.lr_scheduler_kwargs = copy.deepcopy(args.lr_scheduler_kwargs)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    try:
        create_custom_scheduler(args, links * steps)
        scheduler = get_scheduler(
            args.lr_scheduler_type,
            optimizer=optimizer,
            num_warmup_steps=args.get_warmup_steps(links * steps),
            num_training_steps=links * steps,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs,
        )
        if piece is not None:
            return any(scheduler.lr_lambdas[0](step) > 0 for step in range(place * steps, (place + 1) * steps))
        for _ in range(steps - 1):
            if optimizer.param_groups[0]["lr"] > 0:
                return True
            optimizer.step()
            scheduler.step()
    except Exception as error:  # it has what the recipe gives it as its keywords
        kind, given = args.lr_scheduler_type.value, training_args.lr_scheduler_kwargs
        raise FcitError(
            f"`lr_scheduler_type: {kind}` cannot be made for {links * steps} steps with `lr_scheduler_kwargs` {given or {}}: "
            f"{type(error).__name__}: {one_line(error)}; change one of them, or the warm-up."
        ) from error
    return optimizer.param_groups[0]["lr"] > 0
