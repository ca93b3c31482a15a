"""Situations that a user will meet, played through the whole server loop with real instructions but without training.

A client's token is the mean over the instructions that it holds, encoded by FCIT-mini's base model.
"""

import numpy as np
import pytest
from toy import BLANK, PROJECTOR, RecordingObserver
from transformers import AutoTokenizer, LlavaForConditionalGeneration

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.federation.client import TrainingResult, make_client_app
from fcit_plugin.federation.in_process_grid import InProcessGrid
from fcit_plugin.federation.program import Program
from fcit_plugin.federation.server import first_state, run
from fcit_plugin.knowledge.activation import Router
from fcit_plugin.knowledge.encoders import make_encoder
from fcit_plugin.knowledge.identity_tokens import ClientToken
from fcit_plugin.samples.mini.build import base_model_path
from fcit_plugin.scenario.settings import get_scenario
from fcit_plugin.state.progress import Traffic
from fcit_plugin.state.server_state import newly_shared


@pytest.fixture(scope="module")
def encoder():
    model = LlavaForConditionalGeneration.from_pretrained(base_model_path())
    return make_encoder("embedding", "mean", True, model, AutoTokenizer.from_pretrained(base_model_path()))


class SharingRecorder(RecordingObserver):
    """Also which tasks came to the subspaces of others."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = []

    def round_ended(self, state, assignments, *others) -> None:
        super().round_ended(state, assignments, *others)
        self.shared += newly_shared(state, assignments)


class Holds:
    """Local training that changes nothing; ``texts(client, task)`` are the instructions that a client holds."""

    def __init__(self, encoder, texts):
        self.encoder, self.texts = encoder, texts

    def token(self, config):
        texts = self.texts(config.client, config.task)
        return ClientToken(config.client, self.encoder.encode(texts).mean(axis=0), len(texts), len(texts))

    def train(self, config, subspace, shared, extras):
        return TrainingResult(subspace, shared, 0.0)


class Federation:
    """A run of ``stages`` whose clients hold some instructions, and what it left."""

    def __init__(self, encoder, stages, texts, schedule=None, clients=6, **changes):
        args = FcitArguments(
            fcit_setting="custom",
            fcit_stages=[[name] for name in stages],
            fcit_schedule=schedule,
            fcit_num_clients=clients,
            fcit_num_rounds=2,
            **{"fcit_clients_per_round": 3} | changes,
        )
        program = Program(args, get_scenario("custom", args.fcit_stages, args.fcit_schedule), 7, BLANK)
        heard, grid = SharingRecorder(), InProcessGrid(make_client_app(Holds(encoder, texts)), range(clients))
        start = first_state(encoder.encode(["."]).shape[1], PROJECTOR)
        self.state = run(program, start, grid, heard, Traffic())
        self.rows, self.shared, self.encoder = heard.rows, heard.shared, encoder

    def subspaces_of(self, task):
        return {row["subspace"] for row in self.rows if row["task"] == task}

    def weights(self, texts):
        return Router(self.encoder, self.state.tokens, "softmax", 0.05, "auto").weights([(text,) for text in texts])


def some(texts, client, count=40):
    return [texts[(client * count + i) % len(texts)] for i in range(count)]


def test_a_task_that_comes_back_after_three_stages_finds_its_subspace(encoder, mini_instructions):
    names = ["fcit_iconqa", "fcit_ocrvqa", "fcit_figureqa", "fcit_clevr_math", "fcit_iconqa"]
    stages = ["a", "b", "c", "d", "e"]
    after = Federation(encoder, stages, lambda client, task: some(mini_instructions[names[task]], client))
    assert len(after.state.subspaces) == 4
    assert after.subspaces_of("a") == after.subspaces_of("e") == {0}
    assert all(row["cosine"] > 0.9 for row in after.rows if row["task"] == "e")


def test_a_client_that_mixes_two_tasks_opens_a_subspace_of_its_own_and_does_not_lead_pure_instructions_astray(
    encoder, mini_instructions
):
    first, second = mini_instructions["fcit_iconqa"], mini_instructions["fcit_ocrvqa"]

    def texts(client, task):
        if task == 2:
            return some(first, client, 20) + some(second, client, 20)
        return some((first, second)[task], client)

    after = Federation(encoder, ["a", "b", "mixed"], texts)
    assert (after.subspaces_of("a"), after.subspaces_of("b"), after.subspaces_of("mixed")) == ({0}, {1}, {2})
    for k, pure in enumerate((first, second)):
        weights = after.weights(pure[:50])
        assert (weights.argmax(axis=1) == k).all()
        assert weights[:, k].min() > 0.9


def test_of_a_hundred_clients_of_twenty_samples_each_nearly_all_share_one_subspace_a_task(encoder, mini_instructions):
    """With so few instructions a client's mean may fall short of the threshold; it then learns alone."""
    names = list(mini_instructions)[:4]
    after = Federation(
        *(encoder, names, lambda client, task: some(mini_instructions[names[task]], client, 20)),
        clients=100,
        fcit_clients_per_round=25,
    )
    for name in names:
        subspaces = [row["subspace"] for row in after.rows if row["task"] == name]
        assert max(subspaces.count(k) for k in subspaces) >= 0.95 * len(subspaces)
    assert len(after.state.subspaces) <= 6


