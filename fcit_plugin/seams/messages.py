"""Seams: ``llamafactory.chat.hf_engine`` and ``llamafactory.data.loader`` - which instruction a prompt holds.

Both are where messages become token ids, so the latest user instruction is known exactly, whatever the template: system
prompts, earlier turns, tool results and the expanded tokens of images are no part of it. Prompts that came in another way
are read back from their ids (:func:`prompt_reader`).
"""

import inspect

import wrapt

from ..data.instructions import KEYWORD, ROUTING, latest_instruction


def install(module) -> None:
    """Wrap the function of LLaMA-Factory's module that makes token ids of messages."""
    {"hf_engine": _install_engine, "loader": _install_loader}[module.__name__.rpartition(".")[2]](module)


def _install_engine(engine_module) -> None:
    signature = inspect.signature(engine_module.HuggingfaceEngine._process_args)

    def wrapper(wrapped, instance, args, kwargs):
        given = signature.bind(*args, **kwargs).arguments
        text = latest_instruction(given["messages"])
        generate_arguments, prompt_length = wrapped(*args, **kwargs)
        if hasattr(given["model"], ROUTING):
            generate_arguments[KEYWORD] = [text]
        return generate_arguments, prompt_length

    wrapt.wrap_function_wrapper(engine_module, "HuggingfaceEngine._process_args", wrapper)


def _install_loader(loader_module) -> None:
    signature = inspect.signature(loader_module._get_preprocessed_dataset)

    def wrapper(wrapped, instance, args, kwargs):
        given = signature.bind(*args, **kwargs).arguments
        found, aligned = wrapped(*args, **kwargs), given["dataset"]
        request = getattr(given["data_args"], "fcit_request", None)
        kept = request.instructions if request is not None else None
        # LLaMA-Factory drops records that it finds invalid, and packs; the rest is read back from the ids then
        if kept is not None and found is not None and len(found) == len(aligned):
            for ids, prompt in zip(found["input_ids"], aligned["_prompt"], strict=True):
                kept.remember(ids, latest_instruction(prompt))
        return found

    wrapt.wrap_function_wrapper(loader_module, "_get_preprocessed_dataset", wrapper)
