"""What a user is told: bad input ends a run with one sentence on stderr and exit code 1, without a traceback.

The exceptions themselves are left as they are, for those who call LLaMA-Factory from Python: only what the interpreter
shows of an uncaught one is replaced, and only once an fcit key, an fcit stage or an FCIT folder is in play.
``LLAMAFACTORY_VERBOSITY=DEBUG`` brings the traceback back.
"""

import contextlib
import difflib
import errno
import json
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TextIO

#: Libraries that raise ``ValueError`` with a sentence over what stands in a recipe, a dataset or a model folder.
_CHECK_INPUT = {
    "accelerate",
    "datasets",
    "deepspeed",
    "huggingface_hub",
    "llamafactory",
    "omegaconf",
    "peft",
    "transformers",
    "trl",
}
#: The environment variable of a process that says what the first one says, too, and is not to say it again.
ECHOES = "FCIT_ECHOES"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: What writing says where nobody reads any more: a pipe whose reader has ended, a terminal that was closed.
_UNREAD = (errno.EPIPE, errno.EIO)


def printable(text: str) -> str:
    """A text that does nothing to a terminal but stand there.

    What would move its cursor, color it or turn the direction of reading is shown as an escape. Lines and tabs stay, and so
    do the joiners that Persian and emoji need.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in _STAYS else letter.encode("unicode_escape").decode() for letter in text
    )


_STAYS = "\n\t\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"


class FcitError(ValueError):
    """Bad input, said in one sentence that names the file, key, record or client and what to do about it.

    Names and values in it may come from anywhere, so the sentence is made :func:`printable`, one line, and of a length to be
    read.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(_readable(arg) if isinstance(arg, str) else arg for arg in args))


def _readable(sentence: str) -> str:
    in_one_line = _BREAKS.sub(" ", printable(sentence))
    sentence = _ENDLESS.sub(lambda word: f"{word[0][:_WORD]}...", in_one_line)
    return sentence if len(sentence) <= _SENTENCE else f"{sentence[:_SENTENCE]}..."


#: Letters of a word, such as a path, and of a sentence, that are shown at most.
_WORD, _SENTENCE = 1000, 10_000
_BREAKS = re.compile(r"\s*[\n\t]\s*")
_ENDLESS = re.compile(rf"\S{{{_WORD + 1},}}")


class OutOfMemory(FcitError):
    """Memory is too small; of several processes this one may be the only one that knows."""


def end_in_a_sentence(blame: Callable[[BaseException], str | None] = lambda error: None) -> None:
    """Let an uncaught user's error end the process with one sentence from now on.

    Args:
        blame: Says of any other error whose code it came from, as a sentence that is shown behind the traceback.
    """
    if not isinstance(sys.excepthook, _SentenceHook):
        sys.excepthook = _SentenceHook(sys.excepthook, blame)


class _SentenceHook:
    """A ``sys.excepthook``; the interpreter's exit code is 1 whatever the hook does."""

    def __init__(self, otherwise: Callable, blame: Callable[[BaseException], str | None]) -> None:
        self.otherwise = otherwise
        self.blame = blame

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sentence = None if is_debugging() else sentence_of(error)
        blamed = None if isinstance(error, FcitError) else self.blame(error)
        if isinstance(error, ImportError):
            sentence = sentence and (blamed or sentence)  # a missing package is no help without who asks for it
        if sentence is None:
            self.otherwise(kind, error, trace)
            if blamed is not None:
                print(f"fcit-plugin: {blamed}", file=sys.stderr)
            return
        sentence = printable(" ".join([sentence, *getattr(error, "__notes__", ())]))
        _tell_torchrun(sentence)
        if not _is_echo() or isinstance(error, OutOfMemory):  # of other errors all end alike
            from tqdm import tqdm

            with contextlib.suppress(OSError, ValueError):  # nobody may read either of them any more
                sys.stdout.flush()
            with contextlib.suppress(OSError, ValueError):
                tqdm.write(f"fcit-plugin: {sentence} (LLAMAFACTORY_VERBOSITY=DEBUG shows the traceback)", file=sys.stderr)


