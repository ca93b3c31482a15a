"""Seams: ``llamafactory.chat.hf_engine`` and ``llamafactory.data.loader`` - which instruction a prompt holds.

Both are where messages become token ids, so the latest user instruction is known exactly, whatever the template: system
prompts, earlier turns, tool results and the expanded tokens of images are no part of it. Prompts that came in another way
are read back from their ids (:func:`prompt_reader`).
"""

import wrapt

from ..data.instructions import KEYWORD, ROUTING, latest_instruction


def install(module) -> None:
    """Wrap the function of LLaMA-Factory's module that makes token ids of messages."""
    {"hf_engine": _install_engine, "loader": _install_loader}[module.__name__.rpartition(".")[2]](module)


def _install_engine(engine_module) -> None:
    def wrapper(wrapped, instance, args, kwargs):
        model, messages = args[0], args[5]
        text = latest_instruction(messages)
        generate_arguments, prompt_length = wrapped(*args, **kwargs)
        if hasattr(model, ROUTING):
            generate_arguments[KEYWORD] = [text]
        return generate_arguments, prompt_length

    wrapt.wrap_function_wrapper(engine_module, "HuggingfaceEngine._process_args", wrapper)


def _install_loader(loader_module) -> None:
    def wrapper(wrapped, instance, args, kwargs):
        found = wrapped(*args, **kwargs)
        aligned, data_args = args[0], args[1]
        kept = getattr(data_args, "fcit_instructions", None)
        # LLaMA-Factory drops records that it finds invalid, and packs; the rest is read back from the ids then
        if kept is not None and found is not None and len(found) == len(aligned):
            for ids, prompt in zip(found["input_ids"], aligned["_prompt"], strict=True):
                kept.remember(ids, latest_instruction(prompt))
        return found

    wrapt.wrap_function_wrapper(loader_module, "_get_preprocessed_dataset", wrapper)
