"""A record's own answer, encoded as it is trained and read as it is evaluated, is right in every template."""

import copy
import json
import re

import pytest
from llamafactory.data.template import TEMPLATES
from tokens import byte_tokenizer

from fcit_plugin.data.answers import AnswerTexts, message_of
from fcit_plugin.engine.label_trees import LabelTrees, next_ids
from fcit_plugin.evaluation.metrics import score

ANSWER, OTHERS = "Größe: 3 m²", ("Gr", "no", "那么")
CALLS = [{"name": "look_up", "arguments": {"city": "Köln", "unit": "km"}}]
OTHER_CALLS = [{"name": "look_up", "arguments": {"city": "Bonn"}}, {"name": "stop", "arguments": {"why": "done"}}]
TOOLS = json.dumps(
    [
        {
            "name": name,
            "description": "A tool.",
            "parameters": {
                "type": "object",
                "properties": {argument: {"type": "string", "description": "A text."}},
                "required": [argument],
            },
        }
        for name, argument in (("look_up", "city"), ("stop", "why"))
    ],
    ensure_ascii=False,
)
ASKED = [{"role": "user", "content": "How large is it?"}]
EARLIER = [*ASKED, {"role": "assistant", "content": "Which one?"}, {"role": "user", "content": "The last one."}]
OBSERVED = [
    *ASKED,
    {"role": "function", "content": json.dumps(OTHER_CALLS[0])},
    {"role": "observation", "content": '{"found": 3}'},
]

#: By kind of record: its turns before the answer, system prompt, tools, role of the answer, and whether it thinks before.
KINDS = {
    "plain": (ASKED, None, None, "assistant", False),
    "system": (ASKED, "Be brief.", None, "assistant", False),
    "several turns": (EARLIER, None, None, "assistant", False),
    "thought": (ASKED, None, None, "assistant", True),
    "several turns, thought": (EARLIER, "Be brief.", None, "assistant", True),
    "tools, answer": (OBSERVED, None, TOOLS, "assistant", False),
    "tools, thought": (OBSERVED, "Be brief.", TOOLS, "assistant", True),
    "tool call": (ASKED, None, TOOLS, "function", False),
    "tool call, thought": (ASKED, None, TOOLS, "function", True),
    "two tool calls": (ASKED, None, TOOLS, "function", False),
}

#: What LLaMA-Factory refuses to train in some templates: Llama 2's know no thought before a call, GLM-4's no second call.
SOMETIMES_REFUSED = {"tool call, thought", "two tool calls"}

ODD = ["5", "[1, 2]", "null", '{"name": 1}', "[" * 5000, "Action: x Action Input: {", "[f(", "\x00"]

#: Templates whose tool calls LLaMA-Factory cannot read back as it writes them; they are compared as text.
ONE_WAY = {"aeva", "glm4_5v", "glm4_7", "glm4_moe", "minimax2", "phi4_mini"}


def own_tokens(template):
    """What a template writes in angle or square brackets: the marks of turns, thoughts and calls."""
    call = template.format_function.apply(content=json.dumps(CALLS))
    elements = [*template.format_user.slots, *template.format_assistant.slots, *call, *template.thought_words]
    text = " ".join(element for element in elements if isinstance(element, str))
    return sorted({*re.findall(r"<[^<>\s{}=]+>|\[[A-Z_/]+\]|◁[^◁▷]+▷", text), *template.tool_call_words})


