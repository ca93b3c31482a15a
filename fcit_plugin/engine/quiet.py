"""What other libraries say during a run: nothing that a newcomer could do nothing with, and no progress bar of theirs.

With ``LLAMAFACTORY_VERBOSITY=DEBUG`` they say all of it, but each model configuration once: a run looks at it several times.
"""

import contextlib
import gc
import logging
import sys
import warnings
from collections.abc import Iterator

import transformers
from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from ..errors import is_debugging

#: Beginnings of the lines by which transformers shows a configuration.
_CONFIGURATIONS = ("Model config ", "Generate config ")
#: Warnings of what is as it should be, by their first words.
_NO_NEWS = (
    "`torch_dtype` is deprecated",  # LLaMA-Factory's own word
    "'pin_memory' argument is set as true but no accelerator is found",  # the default, where there is no GPU
)
#: Loggers whose handlers write a run's lines.
_SPEAKERS = ("", "llamafactory", "transformers")
#: Loggers whose warnings are about what a run without them does not use.
_ONLY_ERRORS = ("bitsandbytes.backends.cpu.ops", "DeepSpeed")


class _Sieve(logging.Filter):
    """Lets no configuration through twice, and nothing that is no news."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """See :class:`logging.Filter`."""
        text = record.getMessage()
        if text.startswith(_NO_NEWS):
            return False
        if text.startswith(_CONFIGURATIONS):
            if text in self._shown:
                return False
            self._shown.add(text)
        return True


@contextlib.contextmanager
def quiet_others(deepspeed: bool = False) -> Iterator[None]:
    """Within the block other libraries only warn, unless all is asked for.

    Args:
        deepspeed: The run uses DeepSpeed, whose warnings are then of use.
    """
    with contextlib.ExitStack() as after:
        for handler in logging.getLogger("transformers").handlers:
            sieve = _Sieve()  # each has shown what it has shown
            handler.addFilter(sieve)
            after.callback(handler.removeFilter, sieve)
        for handler in {each for name in _SPEAKERS for each in logging.getLogger(name).handlers}:
            _let_go_on_unread(after, handler)
        if not is_debugging():
            _be_quiet(after, [name for name in _ONLY_ERRORS if not (deepspeed and name == "DeepSpeed")])
        yield


def _let_go_on_unread(after: contextlib.ExitStack, handler: logging.Handler) -> None:
    """Where lines cannot be written any more, to a terminal that was closed say, none is answered by a page of tracebacks."""
    theirs = handler.handleError

    def handle(record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            theirs(record)

    handler.handleError = handle  # type: ignore[method-assign]
    after.callback(vars(handler).pop, "handleError", None)


def _be_quiet(after: contextlib.ExitStack, only_errors: list[str]) -> None:
    """Say less until the stack is left."""
    theirs, ours = logging.getLogger("llamafactory"), logging.getLogger("fcit_plugin")
    said = theirs.getEffectiveLevel()
    _set_level(after, ours, ours.level or said)  # what we say is as it was
    _set_level(after, theirs, max(said, logging.WARNING))
    for name in only_errors:  # by a filter: DeepSpeed sets its level when it is imported
        logger = logging.getLogger(name)
        logger.addFilter(_is_error)
        after.callback(logger.removeFilter, _is_error)
    after.callback(transformers.logging.set_verbosity, transformers.logging.get_verbosity())
    transformers.logging.set_verbosity(max(transformers.logging.get_verbosity(), logging.WARNING))
    if transformers.logging.is_progress_bar_enabled():
        transformers.logging.disable_progress_bar()
        after.callback(transformers.logging.enable_progress_bar)
    if not are_progress_bars_disabled():
        disable_progress_bars()
        after.callback(enable_progress_bars)
    after.enter_context(warnings.catch_warnings())
    for words in _NO_NEWS:
        warnings.filterwarnings("ignore", message=words)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def _set_level(after: contextlib.ExitStack, logger: logging.Logger, level: int) -> None:
    after.callback(logger.setLevel, logger.level)
    logger.setLevel(level)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Within the block transformers only warns: its info lines would come once per client."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_warning()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)


@contextlib.contextmanager
def light_garbage_collection() -> Iterator[None]:
    """Within the block a collection looks only at what came since.

    Each client's trainer asks for full collections, and walking over the million objects of the imported libraries
    takes longer than a small client's training.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
