"""What LLaMA-Factory makes of one record as it stands in its file, known without LLaMA-Factory: taken, left out, or broken.

The rule of the whole package: what LLaMA-Factory leaves out with a warning is left out; everything else that is malformed ends
in one sentence. A record may hold anything; nothing in here raises over it.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..fcit_benchmark.records import IMAGE, faults_of_test, faults_of_train, json_kind, with_article

#: What records are for: LLaMA-Factory's names for its forms of training records, and test records.
Use = Literal["sft", "rm", "kto", "test"]

#: By the value of ``fcit_local_stage``.
USES: Mapping[str, Use] = {"sft": "sft", "dpo": "rm", "kto": "kto"}

#: The columns and tags of an entry that names none; one that names some has no others.
COLUMNS = {"prompt": "instruction", "query": "input", "response": "output", "messages": "conversations"}
TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}

_ASKING, _ANSWERING = ("user_tag", "observation_tag"), ("assistant_tag", "function_tag")


def leaves_out(prompt: int, response: int, use: Use) -> bool:
    """Whether LLaMA-Factory's processors leave a record out, by its numbers of turns in the standard form.

    Source: ``preprocess_dataset`` of ``llamafactory.data.processor``'s classes.

    Args:
        prompt: Turns of its prompt.
        response: Turns of its response.
        use: What it is for.
    """
    if prompt % 2 != 1:
        return True
    return {"sft": response != 1, "rm": response < 2, "kto": response < 2, "test": False}[use]


@dataclass(frozen=True)
class Form:
    """How the records of a dataset are written, by its entry in ``dataset_info.json``, as ``DatasetAttr`` has it.

    Attributes:
        formatting: Name of the converter.
        ranking: The records are pairs.
        columns: Name of each column, by what it is for.
        tags: Names within a turn, by what they are for.
        references: What is right stands elsewhere (``fcit_references``).
    """

    formatting: str
    ranking: bool
    columns: Mapping[str, str | None]
    tags: Mapping[str, str | None]
    references: bool = False

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Form":
        """The form that an entry describes."""
        columns, tags = entry.get("columns", COLUMNS), entry.get("tags", TAGS)
        ranking, references = bool(entry.get("ranking", False)), "fcit_references" in entry
        return cls(entry.get("formatting", "alpaca"), ranking, columns, tags, references)

    @property
    def is_known(self) -> bool:
        """Whether it is known here what becomes of such records."""
        return self.formatting == "fcit" or self.formatting in _READERS

    def column(self, key: str) -> str | None:
        """The name of a column; None where there is none."""
        return self.columns.get(key) or None


@dataclass(frozen=True)
class Verdict:
    """What becomes of a record.

    Attributes:
        answer: The text of its answer, the better one of a pair; None if it has none, or is not taken.
        asked: All that its user says, with tags of images; None if that is not known here, or it is not taken.
        left_out: Why LLaMA-Factory leaves it out with a warning.
        broken: What is wrong with it, so that it cannot be read.
    """

    answer: str | None = None
    asked: str | None = None
    left_out: str | None = None
    broken: str | None = None


class _LeftOut(Exception):
    """LLaMA-Factory warns and leaves the record out."""


class _Broken(Exception):
    """LLaMA-Factory cannot read the record."""


@dataclass(frozen=True)
class _Turn:
    """A turn: by whom, what, and what it is called in a sentence."""

    role: str
    content: Any
    name: str


def judge(record: Any, form: Form, use: Use) -> Verdict:
    """What becomes of a record; media are not looked at.

    Args:
        record: As the package ``datasets``, or JSON, has it.
        form: How it is written. Of a converter that is not known here each record counts as taken.
        use: What it is for.
    """
    if form.formatting == "fcit":
        return _judge_fcit(record, form)
    read = _READERS.get(form.formatting)
    if read is None:
        return Verdict()
    try:
        if not isinstance(record, Mapping):
            raise _Broken(f"it is {_a(record)} and no record")
        prompt, response = read(record, form)
        if leaves_out(len(prompt), len(response), use):
            raise _LeftOut(_why_left_out(record, form, use, response))
        _check_turns(prompt, response)
    except _LeftOut as found:
        return Verdict(left_out=str(found))
    except _Broken as found:
        return Verdict(broken=str(found))
    said = "\n".join(turn.content for turn in prompt if turn.role == "user")
    return Verdict(next((turn.content for turn in response if turn.content.strip()), ""), said)


def _judge_fcit(record: Any, form: Form) -> Verdict:
    turns = form.column("messages")
    if not isinstance(record, Mapping):
        faults = faults_of_train(record)
    elif turns and turns not in record:
        return Verdict(broken=f"it has no `{turns}`; it has {', '.join(map(str, record)) or 'nothing'}")
    elif turns:
        faults = faults_of_train({**record, "conversations": record[turns]})
    else:
        named = {"text": _optional(record, form, "prompt"), "answer": _optional(record, form, "response")}
        faults = faults_of_test({**record, **named}, with_answer=not form.references)
    for kind, problem in faults:
        if kind not in ("no image", "no question_id"):
            return Verdict(broken=problem)
    return Verdict(answer=record[turns][-1]["value"] if turns else str(_optional(record, form, "response")))


def _alpaca(record: Mapping[str, Any], form: Form) -> tuple[list[_Turn], list[_Turn]]:
    prompt = []
    history = _value(record, form, "history") if form.column("history") else None
    for pair in history if isinstance(history, list) else ():
        if not isinstance(pair, list) or len(pair) != 2:
            raise _Broken(f"its `{form.column('history')}` is no list of pairs of an instruction and an answer")
        prompt += [_Turn("user", pair[0], "a text of its history"), _Turn("assistant", pair[1], "a text of its history")]
    query = []
    for key in ("prompt", "query"):
        value = _value(record, form, key) if form.column(key) else None
        if value and not isinstance(value, str):
            raise _Broken(f"its `{form.column(key)}` is {_a(value)} and no text")
        query += [value] if value else []
    prompt.append(_Turn("user", "\n".join(query), "its instruction"))
    if _is_tagged(record, form):
        return prompt, _with_empty(record, form, _Turn("assistant", _value(record, form, "response"), _its(form, "response")))
    if form.ranking:
        pair = [_Turn("assistant", _value(record, form, key), _its(form, key)) for key in ("chosen", "rejected")]
        if all(isinstance(turn.content, str) for turn in pair):
            return prompt, pair
    if form.column("response"):
        answer = _value(record, form, "response")
        if isinstance(answer, str):
            return prompt, [_Turn("assistant", answer, _its(form, "response"))]
    return prompt, []


def _sharegpt(record: Mapping[str, Any], form: Form) -> tuple[list[_Turn], list[_Turn]]:
    messages, turns = _messages(record, form), list[_Turn]()
    accepted = [[form.tags.get(tag) for tag in tags] for tags in (_ASKING, _ANSWERING)]
    for i, message in enumerate(messages):
        role = _field(message, form, "role_tag", i)
        if role not in accepted[i % 2]:
            raise _LeftOut(f"its turns go {_roles(messages, form)} and not {_going(accepted)}")
        turns.append(_Turn(_role_of(role, form), _field(message, form, "content_tag", i), f"turn {i} ({role})"))
    return _split_turns(record, form, turns, f"{_roles(messages, form)} and not {_going(accepted)}")


def _openai(record: Mapping[str, Any], form: Form) -> tuple[list[_Turn], list[_Turn]]:
    messages, turns, results = _messages(record, form), list[_Turn](), list[str]()
    for i, message in enumerate(messages):
        role, content = _field(message, form, "role_tag", i), _field(message, form, "content_tag", i)
        calls = message.get("tool_calls")
        if role in [form.tags.get(tag) for tag in _ANSWERING] and calls:
            if not isinstance(calls, list) or not all(isinstance(call, Mapping) and "function" in call for call in calls):
                raise _Broken(f"the `tool_calls` of turn {i} are no list of objects with a `function`")
            content = json.dumps([call["function"] for call in calls], ensure_ascii=False, default=str)
            role = form.tags.get("function_tag")
        if role == form.tags.get("observation_tag"):
            if not isinstance(content, str):
                raise _Broken(f"turn {i} ({role}) is {_a(content)} and no text")
            results.append(content)
            continue
        if results:
            turns.append(_Turn("observation", "\n".join(results), "a tool's result"))
            results = []
        turns.append(_Turn(_role_of(role, form), content, f"turn {i} ({role})"))
    accepted = (("user", "observation"), ("assistant", "function"))
    gone = f"{', '.join(turn.role for turn in turns) or 'nowhere'} and not user, assistant, user, assistant ..."
    if any(turn.role not in accepted[i % 2] for i, turn in enumerate(turns)):
        raise _LeftOut(f"its turns go {gone}")
    return _split_turns(record, form, turns, gone)


_READERS: dict[str, Callable[[Mapping[str, Any], Form], tuple[list[_Turn], list[_Turn]]]] = {
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "openai": _openai,
}


def _messages(record: Mapping[str, Any], form: Form) -> list[Any]:
    """The turns of a conversation behind that of the system."""
    messages = _value(record, form, "messages")
    if isinstance(messages, (str, Mapping)) and not messages:
        return []  # nothing to go through, so LLaMA-Factory does not see that it is no list
    if not isinstance(messages, list):
        raise _Broken(f"its `{form.column('messages')}` is {_a(messages)} and no list of turns")
    system = form.tags.get("system_tag")
    if system and messages and _field(messages[0], form, "role_tag", 0) == system:
        if not isinstance(_field(messages[0], form, "content_tag", 0), str | None):
            raise _Broken(f"turn 0 ({system}) is {_a(messages[0][form.tags['content_tag']])} and no text")
        return messages[1:]
    return messages


def _split_turns(record: Mapping[str, Any], form: Form, turns: list[_Turn], gone: str) -> tuple[list[_Turn], list[_Turn]]:
    """Prompt and response of a conversation."""
    if len(turns) % 2 != form.ranking:
        last = "the last is no question that its two answers are to" if form.ranking else gone
        raise _LeftOut(f"it has {len(turns)} turns: {last}")
    if _is_tagged(record, form):
        return turns[:-1], _with_empty(record, form, *turns[-1:])
    if form.ranking:
        pair = [_value(record, form, key) for key in ("chosen", "rejected")]
        if all(isinstance(one, Mapping) for one in pair):
            named = [(one, _its(form, key)) for one, key in zip(pair, ("chosen", "rejected"), strict=True)]
            return turns, [
                _Turn(_role_of(_part(one, form, "role_tag", name), form), _part(one, form, "content_tag", name), name)
                for one, name in named
            ]
    return turns[:-1], turns[-1:]


def _check_turns(prompt: Iterable[_Turn], response: Iterable[_Turn]) -> None:
    for turn in [*prompt, *response]:
        if not isinstance(turn.content, str):
            raise _Broken(f"{turn.name} {'is empty' if turn.content is None else f'is {_a(turn.content)} and no text'}")
    for turn in response:
        if turn.role not in ("assistant", "function"):
            raise _Broken(f"{turn.name} is by the role {turn.role} and no answer")


def _why_left_out(record: Mapping[str, Any], form: Form, use: Use, response: list[_Turn]) -> str:
    if use == "kto":
        return f"{_its(form, 'kto_tag')} is {_a(_optional(record, form, 'kto_tag'))} and not true or false"
    if use == "rm":
        wanted, text = (str, "text") if form.formatting == "alpaca" else (Mapping, "turn")
        for key in ("chosen", "rejected"):
            value = _optional(record, form, key)
            if not isinstance(value, wanted):
                return f"{_its(form, key)} is {_a(value)} and no {text}"
    if len(response) > 1:
        return f"it has {len(response)} answers, one is wanted"
    if form.formatting != "alpaca":
        return "it has no turns"
    if form.column("response") is None:
        return "its entry in dataset_info.json names no `response` in `columns`"
    return f"{_its(form, 'response')} is {_a(_optional(record, form, 'response'))} and no text"


def _is_tagged(record: Mapping[str, Any], form: Form) -> bool:
    return form.column("kto_tag") is not None and isinstance(_value(record, form, "kto_tag"), bool)


def _with_empty(record: Mapping[str, Any], form: Form, *turns: _Turn) -> list[_Turn]:
    """An answer with feedback: an empty one stands on the other side."""
    empty = _Turn("assistant", "", "")
    return [*turns, empty] if _value(record, form, "kto_tag") else [empty, *turns]


def _value(record: Mapping[str, Any], form: Form, key: str) -> Any:
    name = form.column(key)
    if name is None:
        raise _Broken(f"its entry in dataset_info.json names no `{key}` in `columns`")
    if name not in record:
        raise _Broken(f"it has no `{name}`; it has {', '.join(map(str, record)) or 'nothing'}")
    return record[name]


def _optional(record: Mapping[str, Any], form: Form, key: str) -> Any:
    name = form.column(key)
    return None if name is None else record.get(name)


def _field(message: Any, form: Form, tag: str, turn: int) -> Any:
    if not isinstance(message, Mapping):
        raise _Broken(f"turn {turn} is {_a(message)} and no object")
    return _part(message, form, tag, f"turn {turn}")


def _part(message: Mapping[str, Any], form: Form, tag: str, what: str) -> Any:
    name = form.tags.get(tag)
    if name is None:
        raise _Broken(f"its entry in dataset_info.json names no `{tag}` in `tags`")
    if name not in message:
        raise _Broken(f"{what} has no `{name}`; it has {', '.join(map(str, message)) or 'nothing'}")
    return message[name]


def _role_of(role: Any, form: Form) -> str:
    for tag in (*_ASKING, *_ANSWERING, "system_tag"):
        if role == form.tags.get(tag):
            return tag.removesuffix("_tag")
    known = ", ".join(str(form.tags.get(tag)) for tag in (*_ASKING, *_ANSWERING, "system_tag"))
    raise _Broken(f"a turn is by the unknown role {str(role)[:50]!r}; known are {known} (`tags` of its entry)")


def _roles(messages: list[Any], form: Form) -> str:
    name = form.tags.get("role_tag")
    return ", ".join(str(turn.get(name) if isinstance(turn, Mapping) else turn)[:50] for turn in messages[:8]) or "nowhere"


def _going(accepted: list[list[str | None]]) -> str:
    both = f"{accepted[0][0]}, {accepted[1][0]}"
    return f"{both}, {both} ..."


def _its(form: Form, key: str) -> str:
    return f"its `{form.column(key)}`"


def _a(value: Any) -> str:
    """What a value is called in a sentence."""
    kind = json_kind(value)
    return "empty" if value is None else with_article(type(value).__name__ if kind == "null" else kind)


def standard_fault(row: Mapping[str, Any]) -> str | None:
    """What is wrong with a record in LLaMA-Factory's standard form, in words; None if nothing is.

    Args:
        row: Its columns ``_prompt``, ``_response``, ``_system`` and ``_tools``.
    """
    turns, answers = [
        [_Turn(turn["role"], turn["content"], f"{what} {i} ({turn['role']})") for i, turn in enumerate(row[column])]
        for what, column in (("turn", "_prompt"), ("answer", "_response"))
    ]
    try:
        _check_turns(turns, answers)
    except _Broken as found:
        return str(found)
    for column in ("_system", "_tools"):
        if not isinstance(row[column], str | None):
            return f"its `{column[1:]}` is {_a(row[column])} and no text"
    return None


def images_of(record: Mapping[str, Any], form: Form) -> list[Any]:
    """The images of a record, as they stand in it."""
    name = form.column("images")
    given = record.get(name) if name else None
    return given if isinstance(given, list) else [] if given is None else [given]


def tag_fault(texts: Iterable[str], images: int) -> str | None:
    """Whether image tags and images do not fit together, in words."""
    tags = sum(text.count(IMAGE) for text in texts)
    if tags == images:
        return None
    if not images:
        return f"its text has {_number(tags, f'tag {IMAGE}', f'tags {IMAGE}')}, but it names no image"
    return f"its text has {_number(tags, f'tag {IMAGE}', f'tags {IMAGE}')} for {_number(images, 'image', 'images')}"


def _number(count: int, one: str, more: str) -> str:
    return f"{count or 'no'} {one if count <= 1 else more}"
