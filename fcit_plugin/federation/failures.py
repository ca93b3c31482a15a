"""Whose failure an error is: a client's, which costs it the round, or the machine's or a programmer's, which ends the run.

A client's are those that its records or its reply bring about: a refusal (:class:`~fcit_plugin.errors.FcitError`), what
a library says of records that it cannot use, a file that it cannot decode, a number that is not finite, a deadline.
Everything else ends the run: where clients share one process, memory, devices, packages and disks are none of theirs, and
to go on without those that happened to meet the fault would train on a part of the data and say that all went well. At
a site of its own whatever fails costs that site its reply.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from PIL import UnidentifiedImageError

from ..errors import FcitError, OutOfMemory, module_of, one_line

#: What a mistake in a program raises, and data or a machine hardly ever do.
PROGRAMMERS = (AttributeError, ImportError, NameError, NotImplementedError, TypeError)
#: Libraries that say with a ``ValueError`` that records do not fit, but for their modules that set a training up.
_CHECK_RECORDS = ("datasets", "llamafactory", "PIL", "transformers", "trl")
_SET_UP = ("transformers.integrations", "transformers.trainer", "transformers.training_args")
#: Libraries that decode images, videos and audio.
_DECODE = ("audioread", "av", "decord", "librosa", "PIL", "soundfile", "torchaudio", "torchcodec")
#: Modules that raise for others: torch._check for models, which compare a record's images with its tokens by it, and what
#: brings an error over from a data loader's worker, where records are read and nothing else is done.
_FOR_OTHERS = ("torch", "torch._utils")
#: What a system says of itself and not of the file at hand.
_OF_THE_MACHINE = frozenset(
    getattr(errno, name) for name in ("EDQUOT", "EFBIG", "EIO", "EMFILE", "ENFILE", "ENOMEM", "ENOSPC", "EROFS", "ESTALE")
)
#: How PyTorch and the libraries below it say in a ``RuntimeError`` that memory is too small.
_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")


def is_clients(error: BaseException) -> bool:
    """Whether an error in a client's code is that client's own failure, and not one of the machine or of a program."""
    if any(_is_machines(each) for each in _chain(error)):
        return False
    if isinstance(error, (FcitError, FloatingPointError, UnidentifiedImageError)):
        return True
    module = module_of(error)
    if _within(module, _DECODE):
        return not isinstance(error, PROGRAMMERS)
    if isinstance(error, TimeoutError):
        return error.errno is None  # with a number it is the network's
    if isinstance(error, (OSError, ValueError)) and module in _FOR_OTHERS:
        return True
    return isinstance(error, ValueError) and _within(module, _CHECK_RECORDS) and not _within(module, _SET_UP)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the machine or of a device, is too small."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)


@contextmanager
def naming_memory(what: str, remedy: str) -> Iterator[None]:
    """Say of memory that is too small within the block what it was needed for and what makes it enough.

    Args:
        what: What is done within the block.
        remedy: A sentence.

    Raises:
        OutOfMemory: Memory is too small.
    """
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        first = one_line(error).partition(". ")[0].rstrip(".")  # PyTorch goes on with a page about its allocator
        raise OutOfMemory(f"Memory is too small for {what}: {first}. {remedy}") from error


def _is_machines(error: BaseException) -> bool:
    return is_out_of_memory(error) or (isinstance(error, OSError) and error.errno in _OF_THE_MACHINE)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was raised from or while handling."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith((f"{package}.", f"{package}_")) for package in packages)
