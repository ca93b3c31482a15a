"""What server and site tell each other before the first round: what comes back is what was sent, and nothing else passes."""

import json

import pytest
from flwr.app import ConfigRecord, MetricRecord, RecordDict

from fcit_plugin import __version__
from fcit_plugin.errors import FcitError
from fcit_plugin.federation.hello import (
    HELLO,
    TEXT,
    Answer,
    Question,
    TaskOfSite,
    answer_in,
    answer_records,
    hello,
    question_in,
)
from fcit_plugin.federation.messages import ClientConfig, config_of

CONFIG = ClientConfig("run", 0, 0, 1, 0)
ANSWER = Answer(
    {"a": TaskOfSite({"x": 3, "y": 4}, 2), "b": TaskOfSite({"z": 1}, 0, "takes no step")}, {"x": ["1"], "y": None}, "f0"
)


def test_what_is_told_comes_back():
    question = Question({"lora_rank": 8, "template": "vicuna"}, "abc", "float32")
    message = hello(CONFIG, question)
    assert message.metadata.message_type == "query.hello"
    assert config_of(message) == CONFIG
    assert question_in(message.content) == question
    assert answer_in(answer_records(ANSWER), "north") == ANSWER


def changed(value):
    return RecordDict({HELLO: ConfigRecord({TEXT: json.dumps(value)})})


TOLD = json.loads(answer_records(ANSWER)[HELLO][TEXT])
WRONG = {
    "nothing": RecordDict(),
    "another record": RecordDict({HELLO: MetricRecord({TEXT: 1})}),
    "a number for the text": RecordDict({HELLO: ConfigRecord({TEXT: 1})}),
    "no JSON": RecordDict({HELLO: ConfigRecord({TEXT: "{"})}),
    "a list": changed([]),
    "another version": changed({**TOLD, "version": 2}),
    "no version": changed({key: value for key, value in TOLD.items() if key != "version"}),
    "no tasks": changed({key: value for key, value in TOLD.items() if key != "tasks"}),
    "records below 0": changed({**TOLD, "tasks": {"a": {"records": {"x": -1}, "steps": 1, "idle": None}}}),
    "records of another type": changed({**TOLD, "tasks": {"a": {"records": {"x": True}, "steps": 1, "idle": None}}}),
    "steps beyond all numbers": changed({**TOLD, "tasks": {"a": {"records": {}, "steps": 2**63, "idle": None}}}),
    "a reason with a line": changed({**TOLD, "tasks": {"a": {"records": {}, "steps": 0, "idle": "a\nb"}}}),
    "too many labels": changed({**TOLD, "labels": {"x": ["a"] * 10_001}}),
    "nested too deeply": RecordDict({HELLO: ConfigRecord({TEXT: "[" * 100_000})}),
    "a key that nobody knows": changed({**TOLD, "more": 1}),
    "a longer text than any": RecordDict({HELLO: ConfigRecord({TEXT: " " * (2**24 + 1)})}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_site_tells_is_checked(name):
    with pytest.raises(FcitError, match="north"):
        answer_in(WRONG[name], "north")


@pytest.mark.parametrize("name", [name for name in WRONG if "record" not in name or name == "another record"])
def test_what_a_server_tells_is_checked(name):
    with pytest.raises(FcitError, match="server"):
        question_in(WRONG[name])


def test_a_question_names_the_version():
    assert question_in(hello(CONFIG, Question({}, None, "")).content).plugin == __version__
