"""The base model of a recipe: what is wrong with it is said before it is loaded, and named where loading finds it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError
from transformers import PretrainedConfig

from ..errors import FcitError, one_line, root_cause
from ..tensor_files import check_tensors


def check_model(model_args) -> PretrainedConfig:
    """Refuse a base model that cannot be loaded, as far as its configuration and the heads of its files tell.

    Args:
        model_args: LLaMA-Factory's model arguments.

    Returns:
        Its configuration.

    Raises:
        FcitError: The sentence names the folder or file.
    """
    from llamafactory.model import load_config  # its module is hooked itself: only now

    with naming_the_model(model_args, OSError, ValueError):
        config = load_config(model_args)
    for path in sorted(Path(model_args.model_name_or_path).glob("*.safetensors")):
        check_tensors(path)
    return config


@contextlib.contextmanager
def naming_the_model(model_args, *kinds: type[Exception]) -> Iterator[None]:
    """Within the block the base model is loaded; what goes wrong says that it was this one.

    Args:
        model_args: LLaMA-Factory's model arguments.
        kinds: The exceptions that mean a damaged model here.
    """
    caught: tuple[type[Exception], ...] = (*kinds, SafetensorError, RuntimeError)
    try:
        yield
    except caught as error:
        if isinstance(error, RuntimeError) and "mismatched" not in str(error):
            raise  # out of memory and the like
        reason = (
            "its weights and its config.json do not fit" if isinstance(error, RuntimeError) else one_line(root_cause(error))
        )
        raise FcitError(
            f"`model_name_or_path` {model_args.model_name_or_path} cannot be loaded: {reason.rstrip('.')}; give a folder "
            "with config.json, tokenizer and safetensors files, or a name on Hugging Face."
        ) from error
