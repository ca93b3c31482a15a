"""Seam: ``llamafactory.chat.chat_model`` - ``llamafactory-cli chat`` says after each reply which subspace answered."""

from collections.abc import Iterator
from typing import Any

import wrapt

from ..serving.asking import ASK, Ask, routing_of, sentence


def install(chat_model) -> None:
    """Wrap the loop that talks to a user; what it makes and streams from is a chat model that tells."""

    class Telling(chat_model.ChatModel):
        def stream_chat(self, *args: Any, **kwargs: Any) -> Iterator[str]:
            """See LLaMA-Factory's; what is told is shown and no part of the reply, which goes back to the model."""
            ask = Ask()
            told = {} if routing_of(getattr(self.engine, "model", None)) is None else {ASK: ask}
            yield from super().stream_chat(*args, **kwargs, **told)
            if ask.answered is not None:
                print(f"\n[{sentence(ask.answered)}]", end="", flush=True)

    def run(wrapped, instance, args, kwargs):
        plain, chat_model.ChatModel = chat_model.ChatModel, Telling
        try:
            return wrapped(*args, **kwargs)
        finally:
            chat_model.ChatModel = plain

    wrapt.wrap_function_wrapper(chat_model, "run_chat", run)
