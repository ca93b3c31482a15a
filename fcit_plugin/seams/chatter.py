"""Seam: ``llamafactory.webui.chatter`` - below each reply in the browser stands which subspace answered."""

from collections.abc import Iterator
from typing import Any

import wrapt

from ..evaluation.tables import code
from ..serving.asking import ASK, Ask, routing_of, sentence


def install(chatter) -> None:
    """Wrap the function that streams a reply into the page."""

    def stream(wrapped, instance, args, kwargs):
        if routing_of(getattr(instance.engine, "model", None)) is None:
            yield from wrapped(*args, **kwargs)
            return
        ask = Ask()
        for chatbot, messages in wrapped.__func__(_Asking(instance, ask), *args, **kwargs):
            yield chatbot, messages
        if ask.answered is not None:  # a message of the page alone: the history goes back to the model
            yield [*chatbot, {"role": "assistant", "content": code(sentence(ask.answered))}], messages

    wrapt.wrap_function_wrapper(chatter, "WebChatModel.stream", stream)


class _Asking(wrapt.ObjectProxy):
    """The page's chat model, which is told who answers one request."""

    def __init__(self, chat_model: Any, ask: Ask) -> None:
        super().__init__(chat_model)
        self._self_ask = ask

    def stream_chat(self, *args: Any, **kwargs: Any) -> Iterator[str]:
        """LLaMA-Factory's, with what the request asks."""
        return self.__wrapped__.stream_chat(*args, **kwargs, **{ASK: self._self_ask})
