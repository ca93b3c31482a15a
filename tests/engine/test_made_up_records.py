"""Records that a client's model makes up: what they are, that they are the same in each round, and what is refused."""

import pytest
import torch
from llamafactory.hparams import get_train_args
from runs import run_recipe

from fcit_plugin.adapters.lora import lora_parameters, read_subspace
from fcit_plugin.engine.open_session import open_session
from fcit_plugin.errors import FcitError
from fcit_plugin.federation.messages import ClientConfig

STAGES = [["color"], ["letter"]]
KEYS = {"fcit_method": "lamol", "fcit_stages": STAGES, "fcit_eval_every": "never", "lora_dropout": 0.0}


@pytest.fixture
def opened(text_recipe):
    def make(**changes):
        return open_session(*get_train_args(text_recipe(**KEYS | changes)))

    return make


def learnt(session):
    """Weights that know the first task by heart, as whole records."""
    session.training_args.max_steps, session.training_args.learning_rate = 60, 0.05
    local = session.local()
    return local, local.train(ClientConfig("run", 0, 0, 0, 0), session.program.fresh(0), {}, {}).subspace


def test_a_model_that_has_learned_a_task_makes_up_records_of_it_while_it_learns_another(opened, monkeypatch):
    session = opened(fcit_lamol_gamma=1.0, fcit_lamol_lambda=1.0, fcit_lamol_top_k=1, fcit_lamol_max_tokens=20, lora_rank=16)
    local, writer = learnt(session)
    taken = []
    original = local.pipeline.samples
    monkeypatch.setattr(local.pipeline, "samples", lambda parts: taken.append(original(parts)) or taken[-1])
    session.training_args.max_steps = 1
    state = torch.random.get_rng_state()
    config = ClientConfig("run", 1, 0, 0, 1)
    own = len(local.records(0, 1))
    local._made_up(config, {"writer": writer})
    assert torch.equal(state, torch.random.get_rng_state()), "no number of the training is drawn for it"
    for round in range(2):
        local.train(ClientConfig("run", 1, round, 0, 1), session.program.fresh(0), {}, {"writer": writer})
    assert taken[0][:] == taken[1][:] and len(taken[0]) == 2 * own
    text = local.pipeline.tokenizer.decode
    said = {text(feature["input_ids"], skip_special_tokens=True) for feature in taken[0].select(range(own, 2 * own))}
    (one,) = said  # each token is the most likely one
    assert one.startswith("USER: name the color of this square please ")
    # token by token: the instruction from what a user's turn begins with, until it ends; then its answer
    tokenizer = local.pipeline.tokenizer
    start, between = ([tokenizer.convert_tokens_to_ids(word)] for word in ("USER:", "ASSISTANT:"))
    with torch.no_grad():
        for key, parameter in lora_parameters(session.model.eval()).items():
            parameter.copy_(writer[key])

        def likeliest(ids, count):
            for _ in range(count):
                ids = [*ids, session.model(torch.tensor([ids])).logits[0, -1].argmax().item()]
                if ids[-1] in (tokenizer.eos_token_id, *between):
                    return ids[:-1]
            return ids

        instruction = likeliest(start, 20)
        assert text(likeliest([*instruction, *between], 4), skip_special_tokens=True) == one
    # what is learned of it is its answer, as of any record
    feature = taken[0][own]
    answer = text([label for label in feature["labels"] if label != -100], skip_special_tokens=True)
    assert answer and one.endswith(f"ASSISTANT: {answer}")
    assert local.num_steps(ClientConfig("run", 1, 0, 0, 1)) == 1


def test_as_many_are_made_up_as_the_key_says_and_none_in_the_first_stage(opened):
    session = opened(fcit_lamol_gamma=0.5)
    local = session.local()
    batch = session.training_args.per_device_train_batch_size
    for client in range(3):
        for stage in range(2):
            own = len(local.records(client, stage))
            made = round(0.5 * own) if stage else 0
            config = ClientConfig("run", stage, 0, client, stage)
            assert local.num_steps(config) == -(-(own + made) // batch)
            parts = local._made_up(config, {"writer": session.program.fresh(0)} if stage else {})
            assert sum(len(records) for _, records in parts) == made


def test_the_weights_that_write_are_not_those_that_train(opened):
    session = opened(fcit_lamol_gamma=1.0)
    local, start = session.local(), session.program.fresh(0)
    session.training_args.max_steps, session.training_args.learning_rate = 1, 0.0
    writer = {key: torch.randn(value.shape, generator=torch.Generator().manual_seed(3)) for key, value in start.items()}
    trained = local.train(ClientConfig("run", 1, 0, 0, 1), start, {}, {"writer": writer})
    assert all(torch.equal(value, start[key]) for key, value in trained.subspace.items())
    assert all(torch.equal(value, start[key]) for key, value in read_subspace(session.model).items())


def test_records_that_no_model_makes_up_are_refused_by_a_sentence(llava_recipe, text_recipe, monkeypatch):
    of_text = r"`fcit_method: lamol` .* of text alone, and the dataset `color` has images"
    with pytest.raises(FcitError, match=of_text):
        run_recipe(llava_recipe(**KEYS))
    with monkeypatch.context() as patched:
        patched.setattr("fcit_plugin.engine.open_session.read_records", lambda *_: None)  # as a client on its own
        local = open_session(*get_train_args(llava_recipe(**KEYS))).local()
        with pytest.raises(FcitError, match=of_text):
            local.task(0)
    with pytest.raises(FcitError, match="from the beginning of a user's turn, and `template: empty` does not mark it"):
        run_recipe(text_recipe(**KEYS, template="empty"))
    with pytest.raises(FcitError, match="`packing` cannot be used with `fcit_method: lamol`"):
        run_recipe(text_recipe(**KEYS, packing=True))
