"""The parts that the base model is made of."""

import numpy as np
import pytest
import torch

from fcit_plugin.samples.mini.build import draw_samples
from fcit_plugin.samples.mini.tasks import TASKS
from tools.mini_pretraining.labels import COUNT_HEADS, IGNORE, PATCH_HEADS, count_labels, patch_labels
from tools.mini_pretraining.mixture import draw_scene
from tools.mini_pretraining.model import build_model, build_processor, to_pixel_values
from tools.mini_pretraining.packing import PROMPT, Packer
from tools.mini_pretraining.questions import ask
from tools.mini_pretraining.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def encode(tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def test_tokenizer_is_always_the_same(tokenizer):
    assert tokenizer.backend_tokenizer.to_str() == build_tokenizer().backend_tokenizer.to_str()


@pytest.mark.parametrize("text", ["yes", "CAT", "[0.12, 0.25, 0.37, 0.50]", "$4.00", "60%", "Any naïve text, 猫 too!"])
def test_text_survives_encoding(tokenizer, text):
    ids = encode(tokenizer, text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id not in ids


def test_each_word_of_the_tasks_is_one_token(tokenizer):
    for key in TASKS:
        for sample in draw_samples(key, 20, 0):
            for word in sample.question.split()[1:]:
                if word.isalpha() and word.islower():
                    assert len(encode(tokenizer, word)) == 1, word


def test_base_questions_do_not_use_the_tasks_words():
    rng = np.random.default_rng(0)
    tasks = {sample.question for key in TASKS for sample in draw_samples(key, 50, 0)}
    openings = {question.split()[0] for question in tasks}
    for _ in range(500):
        question, _ = ask(rng, draw_scene(rng))
        assert question not in tasks and question.split()[0] not in openings


def test_labels_have_known_classes():
    rng = np.random.default_rng(0)
    seen = {head: set() for head in PATCH_HEADS}
    for _ in range(300):
        scene = draw_scene(rng)
        for head, values in patch_labels(scene).items():
            seen[head] |= set(values[values != IGNORE].tolist())
        counts = count_labels(scene)
        assert len(counts) == len(COUNT_HEADS)
        assert (counts == IGNORE).all() or counts[0] == counts[1:].sum()
    for head, values in seen.items():
        assert values <= set(range(PATCH_HEADS[head]))
        assert len(values) > 0.6 * PATCH_HEADS[head] or head == "partner"


def test_a_packed_question_gets_the_logits_it_gets_alone(tokenizer):
    model, processor = build_model(tokenizer, seed=0).eval(), build_processor(tokenizer)
    image = draw_scene(np.random.default_rng(0)).pixels
    turns = [("Spell", "C A T"), ("Tally red", "sum 3")]
    packed = Packer(tokenizer).pack([turns])
    with torch.no_grad():
        together = model(
            input_ids=packed.input_ids,
            pixel_values=to_pixel_values([image]),
            attention_mask=torch.where(packed.attention_mask, 0.0, torch.finfo(torch.float32).min),
            position_ids=packed.position_ids,
        ).logits[packed.labels.roll(-1, 1) != IGNORE]
        alone = []
        for question, answer in turns:
            text = PROMPT.format(question=question)
            inputs = processor(text=text, images=image, return_tensors="pt")
            answer_ids = torch.tensor([[*encode(tokenizer, answer), tokenizer.eos_token_id]])
            ids = torch.cat([inputs["input_ids"], answer_ids], 1)
            logits = model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits
            alone.append(logits[0, -answer_ids.shape[1] - 1 : -1])
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)
