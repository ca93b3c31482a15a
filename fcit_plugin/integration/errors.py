"""Seam: ``llamafactory.launcher`` - bad input ends a run with one sentence on stderr and exit code 1, without a traceback.

The exceptions themselves are left as they are, for those who call LLaMA-Factory from Python: only what the interpreter
shows of an uncaught one is replaced, and only once an fcit key, an fcit stage or an FCIT folder is in play.
``LLAMAFACTORY_VERBOSITY=DEBUG`` brings the traceback back.
"""

import dis
import errno
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import wrapt
import yaml
from omegaconf.errors import OmegaConfBaseException

_KEY_OR_STAGE = re.compile(r"""(?m)^[^#\n]*?(--fcit_|\bfcit_\w+["']?\s*[:=]|\bstage["']?[\s:=]+["']?fcit)""")
_ADAPTER = re.compile(r"""(?m)^[^#\n]*?\badapter_name_or_path["']?[\s:=]+([^#\n]*)""")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_RECIPE = (".yaml", ".yml", ".json")


def install(launcher_module) -> None:
    """Wrap ``launch``: the first that hears of a command line, and the one that starts torchrun."""

    def wrapper(wrapped, instance, args, kwargs):
        watch(sys.argv[2:])
        return wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(launcher_module, "launch", wrapper)


def watch(given: Mapping[str, Any] | Sequence[str]) -> bool:
    """End in a sentence from now on, if these arguments have to do with us.

    Args:
        given: A recipe's keys and values, or command line arguments, the first of which may be a recipe file.

    Returns:
        Whether they have.
    """
    ours = _concerns_fcit(_text(given))
    if ours:
        end_in_a_sentence()
    return ours


def _text(given: Mapping[str, Any] | Sequence[str]) -> str:
    if isinstance(given, Mapping):
        return "\n".join(f"{key}: {value}" for key, value in given.items())
    text = " ".join(given)
    if given and given[0].endswith(_RECIPE):
        path = Path(given[0])
        if path.is_file():
            text += "\n" + path.read_text(encoding="utf-8", errors="replace")
        elif path.name.startswith("fcit"):  # nothing else is known of a recipe that is not there
            text += "\nstage: fcit"
    return text


def _concerns_fcit(text: str) -> bool:
    if _KEY_OR_STAGE.search(text):
        return True
    adapters = [part for line in _ADAPTER.findall(text) for part in re.findall(r"""[^\s,"'\[\]]+""", line)]
    if not adapters:
        return False
    from .adapter import is_fcit_folder  # torch: only now

    return any(map(is_fcit_folder, adapters))


def read_recipe(read, argv: Sequence[str]) -> Any:
    """Read a recipe that has to do with us.

    Args:
        read: LLaMA-Factory's ``read_args``.
        argv: The command line; a recipe comes first, overrides follow.

    Raises:
        ValueError: The file cannot be read, or it or an override is no YAML; the sentence names it.
    """
    name = argv[0] if argv else ""
    if name.endswith(".json"):
        raise ValueError(f"The recipe {name} is JSON, which LLaMA-Factory fails to read; write it as YAML.")
    try:
        return read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        what = f"recipe {name}" if mark and mark.name == str(Path(name).absolute()) else f"command line after {name}"
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"The {what} is no valid YAML: {error.problem}; mend it{where}.") from error
    except OSError as error:
        raise ValueError(f"The recipe {name} cannot be read: {error.strerror or error}; check its name.") from error
    except (TypeError, ValueError, OmegaConfBaseException) as error:
        reason = one_line(error)
        raise ValueError(f"The recipe {name} cannot be read: {reason}; it has to be keys and values in UTF-8.") from error


def end_in_a_sentence() -> None:
    """Let an uncaught user's error end the process with one sentence from now on."""
    if not isinstance(sys.excepthook, _SentenceHook):
        sys.excepthook = _SentenceHook(sys.excepthook)


class _SentenceHook:
    """A ``sys.excepthook``; the interpreter's exit code is 1 whatever the hook does."""

    def __init__(self, otherwise) -> None:
        self.otherwise = otherwise

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        verbose = os.environ.get("LLAMAFACTORY_VERBOSITY", "").upper() == "DEBUG"
        sentence = None if verbose else sentence_of(error)
        if sentence is None:
            self.otherwise(kind, error, trace)
            return
        _tell_torchrun(sentence)
        if os.environ.get("RANK", "0") == "0":  # the other processes end alike, once is enough
            from tqdm import tqdm

            sys.stdout.flush()
            tqdm.write(f"fcit-plugin: {sentence} (LLAMAFACTORY_VERBOSITY=DEBUG shows the traceback)", file=sys.stderr)


def sentence_of(error: BaseException) -> str | None:
    """What to tell a user about an error, in one line.

    Users' errors are those of files and missing packages, and every ``ValueError`` that somebody wrote a message for,
    that is, one from a ``raise`` statement.

    Returns:
        None for an error that is a programmer's: a traceback says more.
    """
    if isinstance(error, subprocess.CalledProcessError):
        return "A process of this run has failed; its own message stands above."
    if isinstance(error, OSError) and error.strerror is not None:
        remedy = "free some space and start again" if error.errno in _FULL else "check that path"
        return f"{error.filename or 'A file'}: {error.strerror}; {remedy}."
    if isinstance(error, (OSError, ImportError)) or (isinstance(error, ValueError) and _was_raised(error)):
        line = one_line(error)
        return line if line[-1] in ".?!)" else f"{line}."
    return None


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def _was_raised(error: BaseException) -> bool:
    """Whether a ``raise`` statement made the error, and not the interpreter or compiled code on its way."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and dis.opname[trace.tb_frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"


def _tell_torchrun(sentence: str) -> None:
    """Put the sentence where torchrun looks for the cause, so that its summary names it, whichever process it was.

    See https://docs.pytorch.org/docs/stable/elastic/errors.html
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        told = {"message": {"message": sentence, "extraInfo": {"timestamp": str(int(time.time()))}}}
        Path(path).write_text(json.dumps(told), encoding="utf-8")