def tell(text: str) -> None:
    """Print what has come of a run; where nobody reads it any more, or it cannot be written, the run goes on all the same."""
    try:
        print(text, flush=True)
    except OSError as error:
        if error.errno in _UNREAD:  # else the interpreter tries once more at its end, and makes an exit code of it
            with contextlib.suppress(OSError, ValueError):
                to_nowhere(sys.stdout)


def to_nowhere(stream: TextIO) -> None:
    """Have all that is written to a stream from now on, and what it still holds, go nowhere.

    Raises:
        OSError: It is no file.
        ValueError: It is closed.
    """
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def is_debugging() -> bool:
    """Whether all is to be said, tracebacks and what other libraries tell."""
    return os.environ.get("LLAMAFACTORY_VERBOSITY", "").upper() == "DEBUG"


def _is_echo() -> bool:
    """Whether this process is not the first of those that end alike."""
    return os.environ.get("RANK", "0") != "0" or ECHOES in os.environ


def sentence_of(error: BaseException) -> str | None:
    """What to tell a user about an error, in one line.

    Users' errors are ours (:class:`FcitError`), those of files and missing packages, and a ``ValueError`` of a library that
    checks what users write.

    Returns:
        None for an error that is a programmer's: a traceback says more.
    """
    if isinstance(error, KeyboardInterrupt):
        return (
            "Stopped by hand; a run that is started again without `overwrite_output_dir: true` goes on from what it has kept, "
            "and so does a site."
        )
    if isinstance(error, subprocess.CalledProcessError):
        return "A process of this run has failed; its own message stands above."
    if isinstance(error, OSError) and error.strerror is not None:
        remedy = "; free some space and start again" if error.errno in _FULL else "; check that path" if error.filename else ""
        return f"{error.filename or 'The operating system says'}: {error.strerror}{remedy}."
    if isinstance(error, (FcitError, OSError, ImportError)) or (isinstance(error, ValueError) and _is_users(error)):
        line = one_line(error)
        return line if line[-1] in ".?!)" else f"{line}."
    return None


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def with_place(error: BaseException) -> str:
    """The kind and the message of an error, and the file and line that it was raised at."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {one_line(error)}{where}"


def root_cause(error: BaseException) -> BaseException:
    """The error that all others were raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _is_users(error: ValueError) -> bool:
    """Whether an error that is none of ours was raised by a library that checks what users write."""
    return module_of(error).partition(".")[0] in _CHECK_INPUT


def module_of(error: BaseException) -> str:
    """The name of the module that raised an error; empty for one that was not raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))


def _tell_torchrun(sentence: str) -> None:
    """Put the sentence where torchrun looks for the cause, so that its summary names it, whichever process it was.

    See https://docs.pytorch.org/docs/stable/elastic/errors.html
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        told = {"message": {"message": sentence, "extraInfo": {"timestamp": str(int(time.time()))}}}
        with contextlib.suppress(OSError):  # the disk may be full: that may be what the sentence says
            Path(path).write_text(json.dumps(told), encoding="utf-8")


def closest(name: str, candidates: Iterable[str]) -> str:
    """The one of several names that is most like a given one, however unlike that is."""
    return difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.0)[0]


def nearest(name: str, candidates: Iterable[str]) -> str:
    """What to say about an unknown name: the one probably meant, and all valid ones."""
    candidates = list(candidates)
    match = meant(name, candidates)
    hint = f"did you mean `{match}`? " if match else ""
    return f"{hint}Valid: {', '.join(candidates)}."


def meant(name: str, candidates: Iterable[str]) -> str | None:
    """The name that an unknown one was probably meant to be; None where none is near."""
    return next(iter(difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.5)), None)
