"""What the user of a prompt has said: exactly where messages become ids, and read back from the ids of any template."""

import copy
from types import SimpleNamespace

import pytest
from datasets import Dataset
from datasets.fingerprint import Hasher
from llamafactory.chat.hf_engine import HuggingfaceEngine
from llamafactory.data import loader
from llamafactory.data.template import TEMPLATES, Llama2Template
from llamafactory.hparams import get_train_args
from tokens import byte_tokenizer

from fcit_plugin.data.instructions import KEYWORD, ROUTING, Instructions, opening_of, prompt_reader, user_turns
from fcit_plugin.recipe.request import DataRequest

#: Templates that have nothing in front of a user's message.
UNMARKED = {"empty", "fewshot", "hunyuan", "paligemma", "yuan"}
LATEST = "Which letter, please?"
TURNS = [("user", "first color"), ("assistant", "red"), ("user", f"<image>\n{LATEST}"), ("assistant", "")]
SAID = ("first color", LATEST)
#: A tool is called in the middle and at the end.
WITH_TOOL = [
    *(TURNS[0], ("function", '{"name": "look", "arguments": {}}'), ("observation", "it is 42 wide")),
    *(("assistant", "wide"), TURNS[2], ("function", '{"name": "look", "arguments": {}}'), ("observation", "and 7 high")),
]


def messages_of(turns):
    return [{"role": role, "content": content} for role, content in turns]


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_of_llamafactory_is_read_back_or_refused(name):
    template = TEMPLATES[name]
    tokenizer = byte_tokenizer(template)
    read = prompt_reader(tokenizer, template)
    prompt, answer = template.encode_oneturn(
        tokenizer, messages_of([*TURNS[:-1], ("assistant", "a word")]), system="Be helpful."
    )
    for ids in (prompt, prompt + answer):  # to generate from, and as trained on
        if name in UNMARKED:
            with pytest.raises(ValueError, match="does not mark where a user's turn begins"):
                read(ids)
        else:
            within = isinstance(template, Llama2Template) and template.format_system.slots[0].strip() == "{{content}}"
            assert (read(ids)[0].removeprefix("Be helpful.").strip() if within else read(ids)[0], *read(ids)[1:]) == SAID


@pytest.mark.parametrize("name", sorted({*TEMPLATES} - UNMARKED))
def test_one_turn_with_the_templates_own_system_prompt_is_read_back(name):
    template = copy.copy(TEMPLATES[name])
    template.default_system = "Be helpful."
    tokenizer = byte_tokenizer(template)
    prompt, _ = template.encode_oneturn(tokenizer, messages_of(TURNS[2:]))
    assert prompt_reader(tokenizer, template)(prompt) == (LATEST,)


@pytest.mark.parametrize("name", sorted({*TEMPLATES} - UNMARKED))
def test_what_is_written_after_the_opening_of_a_turn_is_read_back_up_to_its_end(name):
    """The end as the template writes it: a stop, or what the assistant's turn begins with."""
    template = TEMPLATES[name]
    tokenizer = byte_tokenizer(template)
    opening = opening_of(tokenizer, template)
    prompt, answer = template.encode_oneturn(tokenizer, messages_of([("user", LATEST), ("assistant", "a word")]))
    assert opening and prompt[: len(opening)] == opening
    assert prompt_reader(tokenizer, template)([*opening, *prompt[len(opening) :], *answer]) == (LATEST,)
    written = [*opening, *tokenizer.encode(LATEST, add_special_tokens=False)]
    assert prompt_reader(tokenizer, template)(written) == (LATEST,), "it has come to no end"
    assert tokenizer.decode(prompt[len(opening) :]).lstrip().startswith(LATEST)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("qwen2_vl", "<|vision_start|><|image_pad|><|image_pad|><|vision_end|>"),
        ("qwen3_vl", "<|vision_start|><|image_pad|><|vision_end|>"),
        ("llava", "<image><image><image>"),
    ],
)
def test_the_tokens_of_an_image_are_no_part_of_the_instruction(name, image):
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<|vision_start|>", "<|image_pad|>", "<|vision_end|>"], special_tokens=True)
    messages = messages_of([("user", f"{image}\n{LATEST}"), ("assistant", "")])
    prompt, _ = TEMPLATES[name].encode_oneturn(tokenizer, messages)
    assert prompt_reader(tokenizer, TEMPLATES[name])(prompt) == (LATEST,)


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        (TURNS[:1], ("first color",)),
        (TURNS[:3], SAID),
        (WITH_TOOL, SAID),
        ([("system", "Be helpful."), *TURNS[:3]], SAID),
        ([("user", "<video><audio> count ")], ("count",)),
        ([("user", "<image>"), ("assistant", "nice"), ("user", "count")], ("count",)),
        ([("user", "<image>")], ("",)),
        ([("observation", "42")], ("",)),
    ],
)
def test_of_messages_those_of_the_user_count_without_media(turns, expected):
    assert user_turns(messages_of(turns)) == expected


