"""What a server shares with its sites after a stage: the state, as the files of an FCIT folder; and the scores they answer."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from pydantic import Field
from typing_extensions import TypedDict

from ..errors import FcitError
from ..files import read_bytes, write_bytes
from ..schema import Count, Word
from .arrays import numbers_of
from .hello import TEXT
from .messages import CONFIG, ClientConfig
from .versioned import read, written

#: Type of the message, and names of its records: the files, and what a site tells of its own test records.
KIND, FILES, SCORES = "evaluate.state", "state-files", "scores"
#: Files of a state at most, and bytes of all of them together.
_MOST_FILES, _LARGEST = 10_000, 2**40
_NAME = re.compile(r"([A-Za-z0-9_-]{1,100}/){0,3}[A-Za-z0-9_-]{1,100}\.(json|safetensors)")


class SiteScore(TypedDict):
    """A site's score on its own test records of a dataset, from 0 to 100."""

    dataset: Word
    metric: Word
    score: Annotated[float, Field(ge=0, le=100)]
    records: Count


class _Scores(TypedDict):
    version: Count
    scores: list[SiteScore]


def state_files(folder: Path) -> ArrayRecord:
    """The files of a state's folder, once for all sites."""
    files = {
        path.relative_to(folder).as_posix(): Array(np.frombuffer(read_bytes(path), np.uint8))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return ArrayRecord(files)


def state_message(config: ClientConfig, files: ArrayRecord) -> Message:
    """The message with the files of a state.

    Args:
        config: Names run, stage and client.
        files: Of :func:`state_files`.
    """
    content = RecordDict({CONFIG: config.to_record(), FILES: files})
    return Message(content, dst_node_id=config.client, message_type=KIND)


def write_files(content: RecordDict, folder: Path) -> None:
    """Write the files of a message into an empty folder: safetensors and JSON under plain names, and nothing else.

    Raises:
        FcitError: There is something else among them.
    """
    record = content.get(FILES)
    if not isinstance(record, ArrayRecord) or not 0 < len(record) <= _MOST_FILES:
        raise FcitError("The server's state has no files, or too many; it needs this version of fcit-plugin.")
    if sum(len(array.data) for array in record.values()) > _LARGEST:
        raise FcitError(f"The server's state has more than {_LARGEST:,} bytes.")
    for name, array in record.items():
        data = numbers_of(array)
        if not _NAME.fullmatch(name) or data.dtype != np.uint8 or data.ndim != 1:
            raise FcitError(f"The server's state has a file {name[:200]!r}, which is none of a state's.")
        write_bytes(folder / name, data.tobytes())


def scores_records(scores: Sequence[SiteScore]) -> RecordDict:
    """A site's scores as they travel."""
    return RecordDict({SCORES: ConfigRecord({TEXT: written({"scores": list(scores)})})})


def scores_in(content: RecordDict, site: str) -> list[SiteScore]:
    """A site's scores.

    Raises:
        FcitError: They are not of their form; the sentence names the site.
    """
    record = content.get(SCORES)
    text = record.get(TEXT) if isinstance(record, ConfigRecord) else None
    return read(_Scores, text, f"What site {site} tells of its own test records")["scores"]
