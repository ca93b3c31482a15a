"""What a site writes down of each request, so that its people can see what was asked of it."""

import json
import time
from pathlib import Path
from typing import Any, Required, cast

from flwr.app import Message, MessageType, RecordDict
from typing_extensions import TypedDict

from ..errors import FcitError, one_line
from ..files import append_lines, read_lines_as
from ..schema import LARGEST, Count, Whole, Word
from .messages import ClientConfig, num_bytes

#: The file in a site's output folder.
AUDIT = "audit.jsonl"
#: Characters of a refusal that are written down.
_LONGEST = 1000
#: Types of message by which a site trains.
_TRAINS = (MessageType.TRAIN,)


class _Line(TypedDict, total=False):
    time: Required[Word]
    kind: Required[Word]
    refused: Required[Word | None]
    run: Word
    client: Whole | None
    stage: Whole | None
    round: Whole | None
    task: Word | None
    subspace: Whole | None
    bytes: Count
    trained: bool


class Audit:
    """One line for each request of the server's and what was answered, as JSON.

    Args:
        path: The file; lines are added.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(
        self,
        kind: str,
        config: ClientConfig | None,
        task: str | None,
        reply: RecordDict | None,
        refused: str | None,
        *,
        trained: bool = False,
    ) -> None:
        """Add a line.

        Args:
            kind: Type of the message.
            config: What it asked for, None where that could not be read.
            task: Name of the task.
            reply: What was answered; None where it was refused or failed.
            refused: The sentence in that case.
            trained: Whether the site has trained for it, and not answered what it had kept.
        """
        line: dict[str, Any] = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "kind": _short(kind)}
        if config is not None:
            line |= {
                "run": _short(config.run),
                "client": _number(config.client),
                "stage": _number(config.stage),
                "round": _number(config.round),
                "task": task,
                "subspace": _number(config.subspace),
            }
        if reply is not None:
            line["bytes"] = num_bytes(Message(reply, dst_node_id=0, message_type=MessageType.TRAIN))
        if trained:
            line["trained"] = True
        line["refused"] = None if refused is None else one_line(FcitError(refused))[:_LONGEST]
        append_lines(self._path, json.dumps(line, ensure_ascii=False) + "\n")

    def trainings(self, run: str) -> int:
        """How often the site has trained in a run, so that a bound holds over restarts of its process."""
        lines = [line for line in self._lines() if line["kind"] in _TRAINS and line.get("run") == run]
        return sum(line.get("trained", False) for line in lines)

    def client(self, run: str) -> int | None:
        """The number that this site has in a run; None where nothing was answered in it yet."""
        numbers = [line.get("client") for line in self._lines() if line.get("run") == run and line["refused"] is None]
        return numbers[0] if numbers else None

    def status(self) -> list[str]:
        """What was asked and answered so far, in lines for people.

        Raises:
            FcitError: A line of the file is none of ours; the sentence names it.
        """
        lines = self._lines()
        if not lines:
            return [f"Nothing was asked yet ({self._path})."]
        found = []
        for kind in dict.fromkeys(line["kind"] for line in lines):
            those = [line for line in lines if line["kind"] == kind]
            refused = sum(line["refused"] is not None for line in those)
            found.append(f"{kind}: {len(those)} asked, {refused} refused, the last at {those[-1]['time']}.")
        trained = [line for line in lines if line["kind"] in _TRAINS and line["refused"] is None]
        if trained:
            last = trained[-1]
            found.append(f"Trained last: stage {last['stage']} round {last['round']}, {last['task']}, at {last['time']}.")
        found += [f"Refused last: {line['refused']}" for line in lines if line["refused"] is not None][-1:]
        return found

    def _lines(self) -> list[Any]:
        if not self._path.exists():
            return []
        return read_lines_as(cast("Any", _Line), self._path, "take the file away, or mend this line", None, grows=True)


def _number(value: int | None) -> int | None:
    """A number that can be read again; another one is not written down."""
    return value if value is None or abs(value) <= LARGEST else None


def _short(text: str) -> str:
    """A name as it stands in a line: what is none is not written down."""
    return text if text.isprintable() and len(text) <= 100 else "?"
