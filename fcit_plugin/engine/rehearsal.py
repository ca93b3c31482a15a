"""The rehearsal: before the first training the model answers a few records as it will after the last, and takes a gradient.

What a base model cannot do, be it told apart whose row is whose or take a video, is known then, and not after hours.
"""

import contextlib
import dataclasses
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import Trainer
from typing_extensions import override

from ..adapters.lora import put
from ..data.pipeline import Split
from ..data.record_images import numbers_of_media
from ..errors import FcitError, one_line
from ..federation.failures import is_clients, is_out_of_memory
from ..federation.messages import ClientConfig
from ..knowledge.activation import Router
from ..knowledge.identity_tokens import SubspaceTokens
from ..knowledge.image_tokens import Encoder
from ..knowledge.organizer import SingleSubspace
from .client_trainer import as_it_was, tear_down
from .client_training import LocalTrainer
from .deepspeed import keeping_config
from .evaluator import Evaluator
from .model_inputs import padding
from .row import Row
from .session import Session

#: LLaMA-Factory's mark of a token that is no part of the answer, and what it calls media.
_IGNORED, _MEDIA = -100, ("images", "videos", "audios")
#: Tokens of each answer: one of a forward pass over the prompt, one of a step with its cache.
_TOKENS = 2


def rehearse(session: Session, evaluator: Evaluator, local: object = None, plan: Iterable[ClientConfig] = ()) -> None:
    """Answer as the run will, and begin a training as the first client will that has a step to take.

    Nothing of it is left behind: neither weights nor random numbers, nor any count of the run.

    Args:
        session: Of a run that has trained nothing yet.
        evaluator: The session's.
        local: What trains clients; of sites, which train elsewhere, nothing is rehearsed.
        plan: The local trainings of the run.

    Raises:
        FcitError: The model cannot answer, or not be trained; the sentence says why.
    """
    rehearse_answers(session, evaluator)
    if isinstance(local, LocalTrainer) and (first := next(filter(local.num_steps, plan), None)) is not None:
        local.why_idle(first)  # says by name which key of a schedule is wrong
        rehearse_training(local, first)


def rehearse_answers(session: Session, evaluator: Evaluator) -> None:
    """Answer one record of each dataset and of each mixture of media in it, through subspaces that hold nothing yet.

    The records are test records, or training records' prompts where none are evaluated: what was trained is served then.

    Args:
        session: Of a run that has trained nothing yet.
        evaluator: The session's.

    Raises:
        FcitError: The model cannot answer; the sentence names the records and why.
    """
    rows = [row for name in _names(session) for row in _rows(name, _split(session, name), evaluator.args.fcit_eval_samples)]
    if not rows:
        return
    rows.sort(key=lambda row: len(row.feature["input_ids"]))
    size = evaluator.batch_size
    if len(rows) < min(size, 2):
        rows = rows * 2  # two rows of a batch are weighed apart, a single one never
    first, method = session.first_state(), session.program.method
    alike = isinstance(method.organizer(0), SingleSubspace) or evaluator.args.fcit_activation == "concat"
    count = 1 if alike else 2
    own = [first.shared] * count if method.keeps_projectors and first.shared else []
    state = dataclasses.replace(first, subspaces=[session.program.blank] * count, projectors=own)
    router = _Apart(evaluator.encoder, first.tokens, count)
    evaluator.know(router, [row.turns for row in rows])
    with same_random_numbers(), evaluator.answering(state) as activation, padding(session.pipeline.tokenizer, "left"):
        for start in range(0, len(rows), size):
            batch = rows[start : start + size] if start + 1 < len(rows) else rows[-min(size, 2) :]
            try:
                evaluator.answer(batch, router, activation, max_new_tokens=_TOKENS, min_new_tokens=_TOKENS)
                if session.evaluates and evaluator.measures_likelihood:
                    with padding(session.pipeline.tokenizer, "right"):
                        evaluator.losses([row.answered() for row in batch], router, activation)
            except Exception as error:  # a base model's code may raise anything
                raise FcitError(_sentence(batch, error)) from error


def rehearse_training(local: LocalTrainer, work: ClientConfig) -> None:
    """Make a client's optimizer and schedule, and take one record's gradient; no step is taken.

    Of a DeepSpeed engine the optimizer alone is made: the engine casts the whole model, which would be felt later.

    Args:
        local: What trains clients.
        work: A training that takes a step.

    Raises:
        FcitError: What fails is not this client's own: it would end the run later.
    """
    features = local.features(work)
    record = _record(local, features)
    buffers = [(name, buffer, buffer.clone()) for name, buffer in local.model.named_buffers()]
    args, trainer = local.pipeline.training_args, None
    with same_random_numbers(), as_it_was(local.model), keeping_config(args):
        try:
            trainer = local.trainer(work, features.select([record]))
            if not trainer.is_deepspeed_enabled:
                trainer.create_optimizer()
                trainer.create_scheduler(local.num_steps(work))
                _take_gradient(trainer, local.model, features[record])
            elif "optimizer" not in args.hf_deepspeed_config.config:
                trainer.create_optimizer()
        except _ClientsOwn:
            pass  # its turn comes, and it is left out then
        except Exception as error:  # LLaMA-Factory's optimizers, and a base model's code, may raise anything
            raise FcitError(_no_training(error, len(_tokens(features, record)))) from error
        finally:
            if trainer is not None:
                tear_down(trainer)
            for name, buffer, value in buffers:
                put(buffer, value, name)


