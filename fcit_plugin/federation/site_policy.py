"""What a site lets a server ask for: its own recipe says so, and no message of the server's can change it."""

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Required, cast

from flwr.app import Message, MessageType, RecordDict
from typing_extensions import TypedDict

from ..errors import FcitError, one_line
from ..files import read_lines_as, writing
from ..schema import Count, Whole, Word
from .messages import ClientConfig, num_bytes


@dataclass
class SitePolicy:
    """The bounds of a site.

    Attributes:
        run: The run that the site's recipe describes.
        num_stages: Stages of the recipe.
        num_rounds: Rounds of each of its stages.
        schedule: For each stage the indices of its tasks.
        records: By index of each task that the site takes part in, the number of its records.
        names: The names of all tasks.
        compression: What the recipe has for updates; the server cannot ask for another.
        max_records: The most records of a task that it trains on.
        max_rounds: The most rounds that it takes part in.
        trained: Stage and round of those that it has taken part in.
    """

    run: str
    num_stages: int
    num_rounds: int
    schedule: Collection[Collection[int]]
    records: Mapping[int, int]
    names: Collection[str]
    compression: str | None = None
    max_records: int | None = None
    max_rounds: int | None = None
    trained: set[tuple[int, int]] = field(default_factory=set)

    def check(self, kind: str, config: ClientConfig) -> None:
        """Refuse what the site's recipe does not allow.

        Args:
            kind: Type of the message.
            config: What it asks for.

        Raises:
            FcitError: One sentence that says what was asked and why it is refused.
        """
        names, schedule = list(self.names), [set(row) for row in self.schedule]
        if config.run != self.run:
            raise FcitError(
                "It belongs to another run than this site's recipe describes; server and site need one recipe (`fcit-cli site "
                "check` says what differs)."
            )
        if not 0 <= config.stage < self.num_stages or not 0 <= config.round < self.num_rounds:
            raise FcitError(f"Stage {config.stage}, round {config.round} is none of this site's recipe.")
        if not 0 <= config.task < len(names) or config.task not in schedule[config.stage]:
            raise FcitError(f"Stage {config.stage} of this site's recipe has no task {config.task}.")
        if config.task not in self.records:
            raise FcitError(f"This site takes no part in task {names[config.task]} (`fcit_site_tasks`).")
        if self.max_records is not None and self.records[config.task] > self.max_records:
            raise FcitError(
                f"This site has {self.records[config.task]} records of task {names[config.task]}, and trains on no more than "
                f"{self.max_records} (`fcit_site_max_records`)."
            )
        if config.compression != self.compression:
            raise FcitError("It asks for updates in another form than `fcit_update_compression` of this site's recipe.")
        if kind == MessageType.TRAIN:
            self._count(config)

    def _count(self, config: ClientConfig) -> None:
        rounds = self.trained | {(config.stage, config.round)}
        if self.max_rounds is not None and len(rounds) > self.max_rounds:
            raise FcitError(f"This site has taken part in {self.max_rounds} rounds (`fcit_site_max_rounds`), and no more.")
        self.trained = rounds


class _Line(TypedDict, total=False):
    time: Required[Word]
    kind: Required[Word]
    refused: Required[Word | None]
    run: Word
    stage: Whole
    round: Whole
    task: Word | None
    subspace: Whole | None
    bytes: Count


class Audit:
    """One line for each request of the server's and what was answered, as JSON.

    Args:
        path: The file; lines are added.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(
        self, kind: str, config: ClientConfig | None, task: str | None, reply: RecordDict | None, refused: str | None
    ) -> None:
        """Add a line.

        Args:
            kind: Type of the message.
            config: What it asked for, None where that could not be read.
            task: Name of the task.
            reply: What was answered; None where it was refused or failed.
            refused: The sentence in that case.
        """
        line: dict[str, Any] = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "kind": kind}
        if config is not None:
            line |= {"run": config.run, "stage": config.stage, "round": config.round, "task": task, "subspace": config.subspace}
        if reply is not None:
            line["bytes"] = num_bytes(Message(reply, dst_node_id=0, message_type=MessageType.TRAIN))
        line["refused"] = None if refused is None else one_line(FcitError(refused))
        with writing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()

    def rounds(self, run: str) -> set[tuple[int, int]]:
        """The rounds of a run that the site has trained in, so that a bound holds over restarts of its process."""
        if not self._path.exists():
            return set()
        lines = read_lines_as(cast("Any", _Line), self._path, "take the file away, or mend this line", most=None)
        trained = (line for line in lines if line["kind"] == MessageType.TRAIN and line["refused"] is None)
        return {(line["stage"], line["round"]) for line in trained if line.get("run") == run}
