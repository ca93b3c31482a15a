"""A Trainer that is made for one client: it prints nothing, and leaves nothing behind."""

import gc

from transformers import PrinterCallback, Trainer


def hush(trainer: Trainer) -> None:
    """Drop the callbacks that would print, or save the processor, once per client."""
    from llamafactory.train.callbacks import SaveProcessorCallback

    for callback in (PrinterCallback, SaveProcessorCallback):
        trainer.remove_callback(callback)


def tear_down(trainer: Trainer) -> None:
    """Leave no engine, optimizer or hook behind, so that the next client starts clean."""
    if trainer.is_deepspeed_enabled:
        from accelerate.state import AcceleratorState

        if trainer.deepspeed is not None:
            trainer.deepspeed.destroy()
        trainer.accelerator.free_memory()
        # a second Accelerator refuses a deepspeed plugin while the first one's state stands
        AcceleratorState._reset_state(reset_partial_state=False)
    else:
        trainer.accelerator.free_memory()
    # mixed precision wraps the model's forward again for each Accelerator, and nothing takes it off again
    for wrapper in ("forward", "_original_forward"):
        vars(trainer.model).pop(wrapper, None)
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.model_wrapped = None  # type: ignore[assignment]  # it is not used again
    gc.collect()
