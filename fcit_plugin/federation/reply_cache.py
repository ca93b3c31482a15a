"""Replies kept while a round goes on, so that a run that was killed in it does not train those clients again."""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from flwr.app import Context, Message, MessageType, RecordDict
from typing_extensions import TypedDict

from ..errors import FcitError
from ..files import inside, read_as, write_bytes, write_json
from ..schema import Count, Sum
from ..state.forms import LogLine
from ..state.sealed import problems, seal
from .arrays import digest_of
from .client_states import FILE
from .folders import WEIGHTS, read_update, write_update
from .messages import CONFIG, TOKEN, config_of, config_record
from .stored import records_bytes, stored_records

#: What a kept reply holds beside the update folder's own files.
KEPT = "kept.json"

logger = logging.getLogger(__name__)


class _Entries(TypedDict):
    steps: Count
    log: list[LogLine]


class _Kept(TypedDict):
    request: Sum
    journal: _Entries


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


class NoJournal:
    """Nobody misses steps and log lines."""

    def mark(self) -> None:
        """See :class:`Journal`."""

    def since(self, mark: None) -> dict[str, Any]:
        """See :class:`Journal`."""
        return {"steps": 0, "log": []}

    def replay(self, entries: dict[str, Any]) -> None:
        """See :class:`Journal`."""


class Place(NamedTuple):
    """Where the reply to a request is kept: its folder, and the request's digest (:func:`request_digest`)."""

    folder: Path
    request: str


class Kept(NamedTuple):
    """A kept reply: its content, what its client keeps to itself, and what the training left in the journal."""

    content: RecordDict
    state: RecordDict
    journal: dict[str, Any]


@dataclass(frozen=True)
class _Latest:
    place: Place
    request: Message
    reply: Message
    state: RecordDict
    journal: dict[str, Any]


class ReplyCache:
    """A client app that answers with a kept reply where it has the right one, and else asks the clients and keeps.

    A reply is the right one if it answers the same request, weights and all, of the same run, and its client had kept the
    same to itself. What the client kept afterwards lies beside its reply, in a file that is never part of what travels. The
    token in it is that which the client names in this round: another machine, or another number of threads, may have made the
    kept one, whose last digits are others then.

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
        self._named: dict[tuple[int, int], Message] = {}

    def __call__(self, message: Message, context: Context) -> Message:
        """See :class:`flwr.clientapp.ClientApp`."""
        place, kept = self.look_up(message, context.state)
        if kept is not None:
            context.state.update(kept.state)
            self._journal.replay(kept.journal)
            return Message(kept.content, reply_to=message)
        mark = self._journal.mark()
        reply = self._app(message, context)
        if place is not None:
            self._latest = _Latest(place, message, reply, context.state, self._journal.since(mark))
        else:
            self.named(message, reply)
        return reply

    def named(self, query: Message, reply: Message) -> None:
        """Hear of the identity token that a client names: kept replies of its are used with this one from now on."""
        config = config_of(query)
        self._named[config.client, config.task] = reply

    def look_up(self, message: Message, state: RecordDict) -> tuple[Place | None, Kept | None]:
        """Where the reply to a request is kept, and what is kept there, if it is the right one.

        Args:
            message: The request.
            state: What its client keeps to itself.

        Returns:
            None and None for a request whose reply is not kept.
        """
        if message.metadata.message_type != MessageType.TRAIN:
            return None, None
        config = config_of(message)
        folder = self._folder(config.stage, config.round) / f"client-{config.client}"
        place = Place(folder, request_digest(message, self._run, state) if self._writes else "")
        kept = self._from_main(self._read(place) if self._writes else None)
        named = self._named.get((config.client, config.task))
        if kept is not None and named is not None and TOKEN in kept.content and TOKEN in named.content:
            kept.content[TOKEN] = named.content[TOKEN]
        return place, kept

    def arrived(self, request: Message, reply: Message) -> None:
        """Keep the reply to a request, if it is one that a client has just trained, and let go of its arrays in memory.

        To be called with what arrives, outside of all that takes an error for the client's: a full disk is not.

        Raises:
            OSError: It cannot be written.
        """
        latest, self._latest = self._latest, None
        if latest is None or latest.request is not request or reply.has_error() or not self._writes:
            return
        self.keep(latest.place, request, latest.reply, latest.state, latest.journal, of=reply)

    def keep(
        self,
        place: Place,
        request: Message,
        reply: Message,
        state: RecordDict,
        journal: dict[str, Any],
        of: Message | None = None,
    ) -> None:
        """Keep a client's reply, and let go of its arrays in memory.

        Args:
            place: Where (:meth:`look_up`).
            request: What it answers.
            reply: The reply as its client gave it.
            state: What its client keeps to itself.
            journal: What the training leaves in the journal.
            of: What has arrived of it; default: the reply itself.

        Raises:
            OSError: It cannot be written.
        """

        def write(folder: Path) -> None:
            write_update(folder, config_record(request), reply)
            if state:
                write_bytes(folder / FILE, records_bytes(state))
            write_json(folder / KEPT, {"request": place.request, "journal": journal})

        seal(place.folder, write)
        if of is None or of is reply:  # nobody plays with it: from here on it is read from there
            for name, record in stored_records(place.folder / WEIGHTS).array_records.items():
                reply.content[name] = record

    @staticmethod
    def _read(place: Place) -> Kept | None:
        folder = place.folder
        if not folder.is_dir():
            return None
        for problem in problems(folder):
            logger.warning(f"A kept reply is not used, its client trains again: {problem}.")
            return None
        try:
            kept = read_as(_Kept, inside(folder, KEPT))
            if kept["request"] != place.request:
                return None
            private = inside(folder, FILE)
            state = stored_records(private) if os.path.lexists(private) else RecordDict()
            return Kept(read_update(folder)[1].content, state, cast("dict[str, Any]", kept["journal"]))
        except FcitError as error:  # of another version of the plugin, say
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
    for name, more in sorted(message.content.config_records.items()):
        if name != CONFIG:  # such as the session of a secure sum
            digest.update(json.dumps({name: dict(more)}, sort_keys=True).encode())
    return digest.hexdigest()
