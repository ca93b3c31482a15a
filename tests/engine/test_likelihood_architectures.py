"""The likelihood of right answers on every architecture, against the logits that its own generation goes by."""

import dataclasses

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
#: Relative, of float32.
TOLERANCE = 2e-5


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


def sharpen(model):
    """In float32, and with logits that are not nearly those of any other prompt, as random ones are."""
    model.float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(10)


def other_prompt(row):
    """The prompt with another last word but two."""
    ids = [*row.feature["input_ids"]]
    ids[-3] = ids[-2] if ids[-3] != ids[-2] else ids[-1]
    return ids


def longer(row):
    """The record with a longer prompt and answer, so that others are padded beside it."""
    ids, answer = row.feature["input_ids"], row.feature["labels"]
    ids, answer = [*ids, *ids[-4:]], [*answer[:1], *answer]
    return dataclasses.replace(
        row, feature={**row.feature, "input_ids": ids, "attention_mask": [1] * len(ids), "labels": answer}
    )


def _check(name, text_data, image_data, folder):
    one = ARCHITECTURES[name]
    walk = Walk(one, image_data if one.images else text_data, folder)
    changes = {"bf16": False, "fcit_eval_samples": 3, "cutoff_len": 400, "per_device_eval_batch_size": 6}
    session = open_session(*get_train_args({**walk.keys, **changes}))
    sharpen(session.model)
    evaluator, names = session.evaluator({}), ["color", "letter"]
    found = evaluator.evaluate(session.first_state(), names, restricted=False).likelihood
    splits = [session.pipeline.test(key).head(3) for key in names]
    rows = [Row(one.name, i, one.features[i], one.instructions[i]) for one in splits for i in range(3)]
    rows += [longer(rows[0])]
    assert len({len(row.answered().feature["input_ids"]) for row in rows}) > 1, "nothing is padded"
    with torch.no_grad(), evaluator.answering(session.first_state()) as activation:
        with padding(session.pipeline.tokenizer, "right"):
            batch = evaluator.losses([row.answered() for row in rows], None, activation)
        with padding(session.pipeline.tokenizer, "left"):
            expected = [generated_nll(evaluator, session, row) for row in rows]
            swapped = dataclasses.replace(rows[0], feature={**rows[0].feature, "labels": rows[1].feature["labels"]})
            one_wrong = generated_nll(evaluator, session, swapped)
            deaf = dataclasses.replace(rows[0], feature={**rows[0].feature, "input_ids": other_prompt(rows[0])})
            unheard = generated_nll(evaluator, session, deaf)
    assert batch == pytest.approx(expected, rel=TOLERANCE)
    assert [found[name] for name in names] == pytest.approx([sum(expected[:3]) / 3, sum(expected[3:6]) / 3], rel=TOLERANCE)
    told_apart = [unheard] if swapped.feature["labels"] == rows[0].feature["labels"] else [unheard, one_wrong]
    for other in told_apart:  # Granite's tiny tokenizer knows one word for all answers
        assert abs(other - expected[0]) > 20 * TOLERANCE * expected[0], "too dull a model for the test to show anything"


@pytest.mark.parametrize("name", QUICK)
def test_it_is_that_of_generation(name, text_data, image_data, tmp_path):
    _check(name, text_data, image_data, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, one in ARCHITECTURES.items() if name not in QUICK and one.fails is None])
def test_it_is_that_of_generation_on_every_architecture(name, text_data, image_data, tmp_path):
    _check(name, text_data, image_data, tmp_path)
