"""What becomes of a record, judged without LLaMA-Factory: hostile ones never make it fail."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcit_plugin.data.diagnosis import _about_json, _media_problem
from fcit_plugin.data.forms import COLUMNS, TAGS, USES, Form, judge
from fcit_plugin.data.image_faults import image_problem

NAMES = [
    "instruction",
    "input",
    "output",
    "history",
    "conversations",
    "chosen",
    "rejected",
    "wanted",
    "image",
    "text",
    "answer",
]
WORDS = st.sampled_from(
    ["from", "value", "human", "gpt", "system", "observation", "function_call", "tool_calls", "<image>", ""]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
TURNS = st.lists(st.fixed_dictionaries({"from": WORDS | VALUES, "value": st.text(max_size=3) | VALUES}) | VALUES, max_size=5)
RECORDS = st.dictionaries(st.sampled_from(NAMES), TURNS | VALUES) | VALUES
FORMS = st.builds(
    Form,
    st.sampled_from(["alpaca", "sharegpt", "openai", "fcit", "another"]),
    st.booleans(),
    st.fixed_dictionaries(
        {}, optional={key: st.sampled_from([*NAMES, None]) for key in
                      [*COLUMNS, "history", "system", "tools", "images", "chosen", "rejected", "kto_tag"]}
    ),
    st.just(TAGS) | st.fixed_dictionaries({}, optional={key: WORDS | st.none() for key in TAGS}),
    st.booleans(),
)  # fmt: skip
SOME_USE = st.sampled_from([*USES.values(), "test"])


@settings(max_examples=400, deadline=None)
@given(record=RECORDS, form=FORMS, use=SOME_USE)
def test_any_record_is_taken_left_out_or_broken(record, form, use):
    verdict = judge(record, form, use)
    assert sum(part is not None for part in (verdict.answer, verdict.left_out, verdict.broken)) <= 1
    for words in (verdict.left_out, verdict.broken):
        assert words is None or (words and len(words) < 1000)


@settings(max_examples=200, deadline=None)
@given(record=st.dictionaries(st.sampled_from(NAMES), VALUES), form=FORMS)
def test_any_image_is_there_or_something_is_wrong_with_it(record, form, tmp_path_factory):
    problem = _media_problem(record, form, str(tmp_path_factory.getbasetemp()))
    assert problem is None or problem


@settings(max_examples=200, deadline=None)
@given(image=VALUES | st.binary(min_size=1, max_size=60).map(lambda tail: b"\x89PNG\r\n\x1a\n" + tail))
def test_bytes_that_are_no_image_are_none(image):
    assert image_problem(image)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=60) | RECORDS.map(lambda value: json.dumps(value, default=str).encode()), form=FORMS)
def test_any_file_can_be_looked_at(content, form):
    found = _about_json(content, form, "sft")
    assert found is None or all(found[2:])


@pytest.mark.parametrize("depth", [10, 2_000, 200_000])
def test_however_deeply_a_file_is_nested(depth):
    form = Form.of({"formatting": "sharegpt"})
    for content in (b"[" * depth, b"[" * depth + b"]" * depth, b'[{"conversations":' + b"[" * depth + b"]" * depth + b"}]"):
        assert _about_json(content, form, "sft") is None or _about_json(content, form, "sft")[2]
