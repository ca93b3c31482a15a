"""Seam: ``llamafactory.chat.hf_engine`` - what a chat's user has said goes along to the model that is routed by it.

Here messages become token ids, so the user's turns are known exactly, whatever the template: system prompts, tool
results and the expanded tokens of images are no part of them. So it is in :mod:`fcit_plugin.seams.loader`; prompts that
came in another way are read back from their ids (:func:`fcit_plugin.data.instructions.prompt_reader`).
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import wrapt
from fastapi import HTTPException

from ..data.instructions import KEYWORD, ROUTING, user_turns


def install(engine_module) -> None:
    """Wrap the engine's function that makes token ids of messages."""
    signature = inspect.signature(engine_module.HuggingfaceEngine._process_args)

    def wrapper(wrapped, instance, args, kwargs):
        given = signature.bind(*args, **kwargs).arguments
        if not hasattr(given["model"], ROUTING):
            return wrapped(*args, **kwargs)
        _refuse_without_text(given["messages"])
        turns = user_turns(given["messages"])
        generate_arguments, prompt_length = wrapped(*args, **kwargs)
        generate_arguments[KEYWORD] = [turns]
        return generate_arguments, prompt_length

    wrapt.wrap_function_wrapper(engine_module, "HuggingfaceEngine._process_args", wrapper)


def _refuse_without_text(messages: Sequence[Mapping[str, Any]]) -> None:
    """A request is the client's: what it lacks is a 400, and no error of the server's."""
    for number, message in enumerate(messages):
        if not isinstance(message["content"], str):
            raise HTTPException(400, f"Message {number} ({message['role']}) has no text: `content` is null; send one.")
