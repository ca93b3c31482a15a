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


@contextlib.contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """After the block nothing hangs on the model that did not before.

    The Trainer, and callbacks, take their hooks off where a training ends as it should, and at no other end: the next client
    would train with those of one that failed.
    """
    hooks = [(own, set(own)) for module in model.modules() for own in _hooks(module)]
    attributes = [
        (module, {name: vars(module)[name] for name in _HUNG_ON if name in vars(module)}) for module in model.modules()
    ]
    trainable = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for own, before in hooks:
            for key in set(own) - before:
                del own[key]
        for module, values in attributes:
            for name in _HUNG_ON:
                vars(module).pop(name, None)
            vars(module).update(values)
        for parameter, requires_grad in trainable:
            parameter.requires_grad_(requires_grad)
            parameter.grad = None
        model.train()  # as the Trainer leaves it, where what failed had it in another mode


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