def test_one_task_in_two_phrasings_has_a_subspace_for_each_and_each_finds_its_own(encoder, mini_instructions):
    one = mini_instructions["fcit_ocrvqa"]
    other = ["read out loud the two letters printed in the picture"] * 40
    schedule = [[0, 1, 0], [1, 0, 1]]
    after = Federation(*(encoder, ["one", "other"], lambda client, task: (some(one, client), other)[task]), schedule=schedule)
    assert len(after.subspaces_of("one")) == len(after.subspaces_of("other")) == 1
    assert after.subspaces_of("one") != after.subspaces_of("other") and not after.shared
    assert after.weights(one[:20])[:, after.subspaces_of("one").pop()].min() > 0.9
    assert after.weights(other[:1])[:, after.subspaces_of("other").pop()].min() > 0.9


def test_two_tasks_of_the_same_words_share_a_subspace_for_nothing_tells_them_apart(encoder, mini_instructions):
    """A limit of the method: the answers play no part in the identity token."""
    texts = mini_instructions["fcit_iconqa"]
    after = Federation(encoder, ["yes_means_yes", "yes_means_no"], lambda client, task: some(texts, client))
    assert after.subspaces_of("yes_means_yes") == after.subspaces_of("yes_means_no") == {0}
    [(task, k, before, cosine)] = after.shared  # said once, in the first of the second task's rounds
    assert (task, k, before) == ("yes_means_no", 0, ["yes_means_yes"]) and 0.9 <= cosine <= 1


class Directions:
    """An encoder for which the text "k" points in a direction of its own."""

    dimension = 64

    def encode(self, texts):
        rows = np.full((len(texts), self.dimension), 0.01, np.float32)
        for i, text in enumerate(texts):
            rows[i, int(text) if text.isdigit() else 0] = 1.0
        return rows


@pytest.mark.parametrize("most", [None, 8])
def test_thirty_stages_have_thirty_subspaces_unless_there_may_be_fewer(most):
    names = [f"task{k}" for k in range(30)]
    after = Federation(Directions(), names, lambda client, task: [str(task)] * 20, fcit_max_subspaces=most)
    assert len(after.state.subspaces) == (most or 30)
    assert [len(after.subspaces_of(name)) for name in names] == [1] * 30
    if most is None:
        weights = after.weights([str(k) for k in range(30)])
        assert (weights.argmax(axis=1) == np.arange(30)).all() and weights.max(axis=1).min() > 0.99
