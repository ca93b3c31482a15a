"""Routed inference: each request, and each sample of a batch, activates its own subspaces."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from llamafactory.extras import logging
from peft import PeftModel

from ..adapters.stacked import Activation
from ..data.instructions import KEYWORD, ROUTING, Instructions
from ..errors import FcitError
from ..knowledge.activation import Distance, Router
from ..knowledge.images import Images, features_by_row, images_by_row
from ..knowledge.turns import Turns
from .asking import ASK, Ask, answered

logger = logging.get_logger(__name__)

_SHOWN = 60
#: Seconds between two lines of the log about questions of none of the run's kinds.
_PAUSE = 10.0


class _Unknown:
    """Logs that questions are of none of the kinds that a run learned, and counts those it has not yet told of."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._untold, self._next = 0, -float("inf")

    def log(self, distance: Distance, weights: np.ndarray) -> None:
        """Log once for all rows of a request, and for many requests at most once in `_PAUSE` seconds.

        What was asked is not in the line: a server's log is read by others than who asked.

        Args:
            distance: How far the questions are.
            weights: What the subspaces weigh for each, [n, K].
        """
        far = distance.is_far
        if not far.any():
            return
        with self._lock:
            self._untold += int(far.sum())
            now = time.monotonic()
            if now < self._next:
                return
            count, self._untold, self._next = self._untold, 0, now + _PAUSE
        answered = (
            "subspaces answer all the same (`fcit_fallback_threshold`)" if weights[far].any() else "the base model answers"
        )
        i, many = int(np.flatnonzero(far)[-1]), count > 1
        cosine, own, k = distance.cosine[i], distance.own[i], distance.subspace[i]
        compared = "" if np.isnan(own) else f", 99 % of whose own instructions have {own:.2f} or more"
        logger.info_rank0(
            f"Far from what this run learned: {count} question{'s' * many} ({'the last one has ' * many}cosine {cosine:.2f} to "
            f"the nearest subspace, {k}{compared}); {answered}."
        )


class Routing:
    """Sets the weights of a model's stacked adapter from what the user says, or from the images, in the prompts.

    ``generate`` weighs each prompt once; the weights stay until it returns, whatever cache the model has. A forward pass
    outside of it weighs the rows of its own batch. Both hold for the thread they run in.

    Args:
        model: The model with the stacked adapter; its ``generate`` and its forward pass are hooked.
        activation: Takes the weights.
        router: Makes them.
        kept: The user's turns of prompts made by LLaMA-Factory's data pipeline.
        read: Reads the user's turns back from other token ids.
        tasks: What each subspace was trained for.
        trace: Whether to log the weights of each prompt, with the turns that decided; a function that names a subspace, None
            for no.
    """

    def __init__(
        self,
        model: PeftModel,
        activation: Activation,
        router: Router,
        kept: Instructions,
        read: Callable[[Sequence[int]], Turns],
        tasks: Sequence[Sequence[str]],
        trace: Callable[[int], str] | None = None,
    ) -> None:
        self.activation = activation
        self.router = router
        self.kept = kept
        self.read = read
        self.tasks = tasks
        self.trace = trace
        self.model = model
        self._unknown = _Unknown()
        self._own = threading.local()
        self._generate = model.generate
        model.generate = self.generate  # type: ignore[method-assign]  # the hook
        setattr(model, ROUTING, self)
        # PEFT's own forward() goes round the base model's hooks
        for module in (model, model.get_base_model()):
            module.register_forward_pre_hook(self._before_forward, with_kwargs=True)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own ``generate``, with weights for each prompt; the chat engine names the user's turns."""
        turns, ask = kwargs.pop(KEYWORD, None), kwargs.pop(ASK, None)
        ids: Any = args[0] if args else kwargs.get("input_ids", kwargs.get("inputs"))
        if turns is None:
            turns = self.turns(ids, kwargs.get("attention_mask"))
        self._set(turns, ids, kwargs, expands=True, ask=ask)
        self._own.generating = True
        try:
            return self._generate(*args, **kwargs)
        finally:
            self._own.generating = False

    def _before_forward(self, module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if getattr(self._own, "generating", False):
            return
        cache = kwargs.get("past_key_values")
        if cache is not None and cache.get_seq_length() > 0:
            raise RuntimeError("A routed model is decoded by generate(); a single step does not show the instruction.")
        ids: Any = args[0] if args else kwargs.get("input_ids")
        self._set(self.turns(ids, kwargs.get("attention_mask")), ids, kwargs)

    def turns(self, ids: torch.Tensor | None, mask: torch.Tensor | None) -> list[Turns]:
        """What the user says in each row of token ids [batch, length].

        Raises:
            FcitError: There are no ids, or they cannot be read.
        """
        if ids is None:
            raise FcitError("A routed model needs `input_ids`: embeddings do not show the instruction.")
        rows = [row[kept.bool()].tolist() for row, kept in zip(ids, _plain(mask, ids), strict=True)]
        found = [self.kept.recall(row) for row in rows]
        return [self.read(row) if turns is None else turns for row, turns in zip(rows, found, strict=True)]

    @property
    def valid_subspaces(self) -> list[int]:
        """The subspaces that may answer."""
        return np.flatnonzero(self.router.used).tolist()

    def _set(
        self,
        turns: Sequence[Turns],
        ids: torch.Tensor,
        inputs: Mapping[str, Any],
        expands: bool = False,
        ask: Ask | None = None,
    ) -> None:
        weights, image_tokens = self._weights(turns, ids, inputs, ask or Ask()), features_by_row(ids, inputs, self.model.config)
        self.activation.set(weights, expands=expands, image_tokens=image_tokens)

    def _weights(self, turns: Sequence[Turns], ids: torch.Tensor, inputs: Mapping[str, Any], ask: Ask) -> torch.Tensor:
        def pixels() -> list[Images | None]:
            mask = _plain(inputs.get("attention_mask"), ids)
            return images_by_row(ids, mask, Images.of(inputs), self.model.config)

        embedded, decided = self.router.listen(turns, pixels)
        weighed = self.router.weigh(embedded)
        weights, distance = weighed.weights, weighed.distance
        if ask.subspace is None:
            self._unknown.log(distance, weights)
        else:
            weights = np.zeros_like(weights)
            weights[:, ask.subspace] = 1
        far = bool(distance.is_far[0])
        ask.answered = answered(weights[0], weighed.cosines[0], far, self.tasks, ask.subspace is not None)
        if (name_of := self.trace) is not None:
            for text, row in zip(map(" | ".join, decided), weights, strict=True):
                parts = [f"{name_of(k)} {weight:.3f}" for k, weight in enumerate(row) if abs(weight) >= 5e-4]
                brief = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
                logger.info_rank0(f"Activation of {brief!r}: {', '.join(parts) or 'the base model alone'}.")
        return torch.from_numpy(weights)


def _plain(mask: torch.Tensor | None, ids: torch.Tensor) -> torch.Tensor:
    """Which tokens are part of a prompt, [batch, length]; all where no mask, or one of pairs of tokens, says it."""
    return torch.ones_like(ids) if mask is None or mask.dim() != 2 else mask
