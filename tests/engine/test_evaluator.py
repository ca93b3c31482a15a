"""Free and label-restricted answers against a plain greedy search: no cache, no batch, no plugin."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from llamafactory.data.formatter import StringFormatter
from llamafactory.data.template import TEMPLATES
from llamafactory.hparams import get_train_args
from transformers import AutoModelForCausalLM, AutoTokenizer

from fcit_plugin.engine.evaluator import Evaluator
from fcit_plugin.engine.open_session import open_session
from fcit_plugin.evaluation.metrics import exact_match, mean_of
from fcit_plugin.hookspecs import hookimpl

#: Answers of one, two and three words; one begins like another, and one is another's beginning.
LABELS = {"a": "a", "b": "b c", "c": "b d a", "d": "a two"}


class Spy:
    """A metric that keeps what it was given."""

    def __init__(self):
        self.calls = []

    @hookimpl
    def fcit_metrics(self):
        def spy(predictions, answers):
            self.calls.append((list(predictions), list(answers)))
            return mean_of(exact_match)(predictions, answers)

        return {"spy": spy}


@pytest.fixture(params=["the end is last", "the end is followed"])
def template(request, monkeypatch):
    """A template whose answers end with the end token, and one like ChatML: text after it, and a second stop word."""
    if request.param == "the end is followed":
        turn = StringFormatter(slots=["{{content}}", {"eos_token"}, "a"])
        turns = replace(TEMPLATES["vicuna"], format_assistant=turn, stop_words=["<s>"])
        monkeypatch.setitem(TEMPLATES, "followed", turns)
        return "followed"
    return "vicuna"


@pytest.fixture
def relabeled(text_data, tmp_path):
    """The tiny tasks, where ``letter`` has answers of several words and ``color`` another answer for each record."""
    folder = shutil.copytree(text_data, tmp_path / "data")
    for split in ("train", "test"):
        records = json.loads((folder / f"letter_{split}.json").read_text())
        for record in records:
            if split == "test":
                record["answer"] = LABELS[record["answer"]]
            else:
                record["conversations"][1]["value"] = LABELS[record["conversations"][1]["value"]]
        (folder / f"letter_{split}.json").write_text(json.dumps(records))
    record = json.loads((folder / "color_train.json").read_text())[0]
    many = [json.loads(json.dumps(record)) for _ in range(65)]
    for number, one in enumerate(many):
        one["conversations"][1]["value"] = f"answer {number}"
    (folder / "color_train.json").write_text(json.dumps(many))
    info = json.loads((folder / "dataset_info.json").read_text())
    info["letter_test"]["fcit_metric"] = "spy"
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def greedy(model, tokenizer, prompt, labels=None, steps=4):
    """The most likely next token again and again, of those that go on with a label if there are labels."""
    said, end = [], tokenizer.eos_token_id
    ids = [[*tokenizer(label, add_special_tokens=False)["input_ids"], end] for label in labels or ()]
    for _ in range(steps):
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *said]])).logits[0, -1]
        allowed = {label[len(said)] for label in ids if label[: len(said)] == said} if ids else range(len(logits))
        token = max(allowed, key=lambda token: logits[token].item())
        if token == end:
            break
        said.append(token)
    return tokenizer.decode(said, skip_special_tokens=True).strip()


def test_answers_are_those_of_a_greedy_search_free_and_within_the_labels(
    text_recipe, text_model, relabeled, register, template
):
    spy = Spy()
    register(spy)
    keys = {"dataset_dir": str(relabeled), "template": template, "per_device_eval_batch_size": 4}
    session = open_session(*get_train_args(text_recipe(**keys)))
    labels = session.pipeline.label_sets(session.scenario.all_datasets(), {})
    evaluator = session.evaluator(labels)
    scores = evaluator.evaluate(session.first_state(), ["color", "letter"])

    (free, answers), (restricted, _) = spy.calls
    records = json.loads((relabeled / "letter_test.json").read_text())
    assert answers == [record["answer"] for record in records]
    model = AutoModelForCausalLM.from_pretrained(text_model).eval()
    tokenizer = AutoTokenizer.from_pretrained(text_model)
    prompts = session.pipeline.test("letter").features["input_ids"]
    assert free == [greedy(model, tokenizer, prompt) for prompt in prompts]
    assert restricted == [greedy(model, tokenizer, prompt, LABELS.values()) for prompt in prompts]
    assert set(restricted) <= set(LABELS.values())
    assert free != restricted and any(" " in answer for answer in restricted)

    assert scores.restricted == {"color": None, "letter": mean_of(exact_match)(restricted, answers)}
    assert scores.free["letter"] == mean_of(exact_match)(free, answers)
    assert scores.other == {}


def test_an_answer_that_is_a_label_already_is_not_decoded_again(
    text_recipe, text_model, relabeled, register, template, monkeypatch
):
    spy = Spy()
    register(spy)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(text_model).eval(), AutoTokenizer.from_pretrained(text_model)
    keys = {"dataset_dir": str(relabeled), "template": template}
    prompts = open_session(*get_train_args(text_recipe(**keys))).pipeline.test("letter").features["input_ids"]
    free = [greedy(model, tokenizer, prompt) for prompt in prompts]
    labels = [free[0], *LABELS.values()]
    records = json.loads((relabeled / "letter_train.json").read_text())
    for i, record in enumerate(records):
        record["conversations"][1]["value"] = labels[i % len(labels)]
    (relabeled / "letter_train.json").write_text(json.dumps(records))

    decoded = []
    original = Evaluator._generate_batch
    monkeypatch.setattr(
        Evaluator, "_generate_batch", lambda self, batch, inputs: decoded.extend(batch) or original(self, batch, inputs)
    )
    session = open_session(*get_train_args(text_recipe(**keys)))
    sets = session.pipeline.label_sets(session.scenario.all_datasets(), {})
    evaluator = session.evaluator(sets)
    evaluator.evaluate(session.first_state(), ["letter"])
    assert spy.calls[1][0] == [greedy(model, tokenizer, prompt, labels) for prompt in prompts]
    again = [row.number for row in decoded if row.tree is not None]
    assert again == [i for i, answer in enumerate(free) if answer not in labels] and 0 not in again


def test_in_labels_a_model_answers_after_its_own_thought(text_recipe, text_model, relabeled, register, monkeypatch):
    """A model whose free answers begin with a thought: what it says after it is compared, and restricted."""
    thoughtful = replace(TEMPLATES["vicuna"], thought_words=("red ", " blue "))
    monkeypatch.setitem(TEMPLATES, "thoughtful", thoughtful)
    spy = Spy()
    register(spy)
    records = json.loads((relabeled / "letter_test.json").read_text())
    for record in records:
        record["answer"] = f"red color blue {record['answer']}"
    (relabeled / "letter_test.json").write_text(json.dumps(records))
    session = open_session(*get_train_args(text_recipe(dataset_dir=str(relabeled), template="thoughtful")))
    prompts = session.pipeline.test("letter").features["input_ids"]
    tokenizer = session.pipeline.tokenizer
    thought = tokenizer("red letter blue", add_special_tokens=False)["input_ids"]
    astray, label = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("one", "b c"))
    original = Evaluator._generate_batch

    def think_first(self, batch, inputs):
        if any(row.tree is not None for row in batch):
            return original(self, batch, inputs)
        end = tokenizer.eos_token_id
        return [[*thought, *(label if row.number % 2 else astray), end] for row in batch]

    monkeypatch.setattr(Evaluator, "_generate_batch", think_first)
    labels = session.pipeline.label_sets(session.scenario.all_datasets(), {})
    session.evaluator(labels).evaluate(session.first_state(), ["letter"])
    (free, answers), (restricted, _) = spy.calls
    assert answers == [record["answer"].removeprefix("red color blue ") for record in records]
    assert free == ["b c" if number % 2 else "one" for number in range(len(prompts))]
    model = AutoModelForCausalLM.from_pretrained(text_model).eval()
    after = [greedy(model, tokenizer, [*prompt, *thought], LABELS.values()) for prompt in prompts]
    assert restricted == [given if number % 2 else found for number, (given, found) in enumerate(zip(free, after, strict=True))]
