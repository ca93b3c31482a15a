"""Records of the released files: reading them, and what can be wrong with one (docs/guide/data.md)."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FcitError, printable
from ..files import parse_json, read_bytes

IMAGE = "<image>"
"""The image tag in an instruction. Train records carry it, test records do not."""

#: Letters of a problem that are shown; it may quote what a record holds.
_SHOWN = 1000
#: What to do where one record is at fault.
MEND = "fix the record or take it out"


@dataclass(frozen=True)
class Defect:
    """Something that is wrong, where it is, and what to do.

    Attributes:
        kind: One word or two for the kind of defect, to group and count by.
        file: File relative to the root of the benchmark.
        record: Index of the record in the file, from 0; None where the file as a whole is meant.
        problem: What is wrong.
        remedy: What to do.
    """

    kind: str
    file: str
    record: int | None
    problem: str
    remedy: str = MEND

    def __str__(self) -> str:
        where = self.file if self.record is None else f"{self.file}, record {self.record}"
        problem = " ".join(printable(self.problem[:_SHOWN]).split())
        return f"{where}: {problem}; {self.remedy}."


class BrokenFile(FcitError):
    """A file cannot be used at all.

    Args:
        kind: See :class:`Defect`.
        file: File relative to the root of the benchmark.
        problem: What is wrong with it.
    """

    def __init__(self, kind: str, file: str, problem: str) -> None:
        super().__init__(f"{file}: {problem}.")
        self.kind, self.file, self.problem = kind, file, problem

    def defect(self, remedy: str) -> Defect:
        """The same with what to do.

        Args:
            remedy: How to get the file.
        """
        remedy = remedy if self.kind == "missing file" else f"delete it and {remedy}"
        return Defect(self.kind, self.file, None, self.problem, remedy)


def read_json(root: Path, file: str) -> Any:
    """The content of a JSON file.

    Args:
        root: Root of the benchmark.
        file: Path below it.

    Raises:
        BrokenFile: It is not there, empty, cut off, or not JSON; with the position.
    """
    path = root / file
    if not path.is_file():
        raise BrokenFile("missing file", file, "the file is not there")
    content = read_bytes(path)
    if not content.strip():
        raise BrokenFile("empty file", file, "the file is empty")
    try:
        return parse_json(content)
    except UnicodeDecodeError as error:
        problem = f"it is not UTF-8 text at byte {error.start}"
        raise BrokenFile("invalid JSON", file, problem) from error
    except json.JSONDecodeError as error:
        cut_off = not error.doc[error.pos :].strip() or error.msg.startswith("Unterminated string")
        fault = "it is cut off" if cut_off else f"it is not JSON ({error.msg})"
        problem = f"{fault} at line {error.lineno}, column {error.colno} (character {error.pos})"
        raise BrokenFile("invalid JSON", file, problem) from error


def read_records(root: Path, file: str) -> list[Any]:
    """The records of a train, test or partition file.

    Raises:
        BrokenFile: The file cannot be read, is not a list, or has no records.
    """
    records = read_json(root, file)
    if not isinstance(records, list):
        problem = f"it holds a JSON {json_kind(records)} and no list of records"
        raise BrokenFile("invalid JSON", file, problem)
    if not records:
        raise BrokenFile("empty file", file, "it has no records")
    return records


Fault = tuple[str, str]
"""Kind and problem of a defect in a record."""


def faults_of_text(record: Any, columns: tuple[str, str] = ("prompt", "answer")) -> Iterator[Fault]:
    """What is wrong with a record of text, for training and for the test.

    Args:
        record: The record.
        columns: Those of what is asked and of the answer.
    """
    if not isinstance(record, dict):
        yield "no record", f"it is a JSON {json_kind(record)} and no record"
        return
    for column, kind in zip(columns, ("no text", "no answer"), strict=True):
        if not isinstance(record.get(column), str) or not record[column].strip():
            yield kind, f"it has no `{column}`"


def faults_of_train(record: Any) -> Iterator[Fault]:
    """What is wrong with a train record: {"image", "conversations": [{"from", "value"}, ...]}."""
    if not isinstance(record, dict):
        yield "no record", f"it is a JSON {json_kind(record)} and no record"
        return
    turns = record.get("conversations")
    if not isinstance(turns, list) or not turns:
        yield "roles", "it has no `conversations`"
    elif any(not isinstance(turn, dict) or "from" not in turn for turn in turns):
        yield "roles", "a turn of `conversations` has no role (`from`)"
    else:
        roles = [turn["from"] for turn in turns]
        if len(turns) % 2 or any(role != ("human", "gpt")[i % 2] for i, role in enumerate(roles)):
            yield "roles", f"its turns go {', '.join(map(str, roles))} and not human, gpt, human, gpt ..."
        else:
            yield from _text_faults([turn.get("value") for turn in turns])
    yield from _image_faults(record)


def _text_faults(values: list[Any]) -> Iterator[Fault]:
    for i, value in enumerate(values):
        if not isinstance(value, str) or not value.replace(IMAGE, "").strip():
            problem = "is empty" if value is None or isinstance(value, str) else f"is a JSON {json_kind(value)} and no text"
            yield ("no answer", f"turn {i} (gpt) {problem}") if i % 2 else ("no text", f"turn {i} (human) {problem}")
    tags = sum(value.count(IMAGE) for value in values if isinstance(value, str))
    if tags > 1:
        yield "image tags", f"it has {tags} tags {IMAGE} for one image"


def faults_of_test(record: Any, with_answer: bool = True) -> Iterator[Fault]:
    """What is wrong with a test record: {"question_id", "image", "text", "answer"}.

    Args:
        record: The record.
        with_answer: The answer is in ``answer``; if not, it comes from elsewhere and is not looked at here.
    """
    if not isinstance(record, dict):
        yield "no record", f"it is a JSON {json_kind(record)} and no record"
        return
    if not isinstance(record.get("question_id"), int | str):
        yield "no question_id", "it has no `question_id`"
    text = record.get("text")
    if not isinstance(text, str) or not text.replace(IMAGE, "").strip():
        yield "no text", "it has no `text`"
    elif text.count(IMAGE) > 1:
        yield "image tags", f"it has {text.count(IMAGE)} tags {IMAGE} for one image"
    if with_answer and not str("" if record.get("answer") is None else record["answer"]).strip():
        yield "no answer", "it has no `answer`"
    yield from _image_faults(record)


def _image_faults(record: dict[str, Any]) -> Iterator[Fault]:
    image = record.get("image")
    if not isinstance(image, str) or not image.strip():
        yield "no image", "it names no `image`"


def with_article(noun: str) -> str:
    """A noun as a sentence has it: a text, an object."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def json_kind(value: Any) -> str:
    """What JSON calls a value of this type."""
    names = {dict: "object", list: "list", str: "text", bool: "truth value", int: "number", float: "number"}
    return names.get(type(value), "null")