class _ClientsOwn(Exception):
    """One of the client's own failures, which costs it the round."""


def _take_gradient(trainer: Trainer, model: torch.nn.Module, record: dict[str, Any]) -> None:
    try:
        batch = trainer._prepare_inputs(trainer.data_collator([record]))
        model.train()
        with trainer.accelerator.autocast():
            loss = trainer.compute_loss(model, batch)
        assert isinstance(loss, torch.Tensor)  # of the outputs it was not asked
        loss.backward()
    except Exception as error:
        if is_clients(error):
            raise _ClientsOwn from error
        raise


def _record(local: LocalTrainer, features: Dataset) -> int:
    """The longest of a client's records if it is trained on for sure, else the shortest."""
    args = local.pipeline.training_args
    surely = args.max_steps <= 0 and args.num_train_epochs >= 1 and not args.dataloader_drop_last
    chosen = (max if surely else min)(range(len(features)), key=[len(ids) for ids in features[_column(features)]].__getitem__)
    return int(chosen)


def _column(features: Dataset) -> str:
    """The column of token ids that every form of records has, of a pair the better answer's."""
    return next(name for name in features.column_names if name.endswith("input_ids"))


def _tokens(features: Dataset, record: int) -> Sequence[int]:
    found: Sequence[int] = features[record][_column(features)]
    return found


def _no_training(error: Exception, tokens: int) -> str:
    if is_out_of_memory(error):
        return (
            f"The memory is not enough to train with one record of {tokens} tokens; nothing was trained. Lower `cutoff_len` or "
            "`lora_rank`, or quantize the base model (`quantization_bit`)."
        )
    return (
        f"No client could be trained with this recipe, and none was: {type(error).__name__}: {one_line(error).rstrip('.')}. "
        "Change what it names, or install it."
    )


def _names(session: Session) -> Sequence[str]:
    return session.tested_datasets or session.trained_datasets


def _split(session: Session, name: str) -> Split:
    return session.pipeline.test(name) if session.evaluates else session.pipeline.train(name)


def _rows(name: str, split: Split, count: int | None) -> Iterator[Row]:
    """The first record of each mixture of images, videos and audios."""
    split = split.head(count)
    columns = [numbers_of_media(split.rows, f"_{media}") for media in _MEDIA if f"_{media}" in split.rows.column_names]
    seen = set()
    for number, media in enumerate(zip(*columns, strict=True)):
        kind = tuple(map(bool, media))
        if kind not in seen:
            seen.add(kind)
            yield Row(name, number, _prompt(split.features[number]), split.instructions[number])


def _prompt(feature: dict) -> dict:
    """What comes before the answer of a record in LLaMA-Factory's form; of a pair the better one's."""
    prefix = "" if "input_ids" in feature else "chosen_"
    ids, labels = feature[f"{prefix}input_ids"], feature.get(f"{prefix}labels") or ()
    end = next((place for place, label in enumerate(labels) if label != _IGNORED), 0) or len(ids)
    found = {"input_ids": ids[:end], "attention_mask": [1] * end, "labels": labels}
    return found | {media: feature.get(media) for media in _MEDIA}


class _Apart(Router):
    """Weighs two subspaces differently for samples that follow each other, and a single one alike for all.

    Args:
        encoder: Encodes the samples, as for any weights.
        tokens: Of no subspace.
        count: How many subspaces there are, 1 or 2.
    """

    def __init__(self, encoder: Encoder, tokens: SubspaceTokens, count: int) -> None:
        super().__init__(encoder, tokens, "softmax", temperature=1.0, turns="first")
        self.rows = np.array([[0.75, 0.25], [0.25, 0.75]] if count == 2 else [[1.0]], np.float32)

    @override
    def cosines(self, embedded: np.ndarray) -> np.ndarray:
        return self.rows[np.arange(len(embedded)) % len(self.rows)]

    @override
    def _weights(self, cosines: np.ndarray) -> np.ndarray:
        return cosines


def _sentence(batch: Sequence[Row], error: Exception) -> str:
    records = ", ".join(dict.fromkeys(f"record {row.number} of {row.name}" for row in batch))
    if isinstance(error, torch.OutOfMemoryError):
        return f"The memory is not enough to answer {records} at a time; lower `per_device_eval_batch_size` or `cutoff_len`."
    reason = one_line(error) if isinstance(error, FcitError) else f"{type(error).__name__}: {one_line(error)}"
    return (
        f"The base model cannot answer through subspaces, so what it learned could not be evaluated or used; nothing was "
        f"trained. Asked were {records} in one batch: {reason}"
    )


@contextlib.contextmanager
def same_random_numbers() -> Iterator[None]:
    """After the block the random numbers of Python, NumPy and torch go on as if it had not been."""
    states = random.getstate(), np.random.get_state()
    try:
        # this process's device alone: to ask the others would take memory of each of them
        with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
