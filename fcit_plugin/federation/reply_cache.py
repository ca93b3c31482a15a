"""Replies kept while a round goes on, so that a run that was killed in it does not train those clients again."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from flwr.app import Context, Message, MessageType, RecordDict

from ..files import read_object, write_bytes, write_json
from ..state.sealed import problems, seal
from .arrays import digest_of
from .client_states import FILE
from .folders import WEIGHTS, read_update, write_update
from .messages import config_of, config_record
from .stored import records_bytes, stored_records

#: What a kept reply holds beside the update folder's own files.
KEPT = "kept.json"

logger = logging.getLogger(__name__)

ClientApp = Callable[[Message, Context], Message]


class Journal(Protocol):
    """What a client's training leaves beside its reply: steps and log lines. Implemented by the run's monitor."""

    def mark(self) -> Any:
        """Where the journal stands."""
        ...

    def since(self, mark: Any) -> dict[str, Any]:
        """What came after a mark, as plain JSON values."""
        ...

    def replay(self, entries: dict[str, Any]) -> None:
        """Put back what :meth:`since` gave."""
        ...


@dataclass(frozen=True)
class _Latest:
    request: Message
    reply: Message
    folder: Path
    state: RecordDict
    notes: dict[str, Any]


class ReplyCache:
    """A client app that answers with a kept reply where it has the right one, and else asks the clients and keeps.

    A reply is the right one if it answers the same request, weights and all, of the same run, and its client had kept the
    same to itself. What the client kept afterwards lies beside its reply, in a file that is never part of what travels.

    Args:
        app: The clients.
        folder: Gives the folder of a round's replies, by stage and round.
        run: What tells this run from others.
        journal: Steps and log lines.
        writes: Whether this process writes; the others only ask.
        from_main: Gives every process the writing one's value.
    """

    def __init__(
        self,
        app: ClientApp,
        folder: Callable[[int, int], Path],
        run: str,
        journal: Journal,
        writes: bool = True,
        from_main: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        self._app = app
        self._folder = folder
        self._run = run
        self._journal = journal
        self._writes = writes
        self._from_main = from_main
        self._latest: _Latest | None = None

    def __call__(self, message: Message, context: Context) -> Message:
        """See :class:`flwr.clientapp.ClientApp`."""
        if message.metadata.message_type != MessageType.TRAIN:
            return self._app(message, context)
        config = config_of(message)
        folder = self._folder(config.stage, config.round) / f"client-{config.client}"
        digest = request_digest(message, self._run, context.state) if self._writes else ""
        kept = self._from_main(self._read(folder, digest) if self._writes else None)
        if kept is not None:
            content, state, journal = kept
            context.state.update(state)
            self._journal.replay(journal)
            return Message(content, reply_to=message)
        mark = self._journal.mark()
        reply = self._app(message, context)
        self._latest = _Latest(message, reply, folder, context.state, {"request": digest, "journal": self._journal.since(mark)})
        return reply

    def arrived(self, request: Message, reply: Message) -> None:
        """Keep the reply to a request, if it is one that a client has just trained, and let go of its arrays in memory.

        To be called with what arrives, outside of all that takes an error for the client's: a full disk is not.

        Raises:
            OSError: It cannot be written.
        """
        latest, self._latest = self._latest, None
        if latest is None or latest.request is not request or reply.has_error() or not self._writes:
            return

        def write(folder: Path) -> None:
            write_update(folder, config_record(request), latest.reply)
            if latest.state:
                write_bytes(folder / FILE, records_bytes(latest.state))
            write_json(folder / KEPT, latest.notes)

        seal(latest.folder, write)
        if reply is latest.reply:  # nobody plays with it: from here on it is read from there
            for name, record in stored_records(latest.folder / WEIGHTS).array_records.items():
                reply.content[name] = record

    @staticmethod
    def _read(folder: Path, digest: str) -> tuple[RecordDict, RecordDict, dict[str, Any]] | None:
        if not folder.is_dir():
            return None
        for problem in problems(folder):
            logger.warning(f"A kept reply is not used, its client trains again: {problem}.")
            return None
        try:
            kept = read_object(folder / KEPT, ("request", "journal"))
            if kept["request"] != digest:
                return None
            state = stored_records(folder / FILE) if (folder / FILE).is_file() else RecordDict()
            return read_update(folder)[1].content, state, kept["journal"]
        except ValueError as error:  # of another version of the plugin, say
            logger.warning(f"A kept reply is not used, its client trains again: {error}")
            return None


def request_digest(message: Message, run: str, state: RecordDict) -> str:
    """SHA-256 over all that decides the answer: the run, the weights sent, the configuration, and what the client has kept."""
    digest = hashlib.sha256(run.encode())
    for name, record in (*sorted(message.content.array_records.items()), *sorted(state.array_records.items())):
        for key, array in sorted(record.items()):
            digest.update(f"{name}/{key}/{array.dtype}/{array.shape}".encode())
            digest.update(digest_of(array))
    digest.update(json.dumps(dict(config_record(message)), sort_keys=True).encode())
    return digest.hexdigest()
