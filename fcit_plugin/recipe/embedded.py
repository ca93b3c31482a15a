"""Names of base models that are inside the package."""

from typing import Any


def _mini() -> str:
    from ..samples.mini.build import base_model_path

    return str(base_model_path())


def _mini_text() -> str:
    from ..samples.text import text_model_path

    return str(text_model_path())


#: Names of ``model_name_or_path`` that mean a model inside the package.
EMBEDDED_MODELS = {"fcit-mini": _mini, "fcit-mini-text": _mini_text}


def resolve_model(args: dict | list) -> None:
    """Put the folder of an embedded model in place of its name, in a recipe or among command line flags."""
    key = "model_name_or_path"
    position: Any  # of a list, or of a dictionary
    if isinstance(args, list):
        position = args.index(f"--{key}") + 1 if f"--{key}" in args[:-1] else None
    else:
        position = key if key in args else None
    for number, part in enumerate(args if isinstance(args, list) else ()):
        name, _, value = part.partition("=")
        if name == f"--{key}" and value in EMBEDDED_MODELS:
            args[number] = f"{name}={EMBEDDED_MODELS[value]()}"
    if position is not None and args[position] in EMBEDDED_MODELS:
        args[position] = EMBEDDED_MODELS[args[position]]()
