"""A client that fails at any point of its training leaves nothing on the model that the next one trains with."""

import dataclasses
from functools import partial

import pytest
import torch
from llamafactory.hparams import get_train_args
from transformers import TrainerCallback

from fcit_plugin.engine.callbacks import Callbacks
from fcit_plugin.engine.open_session import open_session
from fcit_plugin.federation.messages import ClientConfig

#: Where a client can fail: in each of the Trainer's events in which a step is made.
EVENTS = (
    "train_begin",
    "epoch_begin",
    "step_begin",
    "pre_optimizer_step",
    "optimizer_step",
    "step_end",
    "epoch_end",
    "train_end",
)
CONFIG = ClientConfig("run", 0, 0, 0, 0)


class Fails(TrainerCallback):
    """Hangs hooks of every kind on a layer, as LLaMA-Factory's profiler does, and takes them off at the end, if that comes."""

    def __init__(self) -> None:
        self.at, self.handles = None, []
        for event in EVENTS:
            setattr(self, f"on_{event}", partial(self._on, event))

    def _on(self, event, args, state, control, model=None, **kwargs):
        if event == "train_begin":
            layer = model.get_submodule("base_model.model.model.layers.0.mlp")
            self.handles = [
                layer.register_forward_pre_hook(lambda module, given: None),
                layer.register_forward_hook(lambda module, given, output: output * 2),
                layer.register_full_backward_pre_hook(lambda module, given: None),
                layer.register_full_backward_hook(lambda module, given, output: None),
            ]
        if event == self.at:
            model.eval()  # as an evaluation in the midst of a training
            raise TimeoutError(event)
        if event == "train_end":
            for handle in self.handles:
                handle.remove()


def hung_on(model):
    """All that a module has of its own, beside weights and children: hooks, wraps, marks, modes; and gradients."""
    of_modules = {
        name: {key: list(value) if isinstance(value, dict) else value for key, value in vars(module).items() if key[0] != "_"}
        | {key: list(value) for key, value in vars(module).items() if "hooks" in key and isinstance(value, dict)}
        for name, module in model.named_modules()
    }
    return of_modules, {name: (p.requires_grad, p.grad is None) for name, p in model.named_parameters()}


@pytest.mark.parametrize("mixed", [False, True])
def test_the_next_client_is_as_if_nobody_had_failed(text_recipe, mixed):
    keys = {"neftune_noise_alpha": 5.0, "bf16": mixed, "use_cpu": True, "max_steps": 2, "fcit_eval_every": "never"}
    session, fails = open_session(*get_train_args(text_recipe(**keys))), Fails()
    local = dataclasses.replace(session, callbacks=Callbacks([], [fails])).local()
    fresh = session.program.fresh(0)
    expected, *_ = local.train(CONFIG, fresh, {}, {})
    before = hung_on(session.model)
    for fails.at in EVENTS:
        with pytest.raises(TimeoutError, match=fails.at):
            local.train(CONFIG, fresh, {}, {})
        assert hung_on(session.model) == before
    fails.at = None
    found, *_ = local.train(CONFIG, fresh, {}, {})
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert hung_on(session.model) == before


def test_a_model_that_hangs_hooks_on_itself_when_it_first_sees_an_image_trains_again(llava_recipe):
    """No evaluation and no rehearsal comes first here, as at a site; the second client needs what the first has had hung."""
    session = open_session(*get_train_args(llava_recipe(fcit_eval_every="never", use_cpu=True, max_steps=1)))
    local, fresh, shared = session.local(), session.program.fresh(0), session.first_state().shared
    first, second = (local.train(CONFIG, fresh, shared, {}) for _ in range(2))
    assert all(torch.equal(first[0][key], value) for key, value in second[0].items())