@pytest.fixture(params=["special", "ordinary"])
def marks(request):
    """Whether the tokenizer knows the template's own marks as special tokens, or spells them like any text."""
    return request.param


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_record_s_own_answer_is_right_in_every_template(name, marks):
    template = copy.deepcopy(TEMPLATES[name])
    tokenizer = byte_tokenizer(template, own_tokens(template) if marks == "special" else ())
    texts = AnswerTexts(tokenizer, template)
    tried = 0
    for kind, (turns, system, tools, role, thinks) in KINDS.items():
        right = CALLS + OTHER_CALLS if kind == "two tool calls" else CALLS
        contents = [ANSWER, *OTHERS] if role == "assistant" else [json.dumps(calls) for calls in (right, OTHER_CALLS[:1])]
        thought = f"{template.thought_words[0]}It is {contents[1]}?{template.thought_words[1]}" if thinks else ""
        message = {"role": role, "content": thought + contents[0]}
        try:
            ids = trained(template, tokenizer, [*turns, message], system, tools)
        except (RuntimeError, ValueError):
            assert kind in SOMETIMES_REFUSED
            continue
        tried += 1
        expected = texts.expected(message)
        if role == "assistant":
            assert expected == ANSWER, kind
        elif name in ONE_WAY:
            values = [value for call in right for value in (call["name"], *call["arguments"].values())]
            assert all(value in expected for value in values), kind
        else:
            assert json.loads(expected) == right, kind
        answer = texts.generated([*ids, tokenizer.pad_token_id], role)
        for metric in ("exact_match", "substring", "rouge_l", "anls"):
            assert score(metric, [answer], [expected]) == 100, (kind, metric, answer, expected)

        trees = LabelTrees(texts, contents, {role})
        assert trees.detour(ids, limit=999) is None, kind
        wrong = trained(template, tokenizer, [*turns, {"role": role, "content": thought + astray(role)}], system, tools)
        assert texts.generated(wrong, role) != expected
        detour = trees.detour(wrong, limit=999)
        assert detour is not None, kind
        start = texts.thought_length(ids)
        assert detour.start == start, kind
        assert texts.generated(walk(detour.tree, ids, start, tokenizer), role) == expected, kind
    assert tried >= len(KINDS) - len(SOMETIMES_REFUSED)


def astray(role):
    return "Größe: 4 m²" if role == "assistant" else json.dumps(OTHER_CALLS[1:])


def trained(template, tokenizer, messages, system, tools):
    """The token ids of the last answer, as LLaMA-Factory's processor of supervised records puts them together."""
    ids = template.encode_multiturn(tokenizer, messages, system, tools)[-1][1]
    ends = {*template.get_stop_token_ids(tokenizer)} & {*ids}
    return ids if ends else [*ids, tokenizer.eos_token_id]  # efficient_eos, or a template that leaves out the end


def walk(tree, ids, start, tokenizer):
    """What greedy decoding within the labels gives a model that would have answered with these ids."""
    found = []
    for _ in range(len(ids) + 2):
        allowed = next_ids(tree, found, [tokenizer.eos_token_id])
        place = start + len(found)
        found.append(ids[place] if place < len(ids) and ids[place] in allowed else allowed[0])
    return found


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("<think>\nlong\n</think>\n\nyes", "yes"),
        ("<think>long</think>yes", "yes"),
        ("<think>\n\n</think>\n\nyes", "yes"),
        ("opened in the prompt\n</think>\n\nyes", "yes"),
        ("<think>\ncut off before the ans", ""),
        ("Write <think> before it.", "Write <think> before it."),
        ("yes<|im_end|>\n<|im_start|>user", "yes"),
    ],
)
def test_thoughts_and_ends_in_the_output_of_chatml(output, text):
    template = copy.deepcopy(TEMPLATES["qwen3"])
    tokenizer = byte_tokenizer(template)
    texts = AnswerTexts(tokenizer, template)
    assert texts.generated(tokenizer.encode(output, add_special_tokens=False), "assistant") == text


def test_calls_are_equal_whatever_their_order_and_spaces():
    template = copy.deepcopy(TEMPLATES["qwen"])
    tokenizer = byte_tokenizer(template)
    texts = AnswerTexts(tokenizer, template)
    expected = texts.expected({"role": "function", "content": '{"name": "f", "arguments": {"a": 1, "b": [2]}}'})
    said = '<tool_call>\n{"arguments":{"b":[2],"a":1},"name":"f"}\n</tool_call>'
    assert texts.generated(tokenizer.encode(said), "function") == expected
    for wrong in ("f(1)", said.replace("2", "3"), said.replace('"name"', '"nam"'), said[:-20], ""):
        assert texts.generated(tokenizer.encode(wrong), "function") != expected


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_output_of_a_model_is_too_odd_to_be_read(name):
    template = copy.deepcopy(TEMPLATES[name])
    tokenizer = byte_tokenizer(template)
    texts = AnswerTexts(tokenizer, template)
    for output in ODD:
        for role in ("assistant", "function"):
            assert isinstance(texts.generated(tokenizer.encode(output, add_special_tokens=False), role), str)


def test_of_a_pair_or_of_feedback_the_answer_that_there_is_counts():
    good, bad, none = ({"role": "assistant", "content": content} for content in ("good", "bad", ""))
    assert message_of([good, bad]) == good
    assert message_of([none, bad]) == bad
    assert message_of([]) == none
