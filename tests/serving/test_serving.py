"""An FCIT output folder as ``adapter_name_or_path``: every request and every sample activates its own subspaces."""

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny
import torch
from llamafactory.chat import ChatModel
from llamafactory.hparams import get_infer_args
from PIL import Image
from runs import infer_args, run_recipe, weighted_by_peft
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from fcit_plugin.data.instructions import KEYWORD
from fcit_plugin.errors import FcitError
from fcit_plugin.knowledge.activation import activation_weights
from fcit_plugin.knowledge.embedding import EmbeddingEncoder
from fcit_plugin.knowledge.nearness import Nearness
from fcit_plugin.serving.join import join_folders
from fcit_plugin.state.folder import StateFolder

COLOR, LETTER = (f"{tiny.TASKS[task][0]} red" for task in ("color", "letter"))
#: Its token lies between those of the two subspaces.
BETWEEN = "which color belongs to this square"
GREEDY = {"infer_backend": "huggingface", "max_new_tokens": 4, "do_sample": False}


@pytest.fixture(scope="module")
def chat(text_run, text_keys):
    """LLaMA-Factory's chat model on a run's output; it runs eight requests at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAX_CONCURRENT", "8")
        return ChatModel(infer_args(text_keys, text_run, **GREEDY))


class Reference:
    """The run's subspaces by PEFT's own weighted sum, with weights worked out from the identity tokens on disk."""

    def __init__(self, model_folder, run, cls=AutoModelForCausalLM):
        self.folder, self.run, self.cls = model_folder, run, cls
        self.state = StateFolder(run).load()

    def base(self):
        base = self.cls.from_pretrained(self.folder).eval()
        if (self.run / "shared.safetensors").exists():
            base.load_state_dict(load_file(self.run / "shared.safetensors"), strict=False)
        return base

    def weights(self, instruction):
        encoder = EmbeddingEncoder(self.base().get_input_embeddings(), tiny.tokenizer(), center=True)
        tokens, used = self.state.tokens.tokens, self.state.tokens.counts > 0
        embedded = encoder.encode([instruction])
        return activation_weights(embedded, tokens, used, mode="softmax", temperature=0.05)[0].tolist()

    def model(self, instruction):
        return weighted_by_peft(self.base(), self.run, self.weights(instruction))

    def answer(self, tokenizer, instruction, **inputs):
        width = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            output = self.model(instruction).generate(
                **inputs, max_new_tokens=4, do_sample=False, eos_token_id=2, pad_token_id=0
            )
        return tokenizer.decode(output[0, width:], skip_special_tokens=True).strip()


@pytest.fixture(scope="module")
def reference(text_run, text_keys):
    return Reference(text_keys["model_name_or_path"], text_run)


def user(text):
    return {"role": "user", "content": text}


def prompt(engine, messages, system=None):
    ids, _ = engine.template.encode_oneturn(engine.tokenizer, [*messages, {"role": "assistant", "content": ""}], system)
    return torch.tensor([ids])


def ask(chat, messages, **more):
    return chat.chat(messages, **more)[0].response_text.strip()


CONVERSATIONS = {
    "one task": ([user(COLOR)], None, COLOR),
    "another task": ([user(LETTER)], None, LETTER),
    "a mixture": ([user(BETWEEN)], None, BETWEEN),
    "the latest turn": ([user(COLOR), {"role": "assistant", "content": "red"}, user(LETTER)], None, LETTER),
    "not the system prompt": ([user(COLOR)], LETTER, COLOR),
    "not the template's words": ([user(f"{LETTER} USER: count")], None, f"{LETTER} USER: count"),
}


@pytest.mark.parametrize(("messages", "system", "instruction"), CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_chat_activates_by_the_latest_instruction_streaming_or_not(chat, reference, messages, system, instruction):
    ids = prompt(chat.engine, messages, system)
    expected = reference.answer(chat.engine.tokenizer, instruction, input_ids=ids)
    assert ask(chat, list(messages), system=system) == expected
    assert "".join(chat.stream_chat(list(messages), system=system)).strip() == expected


def test_the_answers_of_the_two_tasks_differ_so_that_the_tests_above_say_something(chat, reference):
    ids = prompt(chat.engine, [user(LETTER)])
    right, wrong = (reference.answer(chat.engine.tokenizer, text, input_ids=ids) for text in (LETTER, COLOR))
    assert right != wrong


@pytest.mark.parametrize("instruction", [COLOR, BETWEEN])
def test_logits_are_those_of_the_weighted_sum(chat, reference, instruction):
    ids = prompt(chat.engine, [user(instruction)])
    with torch.inference_mode():
        expected = reference.model(instruction)(input_ids=ids).logits
        torch.testing.assert_close(chat.engine.model(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-4)


def test_eight_requests_at_a_time_get_the_answers_that_they_get_alone(chat):
    texts = [f"{tiny.TASKS[task][0]} {color}" for color in tiny.COLORS for task in ("color", "letter")] + [BETWEEN] * 2
    alone = [ask(chat, [user(text)]) for text in texts]
    assert len(set(alone)) > 2
    for _ in range(3):
        with ThreadPoolExecutor(len(texts)) as pool:
            assert list(pool.map(lambda text: ask(chat, [user(text)]), texts)) == alone
            streams = pool.map(lambda text: "".join(chat.stream_chat([user(text)])).strip(), texts)
            assert list(streams) == alone


def test_two_generations_that_take_turns_step_by_step_keep_their_own_weights(chat, reference):
    """Each forward pass of one waits for a forward pass of the other: whatever is shared would be seen."""
    model, turn = chat.engine.model, threading.Barrier(2, timeout=60)

    def wait(*_):
        turn.wait()

    handle = model.get_base_model().model.register_forward_pre_hook(wait)
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    inputs = {text: prompt(chat.engine, [user(text)]) for text in (COLOR, LETTER)}
    try:
        with ThreadPoolExecutor(2) as pool, torch.no_grad():
            found = list(pool.map(lambda text: model.generate(input_ids=inputs[text], **options), inputs))
    finally:
        handle.remove()
    for text, output in zip(inputs, found, strict=True):
        expected = reference.model(text).generate(input_ids=inputs[text], **options)
        assert output.tolist() == expected.tolist()


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}, {"use_cache": False}])
def test_a_mixed_batch_with_beams_or_without_a_cache_equals_one_by_one(chat, options):
    model, tokenizer = chat.engine.model, chat.engine.tokenizer
    rows = [prompt(chat.engine, [user(text)])[0].tolist() for text in (COLOR, LETTER, BETWEEN)]
    width = max(map(len, rows))
    ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": tokenizer.pad_token_id, **options}
    with torch.no_grad():
        mixed = model.generate(input_ids=ids, attention_mask=mask, **options)[:, width:].tolist()
        alone = [model.generate(input_ids=torch.tensor([row]), **options)[:, len(row) :].tolist() for row in rows]

    def ended(answers):
        return [answer[: answer.index(2) if 2 in answer else None] for answer in answers]

    assert ended(mixed) == ended([answer for answers in alone for answer in answers])


def test_a_single_decoding_step_is_refused_for_it_does_not_show_the_instruction(chat):
    ids = prompt(chat.engine, [user(COLOR)])
    with torch.no_grad():
        cache = chat.engine.model(input_ids=ids, use_cache=True).past_key_values
        with pytest.raises(RuntimeError, match="decoded by generate"):
            chat.engine.model(input_ids=torch.tensor([[7]]), past_key_values=cache)


def test_images_are_answered_through_the_subspaces_and_the_trained_projector(llava_run, llava_keys, image_data):
    chat = ChatModel(infer_args(llava_keys, llava_run, image_max_pixels=1024, **GREEDY))
    reference = Reference(llava_keys["model_name_or_path"], llava_run, AutoModelForImageTextToText)
    picture = Image.open(image_data / "datasets" / "blue.png")
    for task in ("color", "letter"):
        instruction = tiny.TASKS[task][0]
        ids = prompt(chat.engine, [user(f"{'<image>' * 4}\n{instruction}")])
        pixels = chat.engine.processor.image_processor(picture, return_tensors="pt")["pixel_values"]
        expected = reference.answer(chat.engine.tokenizer, instruction, input_ids=ids, pixel_values=pixels)
        assert ask(chat, [user(instruction)], images=[picture]) == expected


def test_an_instruction_far_from_every_token_is_left_to_the_base_model_also_in_a_mixed_batch(text_run, text_keys, reference):
    far = "ASSISTANT: . ?"
    chat = ChatModel(infer_args(text_keys, text_run, fcit_fallback_threshold=0.6, **GREEDY))
    router = chat.engine.model.fcit_routing.router
    router.fallback = None
    assert router.weights([(far,)]).sum() == pytest.approx(1), "without a threshold all are answered by subspaces"
    router.fallback = 0.6
    assert router.weights([(far,), (COLOR,)]).sum(axis=1) == pytest.approx([0, 1])
    ids = torch.cat([prompt(chat.engine, [user(COLOR)])] * 2)
    base = reference.base()
    with torch.no_grad():
        rows = iter([(far,), (COLOR,)])
        chat.engine.model.fcit_routing.read = lambda ids: next(rows)
        mixed = chat.engine.model(input_ids=ids).logits
        assert torch.equal(mixed[0], base(input_ids=ids).logits[0]), "zero weights must be the base model exactly"
        expected = reference.model(COLOR)(input_ids=ids[1:]).logits[0]
        torch.testing.assert_close(mixed[1], expected, atol=1e-5, rtol=1e-4)
        options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
        generated = chat.engine.model.generate(input_ids=ids, **{KEYWORD: [(far,), (COLOR,)]}, **options)
        assert torch.equal(generated[:1], base.generate(input_ids=ids[:1], **options))


def test_each_requests_weights_are_logged_on_demand(text_run, text_keys, reference, logged):
    chat = ChatModel(infer_args(text_keys, text_run, fcit_trace_activation=True, **GREEDY))
    ask(chat, [user(BETWEEN)])
    (line,) = [text for text in logged.messages if "Activation" in text]
    one, other = reference.weights(BETWEEN)
    assert line == f"Activation of '{BETWEEN}': 0 (color) {one:.3f}, 1 (letter) {other:.3f}."


def test_questions_of_no_kind_are_logged_without_their_words_and_not_too_often(text_run, text_keys, logged):
    chat = ChatModel(infer_args(text_keys, text_run, fcit_fallback_threshold=0.6, **GREEDY))
    for text in (COLOR, "ASSISTANT: . ?", "ASSISTANT: . ?"):
        ask(chat, [user(text)])
    lines = [text for text in logged.messages if "Far from" in text]
    (line,) = lines
    assert re.fullmatch(
        r"Far from what this run learned: 1 question \(cosine -?0\.\d\d to the nearest subspace, [01], 99 % of whose own "
        r"instructions have 0\.\d\d or more\); the base model answers\.",
        line,
    )


def test_auto_takes_the_cosine_of_the_encoder(text_run, text_keys, monkeypatch):
    monkeypatch.setattr(EmbeddingEncoder, "nearness", Nearness(far=0.6), raising=False)
    chat = ChatModel(infer_args(text_keys, text_run, fcit_fallback_threshold="auto", **GREEDY))
    router = chat.engine.model.fcit_routing.router
    assert router.fallback == 0.6
    assert router.weights([("ASSISTANT: . ?",), (COLOR,)]).sum(axis=1) == pytest.approx([0, 1])


def test_auto_is_refused_where_the_encoder_tells_nothing(text_run, text_keys):
    with pytest.raises(FcitError, match=r"`fcit_fallback_threshold: auto` has no cosine .* prompt"):
        ChatModel(infer_args(text_keys, text_run, fcit_fallback_threshold="auto", **GREEDY))


def test_predict_routes_each_sample_of_a_mixed_batch(text_run, text_keys, text_data, tmp_path, chat):
    pytest.importorskip("jieba", reason="LLaMA-Factory's metrics need it")
    keys = {key: value for key, value in text_keys.items() if not key.startswith("fcit_")}
    keys |= {
        **{"stage": "sft", "do_train": False, "do_predict": True, "predict_with_generate": True},
        **{"eval_dataset": "color,letter", "output_dir": str(tmp_path / "out"), "report_to": "none"},
        **{"adapter_name_or_path": str(text_run), "max_samples": 5, "do_sample": False, "per_device_eval_batch_size": 4},
    }
    run_recipe(keys)
    records = [
        record["conversations"]
        for task in ("color", "letter")
        for record in json.loads((text_data / f"{task}_train.json").read_text())[:5]
    ]
    lines = (tmp_path / "out" / "generated_predictions.jsonl").read_text().splitlines()
    found = [json.loads(line)["predict"].strip() for line in lines]
    assert found == [ask(chat, [user(turns[0]["value"])]) for turns in records]


def test_a_run_joined_with_itself_serves_as_the_run_does(text_run, text_keys, tmp_path, chat):
    assert join_folders(text_run, text_run, tmp_path / "joined").places == [0, 1]
    joined = ChatModel(infer_args(text_keys, tmp_path / "joined", **GREEDY))
    for text in (COLOR, BETWEEN):
        ids = prompt(chat.engine, [user(text)])
        with torch.inference_mode():
            expected, found = (model.engine.model(input_ids=ids).logits for model in (chat, joined))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_an_fcit_folder_cannot_be_trained_on(text_run, text_keys, text_data, tmp_path):
    keys = {key: value for key, value in text_keys.items() if not key.startswith("fcit_")}
    keys |= {"stage": "sft", "dataset": "color", "output_dir": str(tmp_path / "out"), "report_to": "none"}
    with pytest.raises(ValueError, match="is the output of an fcit run: it can be used for inference"):
        run_recipe({**keys, "adapter_name_or_path": str(text_run)})


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        ({"fcit_fallback_threshold": 2}, ["`fcit_fallback_threshold`", "between -1 and 1"]),
        ({"fcit_fallback_threshold": "low"}, ["`fcit_fallback_threshold`", "between -1 and 1", "auto, got low"]),
        ({"fcit_trace_activation": "yes"}, ["`fcit_trace_activation`", "bool"]),
        ({"fcit_trace_activation": True, "adapter_name_or_path": None}, ["`fcit_trace_activation`", "fcit run"]),
        ({"fcit_fallback_threshold": 0.0, "adapter_name_or_path": None}, ["`fcit_fallback_threshold`", "fcit run"]),
        ({"fcit_fallback_threshold": 0.5, "export_dir": "x"}, ["`fcit_fallback_threshold`", "export"]),
        ({"fcit_temperature": 0.5}, ["`fcit_temperature`", "`stage: fcit`"]),
        ({"infer_backend": "vllm"}, ["`infer_backend: vllm`", "huggingface", "fcit-cli export-adapters"]),
    ],
)
def test_what_inference_would_ignore_is_refused(text_run, text_keys, monkeypatch, more, parts):
    monkeypatch.setattr("llamafactory.hparams.parser.check_version", lambda *_, **__: None)  # as if vllm were installed
    keys = infer_args(text_keys, text_run) | more
    with pytest.raises(FcitError) as caught:
        get_infer_args({key: value for key, value in keys.items() if value is not None})
    assert [part for part in parts if part not in str(caught.value)] == []
