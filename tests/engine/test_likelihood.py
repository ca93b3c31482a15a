"""The likelihood of right answers against plain transformers and PEFT, one record at a time."""

import json

import pytest
import tiny
import torch
from llamafactory.hparams import get_train_args
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from fcit_plugin.engine.evaluator import Row
from fcit_plugin.engine.open_session import open_session


def nll(model, prompt, answer):
    """-log p of an answer's tokens behind a prompt, their mean: each by a pass of its own."""
    total = 0.0
    for j, token in enumerate(answer):
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *answer[:j]]])).logits[0, -1]
        total -= logits.double().log_softmax(dim=0)[token].item()
    return total / len(answer)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_run_s_is_that_of_plain_peft_record_by_record(run, text_recipe, text_model, text_data, batch):
    keys = text_recipe(fcit_method="sequential", learning_rate=0.05, per_device_eval_batch_size=batch)
    folder = run(keys)
    report = json.loads((folder / "fcit_report.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(text_model)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(text_model), folder / "subspaces" / "0").eval()
    pipeline = open_session(*get_train_args({**keys, "output_dir": str(folder.parent / "again")})).pipeline
    for name, found in zip(report["datasets"], report["likelihood"][-1], strict=True):
        records = json.loads((text_data / f"{name}_test.json").read_text())
        prompts = pipeline.test(name).features["input_ids"]
        answers = [[*tokenizer(r["answer"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for r in records]
        expected = [nll(model, prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        assert found == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    assert report["likelihood"][0][1] is None  # not seen yet


@pytest.mark.parametrize("kind", ["llava", "qwen25_vl"])
def test_images_and_neighbors_in_a_batch(kind, image_data, tmp_path, request):
    """Of the untuned model: record by record, six at a time, and by a pass without padding over prompt and answer."""
    model = request.getfixturevalue(f"{kind}_model")
    changes = {"template": "qwen2_vl"} if kind == "qwen25_vl" else {}
    found = []
    for batch in (1, 6):
        keys = tiny.recipe(model, image_data, tmp_path / str(batch), per_device_eval_batch_size=batch, **changes)
        session = open_session(*get_train_args(keys))
        evaluator = session.evaluator({})
        found.append(evaluator.evaluate(session.first_state(), ["color", "letter"], restricted=False).likelihood)
    assert found[0].keys() == {"color", "letter"}
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    expected = []
    with torch.inference_mode():
        for number in range(len(session.pipeline.test("color"))):
            inputs = evaluator._inputs([_row(session, number)])
            logits = session.model.get_base_model()(**inputs).logits[0]
            answer = session.pipeline.test("color").features[number]["labels"]
            told = logits[-len(answer) - 1 : -1].double().log_softmax(dim=-1)
            expected.append(-sum(told[j, token].item() for j, token in enumerate(answer)) / len(answer))
    assert found[0]["color"] == pytest.approx(sum(expected) / len(expected), rel=1e-4)


def _row(session, number):
    """A record with its answer behind the prompt, in a batch of its own: nothing is padded."""
    feature = session.pipeline.test("color").features[number]
    ids = [*feature["input_ids"], *feature["labels"]]
    return Row("color", number, {**feature, "input_ids": ids, "attention_mask": [1] * len(ids)}, ("",))


def test_it_can_be_left_out_and_changes_no_score(run, text_recipe):
    with_it, without = (run(text_recipe(str(on), fcit_eval_likelihood=on)) for on in (True, False))
    one, other = (json.loads((folder / "fcit_report.json").read_text()) for folder in (with_it, without))
    assert "likelihood" not in other
    assert [one[key] for key in ("accuracy", "accuracy_restricted", "last")] == [
        other[key] for key in ("accuracy", "accuracy_restricted", "last")
    ]


def test_after_the_last_stage_alone_nothing_is_told_of_others(run, text_recipe):
    report = json.loads((run(text_recipe(fcit_eval_every="last")) / "fcit_report.json").read_text())
    assert report["accuracy"][0] == [None, None] and None not in report["accuracy"][1]
    assert report["likelihood"][0] == [None, None] and None not in report["likelihood"][1]
    assert report["last"] == sum(report["accuracy"][1]) / 2
    assert [report[key] for key in ("avg", "forgetting", "bwt", "fwt")] == [None] * 4
