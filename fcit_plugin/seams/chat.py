"""Seam: ``llamafactory.api.chat`` - each reply of the API tells which subspace answered; a request may ask for another."""

import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

import wrapt
from fastapi import HTTPException

from ..errors import FcitError
from ..files import parse_json
from ..serving.asking import ASK, Ask, check_subspace, routing_of


def install(chat) -> None:
    """Wrap the functions that answer a request as a whole and as a stream."""

    async def whole(wrapped, instance, args, kwargs):
        request, chat_model = args
        ask = _asked(request, chat_model)
        if ask is None:
            return await wrapped(request, chat_model)
        response = await wrapped(request, _Asking(chat_model, ask))
        response.fcit = ask.answered
        return response

    def stream(wrapped, instance, args, kwargs):
        request, chat_model = args
        ask = _asked(request, chat_model)  # now: once the stream has begun its status is said
        return wrapped(request, chat_model) if ask is None else _told(wrapped(request, _Asking(chat_model, ask)), ask)

    wrapt.wrap_function_wrapper(chat, "create_chat_completion_response", whole)
    wrapt.wrap_function_wrapper(chat, "create_stream_chat_completion_response", stream)


def _asked(request: Any, chat_model: Any) -> Ask | None:
    """What a request asks; None of a model without subspaces. What cannot be is the client's error."""
    model = getattr(chat_model.engine, "model", None)
    try:
        check_subspace(model, request.fcit_subspace)
    except FcitError as error:
        raise HTTPException(400, str(error)) from error
    return None if routing_of(model) is None else Ask(request.fcit_subspace)


class _Asking(wrapt.ObjectProxy):
    """A chat model for one request."""

    def __init__(self, chat_model: Any, ask: Ask) -> None:
        super().__init__(chat_model)
        self._self_ask = ask

    def achat(self, *args: Any, **kwargs: Any) -> Any:
        """LLaMA-Factory's, with what the request asks."""
        return self.__wrapped__.achat(*args, **kwargs, **{ASK: self._self_ask})

    def astream_chat(self, *args: Any, **kwargs: Any) -> Any:
        """The same for a stream."""
        return self.__wrapped__.astream_chat(*args, **kwargs, **{ASK: self._self_ask})


async def _told(chunks: AsyncGenerator[str, None], ask: Ask) -> AsyncGenerator[str, None]:
    """The chunks of a stream; the last one, which says why it ends, tells who has answered."""
    async with contextlib.aclosing(chunks):  # a reader who goes ends both
        async for chunk in chunks:
            if ask.answered is not None and chunk.startswith("{"):
                values = parse_json(chunk)
                if values["choices"][0]["finish_reason"] is not None:
                    chunk = json.dumps({**values, "fcit": ask.answered}, ensure_ascii=False)
            yield chunk
