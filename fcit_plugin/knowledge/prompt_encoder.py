"""The base model as its own identity encoder (``fcit_identity_encoder: prompt``), and whether it is fit for that."""

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save
from transformers.integrations import is_deepspeed_zero3_enabled

from ..adapters.lora import whole_weight
from ..cache import cache_folder
from ..errors import FcitError, one_line
from ..files import write_bytes
from ..tensor_files import load_tensors
from .framed import FRAME, FramedStates
from .nearness import PLAIN, WHITENED
from .public_lists import public_pairs, wrapped_kinds
from .vectors import on_grid, unit
from .whitening import Whitening

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

#: Texts whose tokens are kept: a conversation's earlier turns are asked for again with each of its requests.
_KEPT = 1024
#: Of the public pairs so many have to be told for `auto` to take the base model.
ENOUGH = 15
_RIGHT = "right"


class PromptEncoder:
    """An instruction's hidden states in a frame, whitened (:mod:`.framed`, :mod:`.whitening`); float32 [n, 2 D] of length 1.

    Whitening takes away what the states of a public list of instructions share, and counts less how they vary with wording,
    politeness around it and upper case. It is computed once for a base model and kept in the package's cache.

    Args:
        model: The base model, with or without adapters.
        tokenizer: Its tokenizer.
        center: Whether to whiten; without it tokens are raw and all near to each other.

    Attributes:
        nearness: The cosines that belong to these tokens.

    Raises:
        FcitError: The model has no layers that can be looked behind.
    """

    def __init__(self, model: "PreTrainedModel | PeftModel", tokenizer: "PreTrainedTokenizerBase", center: bool = True) -> None:
        try:
            self.states = FramedStates(model, tokenizer)
        except FcitError as error:
            raise FcitError(
                f"`fcit_identity_encoder: prompt` cannot be used, for {one_line(error)}; take embedding or a text encoder."
            ) from error
        self.nearness = WHITENED if center else PLAIN
        self._memory: OrderedDict[str, np.ndarray] = OrderedDict()
        self._most = _KEPT
        self._lock = threading.Lock()
        self._kept = _Kept.of(self.states) if center else None
        self._parts = self._whitening() if center else None

    @property
    def width(self) -> int:
        """How long a token is."""
        return 2 * self.states.width

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Identity tokens of the texts, float32 [n, 2 D]."""
        with self._lock:
            found = self._found(texts)
        return np.stack([found[text] for text in texts])

    def know(self, texts: Sequence[str]) -> None:
        """Encode texts ahead, and keep what comes of them for as long as this encoder lives."""
        with self._lock:
            self._most = max(self._most, len({*texts, *self._memory}))
            self._found(texts)

    def forget(self) -> None:
        """Drop the tokens that are kept."""
        with self._lock:
            self._memory.clear()

    def _found(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """The tokens of texts, each of which goes through the model once."""
        found = {text: self._memory.pop(text) for text in dict.fromkeys(texts) if text in self._memory}
        if missing := [text for text in dict.fromkeys(texts) if text not in found]:
            found.update(zip(missing, on_grid(self._joined(self.states(missing))), strict=True))
        self._memory.update((text, found[text]) for text in list(found)[-self._most :])
        while len(self._memory) > self._most:
            self._memory.popitem(last=False)
        return found

    def _joined(self, states: np.ndarray) -> np.ndarray:
        parts = self._parts or (unit, unit)
        sides = [part(states[:, i]) for i, part in enumerate(parts)]
        joined: np.ndarray = np.concatenate(sides, axis=1) / np.sqrt(2)
        return joined

    def _whitening(self) -> tuple[Whitening, Whitening]:
        """The whitening of both halves, from the cache or found here."""
        assert self._kept is not None
        arrays = self._kept.read()
        if not arrays:
            kinds = wrapped_kinds()
            states = self.states([text for wordings in kinds for text in wordings])
            states = states.reshape(len(kinds), -1, *states.shape[1:])
            arrays = {
                f"{side}.{name}": value for side in (0, 1) for name, value in vars(Whitening.of(states[:, :, side])).items()
            }
            self._kept.write(arrays)
        return tuple(  # type: ignore[return-value]  # of two
            Whitening(*(arrays[f"{side}.{name}"] for name in ("center", "directions", "loss"))) for side in (0, 1)
        )

    def told_pairs(self) -> int:
        """For how many of the public pairs the second of the two is nearest to its own first; kept in the cache as well."""
        arrays = {} if self._kept is None else self._kept.read()
        if _RIGHT not in arrays:
            first, second = (self.encode(side) for side in zip(*public_pairs(), strict=True))
            right = int(((second @ first.T).argmax(axis=1) == np.arange(len(first))).sum())
            if self._kept is None:
                return right
            arrays[_RIGHT] = np.array([right])
            self._kept.write(arrays)
        return int(arrays[_RIGHT][0])


@dataclass
class _Kept:
    """What is kept of a base model in the package's cache, by what its weights and its tokens of the public lists are.

    Attributes:
        path: The file; None where there is no cache that could be written to.
    """

    path: Path | None

    @classmethod
    def of(cls, states: FramedStates) -> "_Kept":
        """Where it is kept for a model."""
        digest = hashlib.sha256(repr(FRAME).encode())
        for name, parameter in states.decoder.named_parameters():
            if "lora_" not in name:
                with whole_weight(parameter) as weight:
                    first = weight.detach().flatten()[:16].float().cpu()
                    plain = name.replace(".base_layer.", ".")
                    digest.update(f"{plain}{tuple(weight.shape)}{weight.dtype}".encode() + first.numpy().tobytes())
        for text in [text for part in (*wrapped_kinds(), *public_pairs()) for text in part]:
            digest.update(np.array(states.ids(text)).tobytes())
        if is_deepspeed_zero3_enabled():  # type: ignore[no-untyped-call]  # all processes go through a pass, or none: disks may differ
            return cls(None)
        try:
            folder = cache_folder() / "prompt"
            folder.mkdir(exist_ok=True)
        except OSError as error:
            logger.warning("What is found of the base model is not kept, for there is no cache (%s).", one_line(error))
            return cls(None)
        return cls(folder / f"{digest.hexdigest()[:32]}.safetensors")

    def read(self) -> dict[str, np.ndarray]:
        """What is kept; nothing if nothing is, or not in one piece: it is then found again."""
        if self.path is None or not self.path.is_file():
            return {}
        try:
            return load_tensors(self.path, "np")
        except FcitError:
            return {}

    def write(self, arrays: dict[str, np.ndarray]) -> None:
        """Keep it."""
        if self.path is not None:
            try:
                write_bytes(self.path, save({name: np.ascontiguousarray(value) for name, value in arrays.items()}))
            except OSError as error:
                logger.warning("%s cannot be written (%s); it is found again next time.", self.path, one_line(error))
