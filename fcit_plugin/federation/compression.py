"""Compressed updates: a client answers with its change in fewer bytes, and the server makes weights of it again.

With x what a client was sent and y what it has trained, it returns Q(y - x) in place of y, for each tensor of its weights
(:data:`.messages.ARRAYS`, :data:`.messages.SHARED`). The server goes on with x + Q(y - x), float32, before it looks at anything
else. The identity token, and what a method or a server rule wants beside the weights, travel as they are.

- bf16: the nearest bfloat16, ties to even. NumPy, and so Flower's arrays, have no such type: the 16 bits travel as uint16.
- int8: Q(v) = s round(v / s), ties to even, with s = max |v| / 127, one float32 for each tensor. All s of a record travel as
  one array (record :data:`SCALES`) in the order of its sorted keys. A scale for each row would cost 4 bytes for every r
  numbers of a LoRA factor B, half as much again at rank 8, where error feedback makes up for the coarser step anyway.

int8 has error feedback (Seide et al. 2014, "1-Bit Stochastic Gradient Descent"; Karimireddy et al. 2019, arXiv 1901.09847):

    v = y - x + e,  send Q(v),  e <- v - Q(v)

so that what rounding takes from one update is in the client's next one. The residual e is the client's own and never travels:
it stays in Flower's ``Context.state`` (record :data:`RESIDUAL`), by subspace and tensor, for a client may train several
subspaces; that of the shared trainables is apart from all of them. A client holds none of a subspace that its update opens: the
number which that has is settled only when the round is folded. A residual of another shape is of another model, and dropped.
A client does not learn whether its update was used, so its residual goes on either way, as its data would.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from typing_extensions import override

from .arrays import LazyArray, numbers_of
from .messages import ARRAYS, SHARED, arrays_of, config_of, record_in, record_of, returned, weight_names

#: Record with the scales of the compressed records, float32 [tensors], by their names.
SCALES = "scales"
#: Record of a client's own state with its residuals, by ``subspace/tensor`` or ``shared/tensor``.
RESIDUAL = "residual"

#: From float32 numbers to those that travel and their scale, and back.
Encode = Callable[[np.ndarray], tuple[np.ndarray, np.float32]]
Decode = Callable[[np.ndarray, np.float32], np.ndarray]


@dataclass(frozen=True)
class Compression:
    """One way to send a change.

    Attributes:
        dtype: NumPy's name of the numbers that travel.
        encode: Makes them of a change.
        decode: Makes a change of them.
        scaled: Whether each tensor has a scale that travels, too.
        feedback: Whether the client keeps what rounding takes.
    """

    dtype: str
    encode: Encode
    decode: Decode
    scaled: bool = False
    feedback: bool = False

    @property
    def width(self) -> int:
        """Bytes of a number."""
        return np.dtype(self.dtype).itemsize


def _to_bf16(change: np.ndarray) -> tuple[np.ndarray, np.float32]:
    return torch.as_tensor(change).to(torch.bfloat16).contiguous().view(torch.uint16).numpy(), np.float32(1)


def _from_bf16(numbers: np.ndarray, scale: np.float32) -> np.ndarray:
    return (numbers.astype(np.uint32) << 16).view(np.float32)  # a bfloat16 is the upper half of a float32


def _to_int8(change: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """Numbers from -127 to 127. A change that is not finite has such a scale, which the server cannot but see."""
    scale = np.float32(np.abs(change).max(initial=0) / np.float32(127))
    if not 0 < scale < np.inf:
        return np.zeros(change.shape, np.int8), scale
    return np.asarray(np.clip(np.rint(change / scale), -127, 127), np.int8), scale


def _from_int8(numbers: np.ndarray, scale: np.float32) -> np.ndarray:
    return numbers.astype(np.float32) * scale


#: By the value of ``fcit_update_compression``; "none" is the absence of one.
COMPRESSIONS: Mapping[str, Compression] = {
    "bf16": Compression("uint16", _to_bf16, _from_bf16),
    "int8": Compression("int8", _to_int8, _from_int8, scaled=True, feedback=True),
}


def compression_of(request: Message) -> Compression | None:
    """How the reply to a request is compressed; None if it is not."""
    name = config_of(request).compression
    return None if name is None else COMPRESSIONS[name]


@np.errstate(invalid="ignore", over="ignore")
def _sent(
    trained: Array, sent: Array, residual: Array | None, compression: Compression
) -> tuple[np.ndarray, np.float32, np.ndarray]:
    """What travels of one tensor, its scale, and what rounding leaves.

    What is not finite is for the server to refuse, by name; nobody has to be warned of it here.
    """
    change = np.asarray(numbers_of(trained) - numbers_of(sent))
    if residual is not None and tuple(residual.shape) == change.shape:
        change += numbers_of(residual)
    numbers, scale = compression.encode(change)
    return numbers, scale, np.asarray(change - compression.decode(numbers, scale))


def compress_update(request: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """A Flower mod for a client's training: its reply holds the compressed change in place of the weights.

    Only where the request asks for it; then error feedback's residual is in ``context.state``.
    """
    reply = call_next(request, context)
    compression = compression_of(request)
    if compression is None or reply.has_error():
        return reply
    config = config_of(request)
    residuals: dict[str, Array] = {}
    if RESIDUAL in context.state:
        residuals.update(record_in(context.state, RESIDUAL, ArrayRecord))
    scales: dict[str, Array] = {}
    for name in weight_names(reply):
        owner = SHARED if name == SHARED else config.subspace
        kept = compression.feedback and not (name == ARRAYS and config.opens)
        numbers, of_record, sent = {}, [], arrays_of(request, name)
        for key, trained in sorted(arrays_of(reply, name).items()):
            residual = residuals.get(f"{owner}/{key}") if kept else None
            values, scale, left = _sent(trained, sent[key], residual, compression)
            numbers[key] = Array(values)
            of_record.append(scale)
            if kept and np.isfinite(left).all():
                residuals[f"{owner}/{key}"] = Array(left)
        reply.content[name] = record_of(numbers)
        scales[name] = Array(np.array(of_record, np.float32))
    if compression.scaled:
        reply.content[SCALES] = record_of(scales)
    if residuals:
        context.state[RESIDUAL] = record_of(residuals)
    return reply


class RestoredArray(LazyArray):
    """x + Q(y - x), float32, computed each time that its data are asked for: no second copy of a reply is held.

    Args:
        sent: x.
        change: Q(y - x) as it traveled; of the right shape and dtype.
        scale: Its scale.
        compression: What made it.
    """

    def __init__(self, sent: Array, change: Array, scale: np.float32, compression: Compression) -> None:
        super().__init__("float32", tuple(sent.shape))
        self._sent, self._change, self._scale, self._compression = sent, change, scale, compression

    @override
    @np.errstate(invalid="ignore", over="ignore")
    def numpy(self) -> np.ndarray:
        return np.asarray(numbers_of(self._sent) + self._compression.decode(numbers_of(self._change), self._scale))


def restored(reply: Message, request: Message, compression: Compression) -> Message:
    """A reply with weights in place of compressed changes.

    Args:
        reply: The reply; records, shapes and dtypes are right (:mod:`.validation`), numbers may be anything.
        request: What it answers.
        compression: What :func:`compression_of` gives for the request.
    """
    content = RecordDict({name: record for name, record in reply.content.items() if name != SCALES})
    for name in weight_names(request):
        keys = sorted(returned(request, name))
        scales = numbers_of(arrays_of(reply, SCALES)[name]) if compression.scaled else np.ones(len(keys), np.float32)
        sent, got = arrays_of(request, name), arrays_of(reply, name)
        content[name] = record_of(
            {key: RestoredArray(sent[key], got[key], scale, compression) for key, scale in zip(keys, scales, strict=True)}
        )
    return Message(content, reply_to=request)
