"""Seam: ``llamafactory.webui.chatter`` - below each reply in the browser stands who answered; a subspace can be asked for."""

import weakref
from collections.abc import Iterator
from typing import Any

import wrapt

from ..evaluation.tables import code
from ..serving.asking import ASK, Ask, routing_of, sentence
from ..serving.chosen_subspace import named

#: By the browser's session, in an attribute of the page's chat model: the model that is talked to, and who is to answer.
_CHOSEN = "fcit_chosen"


def install(chatter) -> None:
    """Wrap the function that streams a reply into the page."""

    def stream(wrapped, instance, args, kwargs):
        if routing_of(getattr(instance.engine, "model", None)) is None:
            yield from wrapped(*args, **kwargs)
            return
        ask = Ask(_chosen(instance))
        for chatbot, messages in wrapped.__func__(_Asking(instance, ask), *args, **kwargs):
            yield chatbot, messages
        if ask.answered is not None:  # a message of the page alone: the history goes back to the model
            yield [*chatbot, {"role": "assistant", "content": code(sentence(ask.answered))}], messages

    wrapt.wrap_function_wrapper(chatter, "WebChatModel.stream", stream)


def subspaces(chatter: Any) -> dict[int, str]:
    """Those that can answer in the page's chat, by number what each is called; none of a model without subspaces."""
    routing = routing_of(getattr(chatter.engine, "model", None))
    return {} if routing is None else {k: named(routing, k) for k in routing.valid_subspaces}


def choose(chatter: Any, session: str, subspace: int | None) -> None:
    """Have a subspace answer alone in one browser's session, as long as the page's chat has this model.

    Args:
        chatter: The page's chat model.
        session: Which browser's.
        subspace: None for those that each message activates.
    """
    model = weakref.ref(chatter.engine.model)
    vars(chatter).setdefault(_CHOSEN, {})[session] = model, subspace


def _chosen(chatter: Any) -> int | None:
    from gradio.context import LocalContext  # it is there: a page asks

    request = LocalContext.request.get(None)  # what is handed to a reply is said by LLaMA-Factory, and no session is among it
    session = None if request is None else request.session_hash
    model, subspace = vars(chatter).get(_CHOSEN, {}).get(session, (lambda: None, None))
    return subspace if model() is chatter.engine.model else None


class _Asking(wrapt.ObjectProxy):
    """The page's chat model, which is told who answers one request."""

    def __init__(self, chat_model: Any, ask: Ask) -> None:
        super().__init__(chat_model)
        self._self_ask = ask

    def stream_chat(self, *args: Any, **kwargs: Any) -> Iterator[str]:
        """LLaMA-Factory's, with what the request asks."""
        return self.__wrapped__.stream_chat(*args, **kwargs, **{ASK: self._self_ask})
