"""FedProx's term in a client's training: its gradient as plain steps of gradient descent show it."""

import pytest
import torch
from flwr.app import ConfigRecord
from llamafactory.hparams import get_train_args

from fcit_plugin.engine.open_session import open_session
from fcit_plugin.federation.messages import ClientConfig

RATE, MU = 0.5, 0.3


@pytest.mark.parametrize("accumulate", [1, 2])
def test_each_step_goes_back_by_rate_times_mu_of_the_way_so_far(text_recipe, accumulate):
    keys = text_recipe(
        fcit_eval_every="never",
        fcit_server_rule="fedprox",
        fcit_proximal_mu=MU,
        optim="sgd",
        learning_rate=RATE,
        lr_scheduler_type="constant",
        lora_dropout=0.0,
        gradient_accumulation_steps=accumulate,
        per_device_train_batch_size=2,
    )
    session = open_session(*get_train_args(keys))
    local, start = session.local(), session.program.fresh(0)
    plain = ClientConfig("run", 0, 0, 0, 0)
    held = ClientConfig("run", 0, 0, 0, 0, of_rule=ConfigRecord({"proximal-mu": MU}))

    def after(steps, config):
        session.training_args.max_steps = steps
        return local.train(config, start, {}, {}).subspace

    one, two, held_one, held_two = after(1, plain), after(2, plain), after(1, held), after(2, held)
    moved = 0.0
    for key, w in start.items():
        assert torch.equal(held_one[key], one[key]), "at the start the term is flat"
        torch.testing.assert_close(held_two[key], two[key] - RATE * MU * (one[key] - w), rtol=1e-5, atol=1e-7)
        moved += (held_two[key] - two[key]).norm().item()
    assert moved > 1e-4
    assert all(parameter.grad is None for parameter in session.model.parameters() if not parameter.requires_grad)
