"""The threshold 0.9 means the same across encoders: tasks of FCIT-mini fall apart, clients of one task together."""

import numpy as np
import pytest
from transformers import AutoTokenizer, LlavaForConditionalGeneration

from fcit_plugin.knowledge.activation import activation_weights, cosine_matrix
from fcit_plugin.knowledge.encoders import make_encoder
from fcit_plugin.samples.mini.build import base_model_path
from fcit_plugin.samples.real.packages import MissingPackage

THRESHOLD, SMALLEST_CLIENT = 0.9, 30


@pytest.fixture(scope="module", params=["embedding", "minilm"])
def tokens(request, mini_instructions):
    """Identity tokens [n, D] of every task's instructions."""
    model = LlavaForConditionalGeneration.from_pretrained(base_model_path())
    tokenizer = AutoTokenizer.from_pretrained(base_model_path())
    try:
        encoder = make_encoder(request.param, "mean", True, model, tokenizer)
    except MissingPackage as error:
        pytest.skip(str(error))
    return {key: encoder.encode(texts) for key, texts in mini_instructions.items()}


def test_no_two_tasks_reach_the_threshold(tokens):
    means = np.stack([rows.mean(axis=0) for rows in tokens.values()])
    cosines = cosine_matrix(means, means)
    np.fill_diagonal(cosines, -1)
    assert cosines.max() < THRESHOLD - 0.2


def test_small_clients_of_one_task_reach_the_threshold(tokens):
    rng = np.random.default_rng(0)
    for key, rows in tokens.items():
        for _ in range(20):
            client = rows[rng.choice(len(rows), SMALLEST_CLIENT, replace=False)].mean(axis=0)
            others = rows[rng.choice(len(rows), 3 * SMALLEST_CLIENT, replace=False)].mean(axis=0)
            assert cosine_matrix(client[None], others[None])[0, 0] >= THRESHOLD, key


def test_single_samples_activate_their_own_task(tokens):
    means = np.stack([rows.mean(axis=0) for rows in tokens.values()])
    used = np.ones(len(means), dtype=bool)
    for k, (key, rows) in enumerate(tokens.items()):
        weights = activation_weights(rows, means, used, mode="softmax", temperature=0.05)
        assert (weights.argmax(axis=1) == k).mean() > 0.95, key
        assert weights[:, k].mean() > 0.9, key
