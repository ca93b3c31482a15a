"""What server and site tell each other before the first round: whether they mean the same run, and what the site has.

Both are one JSON text in a record of configuration: typed, bounded, and covered by the reply's signature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from flwr.app import ConfigRecord, Message, RecordDict
from pydantic import Field
from typing_extensions import TypedDict

from .. import __version__
from ..schema import Count, Word
from .messages import CONFIG, ClientConfig
from .versioned import read, written

#: Type of the message, name of its record, and the key of the text in it.
KIND, HELLO, TEXT = "query.hello", "hello", "text"
#: Answers of a dataset that a site tells at most.
MOST_LABELS = 10_000


#: A number of records or steps: more than any site has, and few enough to be added up over all of them.
_Few = Annotated[int, Field(ge=0, le=2**31 - 1)]


class _Task(TypedDict):
    records: dict[Word, _Few]
    steps: _Few
    idle: Word | None


class _Answer(TypedDict):
    version: Count
    plugin: Word
    base: Word | None
    tasks: dict[Word, _Task]
    labels: Annotated[dict[Word, Annotated[list[str], Field(max_length=MOST_LABELS)] | None], Field(max_length=10_000)]


class _Question(TypedDict):
    version: Count
    plugin: Word
    keys: dict[Word, Any]
    base: Word | None
    dtype: Word


@dataclass(frozen=True)
class Question:
    """What the server is about to run.

    Attributes:
        keys: What decides the numbers (:func:`fcit_plugin.engine.fingerprint.deciding_keys`).
        base: The base model's fingerprint; None where the server has not loaded it.
        dtype: The type of its numbers: fingerprints of two types are not comparable.
        plugin: The server's version of this plugin.
    """

    keys: Mapping[str, Any]
    base: str | None
    dtype: str
    plugin: str = __version__


@dataclass(frozen=True)
class TaskOfSite:
    """What a site has of a task.

    Attributes:
        records: By dataset the number of its records.
        steps: Optimizer steps of a local training.
        idle: Why it could not take a step, None if it can.
    """

    records: Mapping[str, int]
    steps: int
    idle: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a site has.

    Attributes:
        tasks: By the name of each task that it takes part in.
        labels: By dataset its answers, where they are few and the site tells them; None for an open one.
        base: Its base model's fingerprint.
        plugin: Its version of this plugin.
    """

    tasks: Mapping[str, TaskOfSite]
    labels: Mapping[str, Sequence[str] | None]
    base: str | None = None
    plugin: str = __version__


def hello(config: ClientConfig, question: Question) -> Message:
    """The message that asks a site.

    Args:
        config: Names run and client.
        question: What is to be run.
    """
    content = RecordDict({CONFIG: config.to_record(), HELLO: ConfigRecord({TEXT: written(asdict(question))})})
    return Message(content, dst_node_id=config.client, message_type=KIND)


def question_in(content: RecordDict) -> Question:
    """What the server is about to run.

    Raises:
        FcitError: It is not of this version or of its form.
    """
    value = read(_Question, _text(content), "The server's hello")
    return Question(value["keys"], value["base"], value["dtype"], value["plugin"])


def answer_records(answer: Answer) -> RecordDict:
    """A site's answer as it travels."""
    tasks = {
        name: {"records": dict(task.records), "steps": task.steps, "idle": task.idle} for name, task in answer.tasks.items()
    }
    labels = {name: None if known is None else list(known) for name, known in answer.labels.items()}
    told = {"tasks": tasks, "labels": labels, "base": answer.base, "plugin": answer.plugin}
    return told_records(written(told))


def told_records(text: str) -> RecordDict:
    """The records of a text (:func:`told_text`)."""
    return RecordDict({HELLO: ConfigRecord({TEXT: text})})


def told_text(content: RecordDict) -> str:
    """The text of an answer that :func:`answer_in` takes."""
    return str(_text(content))


def answer_in(content: RecordDict, site: str) -> Answer:
    """What a site has.

    Args:
        content: Of its reply.
        site: Its name.

    Raises:
        FcitError: It is not of this version or of its form; the sentence names the site.
    """
    value = read(_Answer, _text(content), f"What site {site} tells of its data")
    tasks = {name: TaskOfSite(task["records"], task["steps"], task["idle"]) for name, task in value["tasks"].items()}
    return Answer(tasks, value["labels"], value["base"], value["plugin"])


def _text(content: RecordDict) -> object:
    record = content.get(HELLO)
    return record.get(TEXT) if isinstance(record, ConfigRecord) else None
