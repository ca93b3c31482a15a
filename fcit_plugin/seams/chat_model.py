"""Seam: ``llamafactory.chat.chat_model`` - ``llamafactory-cli chat`` says who answered, and a user can choose who is to."""

from collections.abc import Iterator
from typing import Any

import wrapt

from ..serving.asking import ASK, Ask, routing_of, sentence
from ..serving.chosen_subspace import ChosenSubspace, help_of


def install(chat_model) -> None:
    """Wrap the loop that talks to a user; what it makes and streams from is a chat model that tells, and it reads by ours."""

    class Telling(chat_model.ChatModel):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.chosen = ChosenSubspace()
            chat_model.input = self.read  # a name of the module comes before the builtin one
            if routing_of(self.model) is not None:
                print(help_of(self.model))

        @property
        def model(self) -> Any:
            return getattr(self.engine, "model", None)

        def read(self, prompt: str) -> str:
            """The next line that is for the model, or for LLaMA-Factory's loop."""
            try:
                while (told := self.chosen.take(line := input(prompt), self.model)) is not None:
                    print(told)
            except EOFError:  # Ctrl-D
                if routing_of(self.model) is None:
                    raise
                return "exit"
            return line

        def stream_chat(self, *args: Any, **kwargs: Any) -> Iterator[str]:
            """See LLaMA-Factory's; what is told is shown and no part of the reply, which goes back to the model."""
            ask = Ask(self.chosen.subspace)
            told = {} if routing_of(self.model) is None else {ASK: ask}
            yield from super().stream_chat(*args, **kwargs, **told)
            if ask.answered is not None:
                print(f"\n[{sentence(ask.answered)}]", end="", flush=True)

    def run(wrapped, instance, args, kwargs):
        plain, chat_model.ChatModel = chat_model.ChatModel, Telling
        try:
            return wrapped(*args, **kwargs)
        finally:
            chat_model.ChatModel = plain
            vars(chat_model).pop("input", None)

    wrapt.wrap_function_wrapper(chat_model, "run_chat", run)
