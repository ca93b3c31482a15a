"""What the base model makes of an instruction that stands in a frame: its hidden states, by base weights alone."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from peft import PeftModel
from torch import nn
from transformers.integrations import is_deepspeed_zero3_enabled

from ..adapters.base_alone import base_alone
from ..errors import FcitError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Before and behind an instruction: the state of the last token is then the word that is to come, its meaning
#: (PromptEOL, arXiv 2307.16645). Of six frames this one told rewordings best.
FRAME = 'The task asked for in "', '" means in one word: "'
#: How deep in the model the last token's state is read, and the mean of the instruction's own tokens: as shares of its layers.
LAST, OWN = 0.93, 0.75
#: Tokens of an instruction that are read: the first and the last of them. What is asked stands at an end of a long prompt.
MOST_TOKENS = 256
#: Texts, and tokens with padding, that go through the model together.
_TEXTS, _TOKENS = 64, 8192
#: Tokens of padding that are no more than a pass of their own would cost, and the share of the others that they may be.
_PADDING, _SHARE = 64, 0.25


class FramedStates:
    """Hidden states of a base model for instructions in a frame.

    Of L layers the last token's state is that behind layer round(0.93 L), but never of the last layer of several, which makes
    the next word of it; beside it stands the mean over the instruction's own tokens behind layer round(0.75 L), of the same
    pass. Layers above are not computed. The instruction is cut into tokens apart from the frame, and padding stands behind it,
    so what the states are made of does not depend on the other texts of a batch.

    Args:
        model: The base model, with or without adapters.
        tokenizer: Its tokenizer.

    Raises:
        FcitError: The model has no layers that can be looked behind, or is no language model that reads forwards.
    """

    def __init__(self, model: "PreTrainedModel | PeftModel", tokenizer: "PreTrainedTokenizerBase") -> None:
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        self.decoder: Any = base.get_decoder()  # type: ignore[operator]  # PEFT says that it may be a tensor
        if not hasattr(self.decoder, "layers"):
            self.decoder = getattr(self.decoder, "model", None)  # Llama 4 has a whole language model there
        layers = getattr(self.decoder, "layers", None)
        if not isinstance(layers, nn.ModuleList) or not len(layers):
            raise FcitError(f"{type(base).__name__} has no list of layers that hidden states could be read behind")
        if getattr(self.decoder.config, "use_bidirectional_attention", False):
            raise FcitError(f"{type(base).__name__} lets a token see those behind it, and with them the padding of a batch")
        self.tokenizer = tokenizer
        self.width = int(self.decoder.config.hidden_size)
        count = len(layers)
        last = min(max(round(LAST * count), 1), max(count - 1, 1))
        own = min(max(round(OWN * count), 1), last)
        self._layers, self._own = layers[:last], own
        self._before: list[int] = tokenizer(FRAME[0])["input_ids"]  # with what begins each text of this model
        self._behind: list[int] = tokenizer(FRAME[1], add_special_tokens=False)["input_ids"]

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """The last token's state and the mean of the instruction's own states, float32 [n, 2, D]."""
        rows = [self.ids(text) for text in texts]
        found = np.empty((len(rows), 2, self.width), np.float32)
        for batch in batches([len(row) for row in rows]):
            found[batch] = self._states([rows[i] for i in batch]).numpy()
        return found

    def ids(self, text: str) -> list[int]:
        """The tokens of an instruction in its frame."""
        own: list[int] = self.tokenizer(text or " ", add_special_tokens=False)["input_ids"]
        if len(own) > MOST_TOKENS:
            own = own[: MOST_TOKENS // 2] + own[-MOST_TOKENS // 2 :]
        return [*self._before, *own, *self._behind]

    @torch.no_grad()
    def _states(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """The states of one batch, float32 [n, 2, D] on the CPU."""
        lengths = torch.tensor([len(row) for row in rows])
        padded = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        places = torch.arange(padded.shape[1])
        mask = places < lengths[:, None]
        own = (places >= len(self._before)) & (places < lengths[:, None] - len(self._behind))
        own[:, len(self._before) - 1] |= ~own.any(dim=1)  # some tokenizers make nothing of white space
        device = self.decoder.get_input_embeddings().weight.device
        inputs = {"input_ids": padded.to(device), "attention_mask": mask.long().to(device), "use_cache": False}
        with (
            base_alone(self.decoder),
            _gathering_each(self.decoder),
            _behind(self._layers, self._own) as seen,
            contextlib.suppress(_Enough),
        ):
            self.decoder(**inputs)
        states, end = seen
        weights = own.to(states.device)
        mean = (states.float() * weights[..., None]).sum(dim=1) / weights.sum(dim=1, keepdim=True)
        last = end[torch.arange(len(rows)), lengths - 1].float()
        return torch.stack([last.cpu(), mean.cpu()], dim=1)


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Which texts go through the model together: of about one length, no more than it takes at a time.

    A short sentence beside a long prompt would be computed as long as that one.

    Args:
        lengths: Tokens of each text.
    """
    batch: list[int] = []
    tokens = 0
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        padded, tokens = lengths[i] * (len(batch) + 1), tokens + lengths[i]
        wasted = padded - tokens > max(_PADDING, _SHARE * tokens)
        if batch and (len(batch) == _TEXTS or padded > _TOKENS or wasted):
            yield batch
            batch, tokens = [], lengths[i]
        batch.append(i)
    if batch:
        yield batch


class _Enough(Exception):
    """Ends a pass behind the last layer that is wanted."""


@contextlib.contextmanager
def _behind(layers: nn.ModuleList, own: int) -> Iterator[list[torch.Tensor]]:
    """Within the block one pass of this thread leaves what layer `own` and the last of some layers put out, and ends there.

    Of layers that have nothing to do in a pass, as those that look at an image, the one before counts. With ZeRO-3 the pass
    goes on: DeepSpeed counts on passes that come to their end.
    """
    seen: list[torch.Tensor] = []
    mine, ends = threading.get_ident(), not is_deepspeed_zero3_enabled()  # type: ignore[no-untyped-call]

    def keep(layer: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == mine:
            states, number = output[0] if isinstance(output, tuple) else output, numbers[layer]
            seen[:] = [states if number <= own or not seen else seen[0], states]
            if ends and number == len(layers):
                raise _Enough

    numbers = {layer: number for number, layer in enumerate(layers, 1)}
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _gathering_each(model: nn.Module) -> Iterator[None]:
    """Within the block ZeRO-3's processes, which all go through the same passes, gather each module's weights while it works.

    So no more than one layer's weights are whole at a time, and no engine is needed.
    """
    hooks = []
    if is_deepspeed_zero3_enabled():  # type: ignore[no-untyped-call]
        import deepspeed

        held: dict[nn.Module, Any] = {}

        def gather(module: nn.Module, args: Any) -> None:
            held[module] = deepspeed.zero.GatheredParameters([*module.parameters(recurse=False)])
            held[module].__enter__()

        def release(module: nn.Module, args: Any, output: Any) -> None:
            held.pop(module).__exit__(None, None, None)

        for module in model.modules():
            if next(module.parameters(recurse=False), None) is not None:
                hooks += [module.register_forward_pre_hook(gather), module.register_forward_hook(release)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
