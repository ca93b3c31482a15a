"""A Trainer that is made for one client: it prints nothing, and leaves nothing behind."""

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

from torch import nn
from transformers import PrinterCallback, Trainer


def hush(trainer: Trainer) -> None:
    """Drop the callbacks that would print, or save the processor, once per client."""
    from llamafactory.train.callbacks import SaveProcessorCallback

    for callback in (PrinterCallback, SaveProcessorCallback):
        trainer.remove_callback(callback)


#: What a training hangs on a module beside hooks: mixed precision on its forward, NEFTune on an embedding.
_HUNG_ON = ("forward", "_original_forward", "neftune_noise_alpha")

#: Where the hooks are defined that a model hangs on itself.
_OF_MODELS = ("transformers.utils", "transformers.models", "transformers_modules")

#: Hooks of a weight, which optimizers use that take their steps within the backward pass.
_ON_WEIGHTS = ("_backward_hooks", "_post_accumulate_grad_hooks")


@contextlib.contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """After the block nothing of a training hangs on the model.

    The Trainer, and callbacks, take their hooks off where a training ends as it should, and at no other end: the next client
    would train with those of one that failed. What a model hangs on itself stays: it does so once, when it first sees an image,
    and remembers that it has.
    """
    hooks = [(own, set(own)) for module in model.modules() for own in _hooks(module)]
    on_weights = [
        (parameter, {name: set(getattr(parameter, name) or ()) for name in _ON_WEIGHTS}) for parameter in model.parameters()
    ]
    attributes = [
        (module, {name: vars(module)[name] for name in _HUNG_ON if name in vars(module)}) for module in model.modules()
    ]
    trainable = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        models = {key for own, _ in hooks for key, hook in own.items() if _is_models(hook)}
        for own, before in hooks:
            for key in set(own) - before - models:
                del own[key]
        for parameter, names in on_weights:
            for name, before in names.items():
                for key in set(getattr(parameter, name) or ()) - before:
                    del getattr(parameter, name)[key]
        for module, values in attributes:
            for name in _HUNG_ON:
                vars(module).pop(name, None)
            vars(module).update(values)
        for parameter, requires_grad in trainable:
            parameter.requires_grad_(requires_grad)
            parameter.grad = None
        model.train()  # as the Trainer leaves it, where what failed had it in another mode


def _is_models(hook: Any) -> bool:
    """Whether a hook is one of those that models of transformers, or of a repository's own code, hang on themselves."""
    module = str(getattr(hook, "__module__", ""))
    return any(module.startswith(f"{package}.") for package in _OF_MODELS)


def _hooks(module: nn.Module) -> list[dict[Any, Any]]:
    """All that PyTorch keeps of a module's hooks."""
    return [value for name, value in vars(module).items() if "_hooks" in name and isinstance(value, dict)]


def tear_down(trainer: Trainer) -> None:
    """Leave no engine or optimizer behind, so that the next client starts clean."""
    if trainer.is_deepspeed_enabled:
        from accelerate.state import AcceleratorState

        if trainer.deepspeed is not None:
            trainer.deepspeed.destroy()
        trainer.accelerator.free_memory()
        # a second Accelerator refuses a deepspeed plugin while the first one's state stands
        AcceleratorState._reset_state(reset_partial_state=False)
    else:
        trainer.accelerator.free_memory()
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.model_wrapped = None  # type: ignore[assignment]  # it is not used again
    gc.collect()
