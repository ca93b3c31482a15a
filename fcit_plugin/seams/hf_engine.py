"""Seam: ``llamafactory.chat.hf_engine`` - what a chat's user has said goes along, and no stream is waited for in vain.

Here messages become token ids, so the user's turns are known exactly, whatever the template: system prompts, tool
results and the expanded tokens of images are no part of them. So it is in :mod:`fcit_plugin.seams.loader`; prompts that
came in another way are read back from their ids (:func:`fcit_plugin.data.instructions.prompt_reader`).

A stream has a thread that writes and one that reads. LLaMA-Factory's reader waits forever for a writer that has failed, and
keeps its place of ``MAX_CONCURRENT`` and one of the few threads that read: some such requests end a server for good. And its
writer goes on for a reader who has gone. Here both end with each other, whatever model it is.
"""

import contextlib
import inspect
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

import torch
import wrapt
from fastapi import HTTPException
from transformers import StoppingCriteria, StoppingCriteriaList

from ..data.instructions import KEYWORD, ROUTING, user_turns
from ..serving.asking import ASK, check_subspace, taken_out


def install(engine_module) -> None:
    """Wrap the engine's functions that make token ids of messages, that read a stream, and that start its writer."""
    engine = engine_module.HuggingfaceEngine
    of_process, of_stream = (inspect.signature(getattr(engine, name)) for name in ("_process_args", "_stream_chat"))

    def process(wrapped, instance, args, kwargs):
        given = of_process.bind(*args, **kwargs).arguments
        ask = taken_out(given.get("input_kwargs", {}))
        check_subspace(given["model"], ask.subspace)
        if not hasattr(given["model"], ROUTING):
            return wrapped(*args, **kwargs)
        _refuse_without_text(given["messages"])
        turns = user_turns(given["messages"])
        generate_arguments, prompt_length = wrapped(*args, **kwargs)
        generate_arguments |= {KEYWORD: [turns], ASK: ask}
        return generate_arguments, prompt_length

    def read_stream(wrapped, instance, args, kwargs):
        writer = _Writer(instance.model)
        return _until_read(wrapped.__func__(_Streaming(instance, writer), *args, **kwargs), writer)

    def start_stream(wrapped, instance, args, kwargs):
        writer = of_stream.bind(*args, **kwargs).arguments["model"]
        return writer.reader(wrapped(*args, **kwargs))

    wrapt.wrap_function_wrapper(engine_module, "HuggingfaceEngine._process_args", process)
    wrapt.wrap_function_wrapper(engine_module, "HuggingfaceEngine.stream_chat", read_stream)
    wrapt.wrap_function_wrapper(engine_module, "HuggingfaceEngine._stream_chat", start_stream)


def _refuse_without_text(messages: Sequence[Mapping[str, Any]]) -> None:
    """A request is the client's: what it lacks is a 400, and no error of the server's."""
    for number, message in enumerate(messages):
        if not isinstance(message["content"], str):
            raise HTTPException(400, f"Message {number} ({message['role']}) has no text: `content` is null; send one.")


async def _until_read(texts: AsyncGenerator[str, None], writer: "_Writer") -> AsyncGenerator[str, None]:
    """The texts of a stream; its writer stops however the reading ends."""
    try:
        async with contextlib.aclosing(texts):
            async for text in texts:
                yield text
    finally:
        writer.stop()


class _Streaming(wrapt.ObjectProxy):
    """An engine for one stream, whose model writes for that alone."""

    def __init__(self, engine: Any, writer: "_Writer") -> None:
        super().__init__(engine)
        self._self_model = writer

    @property
    def model(self) -> "_Writer":
        """The engine's model."""
        return self._self_model


class _Writer(wrapt.ObjectProxy):
    """A model that writes one stream: it ends the stream if it fails, and stops if nobody reads any more."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._self_failure: BaseException | None = None
        self._self_unread = threading.Event()

    def generate(self, *args: Any, **kwargs: Any) -> None:
        """The model's own ``generate``, in its thread; what it raises is raised where the stream is read."""
        criteria = [*kwargs.pop("stopping_criteria", ()), _Unread(self._self_unread)]
        try:
            self.__wrapped__.generate(*args, stopping_criteria=StoppingCriteriaList(criteria), **kwargs)
        except BaseException as error:
            self._self_failure = error
            kwargs["streamer"].end()

    def reader(self, read: Callable[[], str]) -> Callable[[], str]:
        """What gives the next text, and raises what the writer has failed with."""

        def next_text() -> str:
            try:
                return read()
            except StopAsyncIteration:
                if self._self_failure is None:
                    raise
                failure, self._self_failure = self._self_failure, None
                try:
                    raise failure from None
                finally:
                    del failure  # it holds all that the generation held

        return next_text

    def stop(self) -> None:
        """To be called once nobody reads any more."""
        self._self_unread.set()


class _Unread(StoppingCriteria):
    """Ends all rows of a batch once the stream's reader has gone."""

    def __init__(self, unread: threading.Event) -> None:
        self.unread = unread

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        """Whether each row [batch] is done."""
        return torch.full((len(input_ids),), self.unread.is_set(), device=input_ids.device, dtype=torch.bool)  # type: ignore[return-value]
