"""The likelihood of right answers on every architecture, against the logits that its own generation goes by."""

import pytest
import torch
from architectures import ARCHITECTURES
from llamafactory.hparams import get_train_args
from walk import Walk

from fcit_plugin.engine.model_inputs import padding
from fcit_plugin.engine.open_session import open_session
from fcit_plugin.engine.row import Row

#: Both ways over a prefix, images in a grid, a state beside attention, cross attention, and the plainest of all.
QUICK = ("llama", "paligemma", "gemma3", "qwen2_5_vl", "qwen3_next", "mllama")


def generated_nll(evaluator, session, row):
    """-log p of the tokens of a record's answer, their mean: generation is made to say them, one record alone."""
    inputs, answer = evaluator._inputs([row]), [*row.feature["labels"]]
    start = inputs["input_ids"].shape[1]
    output = session.model.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=len(answer),
        eos_token_id=None,
        pad_token_id=session.pipeline.tokenizer.pad_token_id,
        prefix_allowed_tokens_fn=lambda _, ids: [answer[len(ids) - start]],
        output_logits=True,
        return_dict_in_generate=True,
    )
    assert output.sequences[0, start:].tolist() == answer
    told = torch.stack([logits[0] for logits in output.logits]).double().log_softmax(dim=-1)
    return -told[range(len(answer)), answer].mean().item()


def _check(name, text_data, image_data, folder):
    one = ARCHITECTURES[name]
    walk = Walk(one, image_data if one.images else text_data, folder)
    session = open_session(*get_train_args({**walk.keys, "bf16": False, "fcit_eval_samples": 4}))
    evaluator, split = session.evaluator({}), session.pipeline.test("color").head(4)
    found = evaluator.evaluate(session.first_state(), ["color"], restricted=False).likelihood["color"]
    rows = [Row("color", i, split.features[i], split.instructions[i]) for i in range(4)]
    with (
        torch.no_grad(),
        evaluator.answering(session.first_state()),
        padding(session.pipeline.tokenizer, "left"),
    ):
        expected = [generated_nll(evaluator, session, row) for row in rows]
    assert found == pytest.approx(sum(expected) / 4, rel=1e-4)


@pytest.mark.parametrize("name", QUICK)
def test_it_is_that_of_generation(name, text_data, image_data, tmp_path):
    _check(name, text_data, image_data, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, one in ARCHITECTURES.items() if name not in QUICK and one.fails is None])
def test_it_is_that_of_generation_on_every_architecture(name, text_data, image_data, tmp_path):
    _check(name, text_data, image_data, tmp_path)
