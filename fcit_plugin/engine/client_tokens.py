"""What clients tell of their instructions: identity tokens, with noise where the recipe asks for it."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..adapters.base_weights import BaseOnDemand
from ..arguments import FcitArguments
from ..continual.method import ContinualMethod
from ..data.pipeline import Pipeline, TaskData
from ..data.pixels import LazyPixels, refuse_without_image
from ..federation.messages import ClientConfig
from ..federation.noise import Noise
from ..federation.privacy import digest_of_records, noisy_token, tells_own_cosines
from ..files import opened
from ..knowledge.activation import own_counts
from ..knowledge.encoders import IdentityEncoder
from ..knowledge.identity_tokens import ClientToken, SubspaceTokens, WithoutToken
from ..knowledge.nearness import nearness_of
from ..knowledge.own_cosines import Counts
from ..knowledge.prototypes import Prototypes, kinds_of
from ..knowledge.token_forms import FORMS
from ..knowledge.turns import learned_tokens
from ..knowledge.vectors import on_grid
from ..scenario.partition import Partition

#: What a token is made by: of the same records each of these makes another one.
_MADE_BY = ("source", "encoder", "pooling", "center", "form", "turns")


class ClientTokens:
    """Makes the identity tokens of clients, each once.

    Args:
        pipeline: Data.
        encoder: Identity encoder.
        method: The continual method.
        args: Our keys.
        partition: Who has which records; None where a site has its own.
        task: The training records of a task.
        records: Indices of a client's records in a task, int64, ascending.
        noise: Where the noise on tokens comes from; None for those who make none.
        base_weights: The base weights, where the server changes them: tokens are told by those that were loaded.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        encoder: IdentityEncoder,
        method: ContinualMethod,
        args: FcitArguments,
        partition: Partition | None,
        task: Callable[[int], TaskData],
        records: Callable[[int, int], np.ndarray],
        noise: Noise | None,
        base_weights: BaseOnDemand | None = None,
    ) -> None:
        self.noise = noise
        self._base_weights = base_weights
        self._pipeline, self._encoder, self._method, self._args = pipeline, encoder, method, args
        self._partition, self._task, self._records = partition, task, records
        self._form = FORMS[args.fcit_identity_form]
        self._learned: dict[int, list[tuple[np.ndarray, Counts | None]]] = {}
        self._tokens: dict[tuple[int, int], ClientToken] = {}

    def of(self, client: int, task: int) -> ClientToken | WithoutToken:
        """Mean identity token over a client's samples, and their kinds if the method wants them; of too few samples none."""
        if self._has_few(client, task):
            return WithoutToken(client, len(self._records(client, task)))
        if (client, task) not in self._tokens:  # it is asked for before and with every update
            self._tokens[client, task] = self._make(client, task)
        return self._tokens[client, task]

    def choose(self, config: ClientConfig, tokens: SubspaceTokens) -> int | None:
        """The subspace that a client knows to be its own, by a token that does not leave it.

        What it has chosen leaves it, and tells of the token: so that one has the noise that it would be told with.
        """
        mean = self._told(config.client, config.task, self._learned_by(config.client, config.task)[0])
        return self._method.organizer_of(config.stage, config.round).own_subspace(mean, tokens)

    def know(self, config: ClientConfig, token: ClientToken) -> None:
        """Take a client's token that another process has made."""
        self._tokens[config.client, config.task] = token

    def _has_few(self, client: int, task: int) -> bool:
        """Whether the client has too few records to tell a token of."""
        return self._method.by_tokens and 0 < len(self._records(client, task)) < self._args.fcit_identity_min_records

    def _make(self, client: int, task: int) -> ClientToken:
        kinds = None
        if self._method.reports_kinds:  # to find them takes its time, so for the clients that are asked alone
            embedded = self._embed(task, self._records(client, task))
            mean, kinds = _mean(embedded), kinds_of(embedded, nearness_of(self._encoder).of_a_client)
            own = self._own_cosines(embedded, mean, kinds)
        else:
            mean, own = self._learned_by(client, task)
        mean, kinds = self._told(client, task, mean), None if kinds is None else self._form.told_kinds(kinds)
        count = len(self._records(client, task))
        return ClientToken(client, mean, count, count, kinds, own)

    def _told(self, client: int, task: int, mean: np.ndarray) -> np.ndarray:
        """A client's mean as it may be told: with its noise, and in its form."""
        if self._args.fcit_identity_noise is not None:
            assert self.noise is not None  # who makes tokens says where their noise comes from
            digest = digest_of_records(self._said(task, self._records(client, task)))
            mean = on_grid(noisy_token(mean, self._args.fcit_identity_noise, self.noise, client, task, digest))
        return self._form.told(mean)

    def _own_cosines(self, embedded: np.ndarray, mean: np.ndarray, kinds: Prototypes | None = None) -> Counts | None:
        """What is told of how near records' tokens [n, D] lie to their mean, or to the nearest of their kinds."""
        if not len(embedded) or not tells_own_cosines(self._args, self._method.by_tokens):
            return None
        return own_counts(embedded, mean, kinds, nearness_of(self._encoder), self._form)

    def _learned_by(self, client: int, task: int) -> tuple[np.ndarray, Counts | None]:
        """The mean token of a client, and how near its records lie to it.

        Those of all are taken at once, for the records' own tokens would be gigabytes to keep.
        """
        if task not in self._learned:
            embedded = self._embed(task, np.arange(len(self._task(task))))
            parts = [np.arange(len(embedded))] if self._partition is None else self._partition.parts(task)
            means = [_mean(embedded[part]) for part in parts]
            counts = [self._own_cosines(embedded[part], mean) for part, mean in zip(parts, means, strict=True)]
            self._learned[task] = [*zip(means, counts, strict=True)]
        return self._learned[task][0 if self._partition is None else client]

    def _embed(self, task: int, records: np.ndarray) -> np.ndarray:
        """The tokens of some of a task's records, in the numbers that are told of them, but not rounded; float32 [n, D].

        Where the server changes the base weights the model has those that were loaded afterwards; a training writes its own.
        """
        if self._base_weights is not None:
            self._base_weights.write({})
        data = self._task(task)
        said = [data.instructions[i] for i in records]
        turns = self._args.fcit_identity_turns
        return self._form.mixed(learned_tokens(self._encoder, said, turns, lambda: self._pixels_of(data, records)))

    def _said(self, task: int, records: np.ndarray) -> Iterator[str]:
        """What a token is made by, and of each record its number in the task, what its user says and which images are seen."""
        data, sees = self._task(task), self._args.fcit_identity_source != "text"
        yield json.dumps([str(getattr(self._args, f"fcit_identity_{key}")) for key in _MADE_BY])
        for i in records:
            images = data.images[i] if sees else None
            yield json.dumps([int(i), *data.instructions[i], *map(_digest_of_image, images or ())])

    def _pixels_of(self, data: TaskData, records: np.ndarray) -> LazyPixels:
        for split in data.splits:
            refuse_without_image(split.name, split.images, self._args.fcit_identity_source, split.kept)
        return LazyPixels([data.images[i] for i in records], self._pipeline.pixels)


def _digest_of_image(image: Any) -> str:
    """What tells an image from others: the bytes of its file, or those that stand in the record itself, read or not."""
    if isinstance(image, dict):
        image = image["path"] if image.get("bytes") is None else image["bytes"]
    if isinstance(image, bytes):
        return hashlib.sha256(image).hexdigest()
    if not isinstance(image, str):
        return hashlib.sha256(f"{image.mode} {image.size};".encode() + image.tobytes()).hexdigest()
    with opened(Path(image), remedy="put it back") as file:
        return hashlib.file_digest(cast("Any", file), "sha256").hexdigest()


def _mean(embedded: np.ndarray) -> np.ndarray:
    """The mean of some tokens, float32 [D] on the grid; not a number for none."""
    if not len(embedded):
        return np.full(embedded.shape[1], np.nan, np.float32)
    return on_grid(embedded.mean(axis=0, dtype=np.float64))