def test_the_result_of_a_tool_is_read_back_as_nothing_that_the_user_says_where_the_template_tells_them_apart():
    """Also where the template opens it like a turn of the user, and where the prompt ends with it."""
    told, not_told = [], []
    for name in sorted({*TEMPLATES} - UNMARKED):
        template = TEMPLATES[name]
        tokenizer = byte_tokenizer(template)
        prompt, _ = template.encode_oneturn(tokenizer, messages_of([*WITH_TOOL, ("assistant", "")]))
        found = prompt_reader(tokenizer, template)(prompt)
        same = template.format_observation.slots == template.format_user.slots
        (not_told if same else told).append(name)
        assert found == (("first color", "it is 42 wide", LATEST, "and 7 high") if same else SAID), name
    assert len(told) > 50 and not_told


@pytest.mark.parametrize("name", ["mistral", "gemma", "vicuna", "paligemma", "empty", "yuan", "llama2"])
@pytest.mark.parametrize("routed", [True, False])
def test_the_chat_engine_hands_the_instruction_of_the_messages_to_a_routed_model_alone(name, routed):
    """Also where the ids cannot tell it: a system prompt inside the turn, no marks, marks inside the message."""
    template = copy.copy(TEMPLATES[name])
    template.mm_plugin = TEMPLATES["vicuna"].mm_plugin
    tokenizer = byte_tokenizer(template)
    model = SimpleNamespace(device="cpu", config=SimpleNamespace(model_type="llama"), **({ROUTING: 1} if routed else {}))
    generating = {"do_sample": False, "temperature": 1, "top_p": 1, "top_k": 1, "repetition_penalty": 1,
                  "length_penalty": 1, "skip_special_tokens": True}  # fmt: skip
    messages = messages_of([*TURNS[:2], ("user", "USER: who says [INST] ?")])
    arguments, _ = HuggingfaceEngine._process_args(
        model, tokenizer, None, template, generating, messages, "Be helpful.", input_kwargs={}
    )
    assert arguments.get(KEYWORD) == ([("first color", "USER: who says [INST] ?")] if routed else None)


def test_the_data_pipeline_keeps_the_instruction_of_every_prompt(text_keys, text_data, tmp_path):
    keys = {key: value for key, value in text_keys.items() if not key.startswith("fcit_")}
    keys |= {"stage": "sft", "dataset": "color", "output_dir": str(tmp_path), "report_to": "none"}
    _, data_args, training_args, _, _ = get_train_args(keys)
    training_args.predict_with_generate = True
    template = copy.copy(TEMPLATES["mistral"])
    tokenizer = byte_tokenizer(template)
    rows = [("one", "Be brief."), ("<image>two", "Be kind."), ("three", "")]
    aligned = Dataset.from_list(
        [
            {
                "_prompt": messages_of([("user", text)]), "_response": messages_of([("assistant", "x")]),
                "_system": system, "_tools": "", "_images": None, "_videos": None, "_audios": None,
            }
            for text, system in rows
        ]
    )  # fmt: skip

    def preprocess():
        return loader._get_preprocessed_dataset(
            aligned, data_args, training_args, "sft", template, tokenizer, None, is_eval=True
        )

    template.mm_plugin = TEMPLATES["vicuna"].mm_plugin
    assert len(preprocess()) == 3, "a plain run is left alone"
    data_args.fcit_request = DataRequest(instructions=Instructions())
    before = Hasher.hash(data_args)
    found = [data_args.fcit_request.instructions.recall(row["input_ids"]) for row in preprocess()]
    assert found == [("one",), ("two",), ("three",)]
    assert data_args.fcit_request.instructions.recall([1, 2, 3]) is None
    assert Hasher.hash(data_args) == before, "the data cache would be missed"
