"""The rehearsal: before the first training the model answers a few records as it will after the last.

What a base model cannot do, be it told apart whose row is whose or take a video, is known then, and not after hours.
"""

import contextlib
import dataclasses
import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from typing_extensions import override

from ..data.pipeline import Split
from ..data.record_images import numbers_of_media
from ..errors import FcitError, one_line
from ..knowledge.activation import Router
from ..knowledge.identity_tokens import SubspaceTokens
from ..knowledge.image_tokens import Encoder
from ..knowledge.organizer import SingleSubspace
from .evaluator import Evaluator
from .model_inputs import padding
from .row import Row
from .session import Session

#: LLaMA-Factory's mark of a token that is no part of the answer, and what it calls media.
_IGNORED, _MEDIA = -100, ("images", "videos", "audios")
#: Tokens of each answer: one of a forward pass over the prompt, one of a step with its cache.
_TOKENS = 2


def rehearse(session: Session, evaluator: Evaluator) -> None:
    """Answer one record of each dataset and of each mixture of media in it, through subspaces that hold nothing yet.

    The records are test records, or training records' prompts where none are evaluated: what was trained is served then.
    Nothing of it is left behind: neither weights nor random numbers, nor any count of the run.

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
