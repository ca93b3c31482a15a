"""A Flower grid whose clients are sites, each a node of its own at a SuperLink and known by its public key.

Messages are delivered at least once and sites answer a request that they have answered before from the reply that they
kept. So whatever goes wrong between server and site has one remedy: wait until the site is there, and ask again. Only what
the site's key has signed is an answer; everything else is a message that was lost.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Error, Message, MessageType, RecordDict
from flwr.common.constant import ErrorCode
from typing_extensions import override

from ..errors import FcitError, one_line
from .client_states import ClientStates
from .envelope import ServerSigner, open_reply, sealed_request
from .in_process_grid import InProcessGrid
from .messages import config_of
from .reply_cache import Place, ReplyCache
from .reply_limits import ReplyLimits, limits_of
from .reply_parts import one_line as printable

logger = logging.getLogger(__name__)

#: Seconds that Flower keeps a message for a node: longer than any site is waited for.
TIME_TO_LIVE = 30 * 24 * 3600.0
#: Seconds after which a site that is asked again in vain is asked the next time, at most.
LONGEST_PAUSE = 60.0
#: Code of the error of a site that has not answered, other than of one that has answered with a failure.
AWAY = ErrorCode.NODE_UNAVAILABLE
#: Replies that are looked for after their time, the newest ones.
MOST_LATE = 100
#: Seconds between two looks that count at most: in more this process was held up, as by Ctrl-Z or with its machine.
LONGEST_LOOK = 600.0
#: Seconds after which it is said who is awaited; later ones follow after twice as long, up to the second.
FIRST_REMINDER, LONGEST_REMINDER = 60.0, 1800.0


class LinkLost(Exception):
    """The SuperLink cannot be reached at the moment."""


class RunLost(LinkLost):
    """What the SuperLink had of the run is gone, with all messages."""


class Link(Protocol):
    """The way to the nodes (:mod:`.superlink`); every method may raise :class:`LinkLost`."""

    def node_of(self, key: bytes) -> int:
        """The node of a public key, which is registered where it is not."""
        ...

    def online(self) -> Mapping[int, str]:
        """The nodes that are there, each with the time at which it came up."""
        ...

    def push(self, message: Message) -> str | None:
        """Send a message; its id, or None where the SuperLink did not take it."""
        ...

    def pull(self, ids: Mapping[str, ReplyLimits]) -> Iterable[Message]:
        """The replies that have arrived, one after the other: one is fetched when the reader has done with that before it.

        Args:
            ids: The ids of the requests, each with what its reply may have at most; an error comes in place of more.
        """
        ...


@dataclass(frozen=True)
class Site:
    """A client that is a site.

    Attributes:
        name: Its name in the recipe.
        key: Its public key.
        encoded: The same as Flower's SuperLink knows it.
    """

    name: str
    key: ec.EllipticCurvePublicKey
    encoded: bytes


@dataclass
class _Asked:
    """A request that waits for its reply.

    Attributes:
        request: The server's request.
        place: Where the reply will be kept.
        message_id: Flower's id of the message that carries it, None while it has to be sent (again).
        nonce: Of that message.
        came_up: When its node had come up as it was sent.
        here: Whether the site is there and has the message.
        away: Seconds for which that was not so.
        not_before: When it is asked again.
        attempts: How often it has been lost.
        said: What has been logged of it.
        why: What stood between it and the server last.
    """

    request: Message
    place: Place | None
    message_id: str | None = None
    nonce: str = ""
    came_up: str = ""
    here: bool = False
    away: float = 0.0
    not_before: float = 0.0
    attempts: int = 0
    said: set[str] = field(default_factory=set)
    why: str = ""

    @cached_property
    def limits(self) -> ReplyLimits:
        """What the reply may have at most."""
        return limits_of(self.request)


@dataclass(frozen=True)
class Late:
    """A reply that nobody waits for any more, as its site was given up.

    Attributes:
        site: Who gives it.
        kind: The request's type.
        nonce: The request's.
        limits: What it may have at most.
        when: The round, in words.
    """

    site: Site
    kind: str
    nonce: str
    limits: ReplyLimits
    when: str


class SiteGrid(InProcessGrid):
    """Sends to sites and gives back their replies as from clients.

    Args:
        link: The way to the nodes.
        signer: The server, whose signature sites look for.
        sites: The sites, by the client's number.
        cache: Has the replies of an attempt at the round that was interrupted, and keeps those that arrive.
        on_reply: Called with each request and each reply, in the order of the requests.
        patience: Seconds that a site may be away before its reply counts as missing.
        timeout: Seconds after which an answer comes too late, None for no limit.
        poll: Seconds between two looks for replies.
        late: By Flower's ids of their requests the replies that nobody waits for; other grids of the run have the same.
        say: Takes a line on who has answered and who is awaited.
        clock: Tells the time in seconds.
        sleep: Waits for some seconds.
    """

    def __init__(
        self,
        link: Link,
        signer: ServerSigner,
        sites: Mapping[int, Site],
        cache: ReplyCache,
        on_reply: Callable[[Message, Message], None] = lambda request, reply: None,
        *,
        patience: float,
        timeout: float | None = None,
        poll: float = 1.0,
        late: dict[str, Late] | None = None,
        say: Callable[[str], None] = logger.info,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(None, sites, on_reply, timeout=timeout, clock=clock)
        names: dict[bytes, str] = {}
        for site in sites.values():
            other = names.setdefault(site.encoded, site.name)
            if other != site.name:
                raise FcitError(f"`fcit_sites` has one public key for {other} and {site.name}; each site makes its own key.")
        self._link, self._signer, self._sites, self._cache = link, signer, sites, cache
        self._patience, self._poll, self._sleep = patience, poll, sleep
        self._late, self._say = {} if late is None else late, say

    @override
    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError("Sites are asked together, by `send_and_receive`.")

    @override
    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Ask the sites and return a reply to every message, in the order of the messages."""
        requests = list(messages)
        replies: dict[int, Message] = {}
        waiting: dict[int, _Asked] = {}
        for number, request in enumerate(requests):
            place, kept = self._cache.look_up(request, ClientStates().of(request.metadata.dst_node_id))
            if kept is not None:
                replies[number] = Message(kept.content, reply_to=request)
            else:
                waiting[number] = _Asked(request, place)
        last, waited, reminder = self._clock(), 0.0, FIRST_REMINDER
        longest = self._poll + min(
            LONGEST_LOOK, self._patience / 2, LONGEST_LOOK if self._timeout is None else self._timeout / 2
        )
        while waiting:
            try:
                self._look(waiting, replies)
            except LinkLost as error:
                self._link_lost(waiting, error)
            now = self._clock()
            passed, last = min(now - last, longest), now  # nobody is away while nobody looks
            waited += passed
            for asked in waiting.values():
                asked.away += 0.0 if asked.here else passed
            replies = self._given_up(waiting, waited) | replies
            for number in replies.keys() & waiting.keys():
                self._leaves(waiting.pop(number), waiting)
            if waiting and waited >= reminder:
                self._say(f"After {_minutes(waited)} {self._awaited(waiting)}.")
                reminder = waited + min(LONGEST_REMINDER, 2 * reminder)
            if waiting:
                self._sleep(self._poll)
        for number, request in enumerate(requests):
            if request.metadata.message_type == MessageType.QUERY and not replies[number].has_error():
                self._cache.named(request, replies[number])
            self._on_reply(request, replies[number])
        return [replies[number] for number in range(len(requests))]

    def _look(self, waiting: dict[int, _Asked], replies: dict[int, Message]) -> None:
        """Send what has to be sent, and add what has arrived to the replies."""
        online = self._link.online()
        for asked in waiting.values():
            node = self._link.node_of(self._site(asked).encoded)
            if asked.message_id is not None and online.get(node, asked.came_up) != asked.came_up:
                self._lost(asked, "its SuperNode has started again")  # what it had been asked is gone with its memory
            if asked.message_id is None and self._clock() >= asked.not_before:
                self._send(asked, node, online)
            asked.here = asked.message_id is not None and node in online
        by_id = {asked.message_id: number for number, asked in waiting.items() if asked.message_id is not None}
        limits = {request: waiting[number].limits for request, number in by_id.items()}
        limits |= {request: late.limits for request, late in self._late.items()}
        for message in self._link.pull(limits) if by_id else ():
            request = message.metadata.reply_to_message_id  # an error names the SuperLink as its sender
            number = by_id.get(request)
            if number is None:
                self._came_late(self._late.pop(request, None), message)
            elif (reply := self._taken(waiting[number], message)) is not None:
                replies[number] = reply
            del message  # whose arrays are on the disk now; the next one's are fetched as the loop goes on

    def _came_late(self, late: Late | None, message: Message) -> None:
        """Name who has answered after it was given up; the reply is dropped."""
        if late is None or message.has_error():
            return
        with contextlib.suppress(FcitError):  # then it is not the site's
            open_reply(message.content, late.nonce, late.kind, late.site.key)
            logger.warning(f"The reply of site {late.site.name} {late.when} has come after its time and is dropped.")

    def _leaves(self, asked: _Asked, waiting: dict[int, _Asked]) -> None:
        """Say that a site is not waited for any more, and for whom the round waits."""
        if waiting and asked.request.metadata.message_type == MessageType.TRAIN:
            names = ", ".join(self._site(other).name for other in waiting.values())
            self._say(f"Site {self._site(asked).name} is done; awaited: {names}.")

    def _awaited(self, waiting: dict[int, _Asked]) -> str:
        """Who is awaited, and how long each has been away or at work."""
        at_work, away = [], []
        for asked in waiting.values():
            name = self._site(asked).name
            if asked.here:
                at_work.append(name)
            else:
                away.append(f"{name} (away for {_minutes(asked.away)} of {_minutes(self._patience)})")
        parts = [f"{', '.join(at_work)} at work"] if at_work else []
        return "awaited: " + "; ".join([*parts, *away])

    def _send(self, asked: _Asked, node: int, online: Mapping[int, str]) -> None:
        if node not in online:
            self._tell(asked, "is not there")
            return
        metadata, config = asked.request.metadata, config_of(asked.request)
        content, nonce = sealed_request(asked.request.content, metadata.message_type, self._site(asked).encoded, self._signer)
        message = Message(
            content,
            dst_node_id=node,
            message_type=metadata.message_type,
            ttl=TIME_TO_LIVE,
            group_id=f"{config.stage}.{config.round}",
        )
        message_id = self._link.push(message)
        if message_id is None:
            self._tell(asked, "cannot be asked: the SuperLink did not take the message")
            self._pause(asked)
            return
        asked.message_id, asked.nonce, asked.came_up = message_id, nonce, online[node]

    def _taken(self, asked: _Asked, message: Message) -> Message | None:
        """The site's reply as the server's loop knows it, None where the message was lost on its way."""
        if message.has_error():  # by nobody's key: it says nothing of the site
            self._lost(asked, message.error.reason or f"Flower's error {message.error.code}")
            return None
        kind = asked.request.metadata.message_type
        try:
            content, failure = open_reply(message.content, asked.nonce, kind, self._site(asked).key)
        except FcitError as error:
            self._lost(asked, f"a reply in its name is not taken, {error}")
            return None
        if failure is not None:
            return self._failed(asked.request, failure)
        reply = Message(content, reply_to=asked.request)
        if asked.place is not None:
            try:
                self._cache.keep(asked.place, asked.request, reply, RecordDict(), {"steps": 0, "log": []})
            except (AttributeError, FcitError, KeyError, TypeError, ValueError) as error:  # of no form that an update has
                return self._failed(asked.request, f"its reply does not have the form of an update: {one_line(error)}")
        return reply

    def _lost(self, asked: _Asked, why: str) -> None:
        """Ask again, after a pause that grows."""
        asked.message_id, asked.here = None, False
        self._pause(asked)
        self._tell(asked, f"has not answered: {why}")

    def _pause(self, asked: _Asked) -> None:
        asked.attempts += 1
        asked.not_before = self._clock() + min(LONGEST_PAUSE, self._poll * 2 ** min(asked.attempts - 1, 16))

    def _tell(self, asked: _Asked, what: str) -> None:
        """Say once what stands between the server and a site; anybody may have said it."""
        asked.why = what = printable(what)
        if what not in asked.said:
            asked.said.add(what)
            logger.warning(f"Site {self._site(asked).name} {what}; it is asked again for {self._patience:g} s.")

    def _link_lost(self, waiting: dict[int, _Asked], error: LinkLost) -> None:
        for asked in waiting.values():
            asked.here = False
            if isinstance(error, RunLost):
                asked.message_id = None
            self._tell(asked, f"cannot be asked: {error}")

    def _given_up(self, waiting: dict[int, _Asked], elapsed: float) -> dict[int, Message]:
        """Errors for the sites that have been away, or at work, for too long."""
        gone = {}
        for number, asked in waiting.items():
            name = self._site(asked).name
            if asked.away > self._patience:
                last = f"; at last it {asked.why}" if asked.why else ""
                why = f"site {name} was away for more than {self._patience:g} s (`fcit_site_patience`){last}"
                gone[number] = self._gone(asked, why)
            elif self._timeout is not None and elapsed - asked.away > self._timeout:
                why = f"site {name} took longer than {self._timeout:g} s (`fcit_client_timeout`)"
                gone[number] = self._gone(asked, why)
        return gone

    def _gone(self, asked: _Asked, why: str) -> Message:
        metadata = asked.request.metadata
        if asked.message_id is not None:
            config = config_of(asked.request)
            when = f"in stage {config.stage}, round {config.round}"
            self._late[asked.message_id] = Late(self._site(asked), metadata.message_type, asked.nonce, asked.limits, when)
            if len(self._late) > MOST_LATE:
                del self._late[next(iter(self._late))]
        return Message(Error(AWAY, why), reply_to=asked.request)

    def _site(self, asked: _Asked) -> Site:
        return self._sites[asked.request.metadata.dst_node_id]

    @staticmethod
    def _failed(request: Message, reason: str) -> Message:
        return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=request)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
