"""Seam: ``llamafactory.api.protocol`` - a request can name the subspace that is to answer, and a reply tells which one did.

LLaMA-Factory's models of a request and a reply drop what they do not know, so two of them get one key more.
"""

from typing import Any

from pydantic import SerializerFunctionWrapHandler, StrictInt, model_serializer


def install(protocol) -> None:
    """Put models with our keys in the place of LLaMA-Factory's: ``fcit_subspace`` of a request, ``fcit`` of a reply."""

    class ChatCompletionRequest(protocol.ChatCompletionRequest):
        fcit_subspace: StrictInt | None = None

    class ChatCompletionResponse(protocol.ChatCompletionResponse):
        fcit: dict[str, Any] | None = None

        @model_serializer(mode="wrap")
        def _without_nothing(self, handler: SerializerFunctionWrapHandler):  # a return type would be all that /docs shows
            """The reply of a model without subspaces is as it would be without us."""
            values = handler(self)
            if self.fcit is None:
                values.pop("fcit", None)
            return values

    protocol.ChatCompletionRequest = ChatCompletionRequest
    protocol.ChatCompletionResponse = ChatCompletionResponse
