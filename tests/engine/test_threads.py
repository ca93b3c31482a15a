"""A run with two threads organizes its clients as one with a single thread; only last digits of trained weights may differ."""

import shutil

import numpy as np
import pytest
import torch
from runs import report_of
from transformers import AutoModelForCausalLM, LlavaForConditionalGeneration

from fcit_plugin.state.folder import StateFolder


@pytest.fixture
def with_threads(run, tmp_path):
    """Runs a recipe with so many threads, and evaluates nothing."""
    before = torch.get_num_threads()

    def start(count, keys):
        torch.set_num_threads(count)
        return run(keys | {"output_dir": str(tmp_path / str(count)), "fcit_eval_every": "never", "fcit_num_rounds": 1})

    yield start
    torch.set_num_threads(before)


def in_bfloat16(model, kind, folder):
    shutil.copytree(model, folder)
    kind.from_pretrained(model, dtype=torch.bfloat16).save_pretrained(folder)
    return {"model_name_or_path": str(folder), "bf16": True, "use_cpu": True}


@pytest.mark.parametrize(
    ("source", "bf16"),
    [
        ("text", False),
        pytest.param("text", True, marks=pytest.mark.slow),
        pytest.param("both", False, marks=pytest.mark.slow),
        ("both", True),
    ],
)
def test_one_and_two_threads_make_the_same_subspaces_of_the_same_clients(with_threads, request, tmp_path, source, bf16):
    kind, model = (AutoModelForCausalLM, "text") if source == "text" else (LlavaForConditionalGeneration, "llava")
    changes = {"fcit_identity_source": source}
    if bf16:
        changes |= in_bfloat16(request.getfixturevalue(f"{model}_model"), kind, tmp_path / "bf16")
    keys = request.getfixturevalue(f"{model}_recipe")(**changes)
    one, two = (with_threads(count, keys) for count in (1, 2))
    assert report_of(one)["assignments"] == report_of(two)["assignments"]
    first, second = (StateFolder(folder).load() for folder in (one, two))
    assert (first.tasks, first.rounds) == (second.tasks, second.rounds)
    assert first.tokens.counts.tolist() == second.tokens.counts.tolist() and len(first.tokens.counts) > 1
    scale = np.abs(first.tokens.tokens).max()
    np.testing.assert_allclose(first.tokens.tokens, second.tokens.tokens, atol=scale * (2.0**-6 if bf16 else 2.0**-12), rtol=0)
    if source == "text":
        assert first.tokens.sums.tobytes() == second.tokens.sums.tobytes()
