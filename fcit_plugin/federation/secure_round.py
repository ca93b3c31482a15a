"""The server's side of a round with secure sums: its exchanges with the sites, and what becomes of the opened sums.

An attempt at a round is one session. What every step has brought is in a file before the next one leaves, so a server that is
started again says to every site what it has said before, and takes up the session where it was: sites would answer nothing
else. The masked updates themselves are kept as replies are (:mod:`.reply_cache`).
"""

import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from typing_extensions import TypedDict

from ..arguments import FcitArguments
from ..errors import FcitError
from ..files import read_as
from ..knowledge.identity_tokens import ClientToken, WithoutToken
from ..knowledge.organizer import Assignment
from ..schema import Sum, Word
from ..state.secret_files import write_private
from .messages import CONFIG, METRICS, ClientConfig, config_of
from .reply_parts import Unusable, listed
from .round import FoldResult, Round
from .rules import RuleSet
from .secure_messages import (
    MASKED,
    SUMS,
    TEXT,
    digests_of_sent,
    masked_in,
    sizes_of_sums,
    text_in,
    text_request,
)
from .secure_sum.parts import SumBounds, SumsOfRun
from .secure_sum.server import OpenedSum, ServerSums
from .secure_sum.statements import session_of
from .secure_sum.texts import AGREE, KEYS, SHARED, SHARES, TRAIN, UNMASK
from .validation import sort_out

Send = Callable[[Iterable[Message]], list[Message]]


class _Step(TypedDict):
    replies: dict[str, str]
    dropped: dict[str, Word]


class _Kept(TypedDict):
    launch: Sum
    steps: dict[str, _Step]


class SessionLog:
    """What the server keeps of a session.

    Attributes:
        path: Where.

    Args:
        path: The file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        known: _Kept | None = None
        if path is not None and path.exists():
            known = read_as(_Kept, path, "take it away: the attempt at this round is lost then, and another one is made")
        self._kept: _Kept = known or {"launch": secrets.token_hex(32), "steps": {}}
        if known is None:
            self._write()

    @property
    def launch(self) -> str:
        """What tells this session from those of other processes of the server."""
        return self._kept["launch"]

    def of(self, step: str) -> _Step | None:
        """What a step has brought; None where it has not been made."""
        return self._kept["steps"].get(step)

    def keep(self, step: str, replies: Mapping[int, str], dropped: Mapping[int, str]) -> None:
        """Keep what a step has brought."""
        as_text = ({str(client): text for client, text in each.items()} for each in (replies, dropped))
        self._kept["steps"][step] = dict(zip(("replies", "dropped"), as_text, strict=True))  # type: ignore[assignment]
        self._write()

    def _write(self) -> None:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_private(self.path, json.dumps(self._kept))


def bounds_of(args: FcitArguments) -> SumBounds:
    """The bounds of sums that a recipe has."""
    assert args.fcit_max_update_norm is not None and args.fcit_max_client_samples is not None  # it was checked
    return SumBounds(args.fcit_secure_min_clients, args.fcit_max_update_norm, args.fcit_max_client_samples)


class SecureSession:
    """One session of the server's.

    Args:
        sums: Whose keys are known.
        args: The recipe's keys.
        requests: The requests to train, by client.
        attempt: Number of the attempt at the round.
        send: Asks clients.
    """

    def __init__(self, sums: SumsOfRun, args: FcitArguments, requests: Mapping[int, Message], attempt: int, send: Send) -> None:
        self._requests, self._send = requests, send
        config = config_of(next(iter(requests.values())))
        folder = None if sums.folder is None else sums.folder(config.stage, config.round)
        self._log = log = SessionLog(None if folder is None else folder / f"sums-{attempt}.json")
        self._sizes = {client: sizes_of_sums(request) for client, request in requests.items()}
        groups: dict[str, list[int]] = {}
        for client, sizes in sorted(self._sizes.items()):
            for name in sizes:
                groups.setdefault(name, []).append(client)
        sizes_of_all = {name: size for sizes in self._sizes.values() for name, size in sizes.items()}
        session = session_of(config.run, log.launch, config.stage, config.round, attempt)
        said: dict[str, str | int] = {"launch": log.launch, "attempt": attempt}
        self.sums = ServerSums(session, said, groups, sizes_of_all, sums.keys, bounds_of(args))
        self.dropped: dict[int, str] = {}

    def run(self, is_enough: Callable[[list[int]], bool]) -> dict[str, OpenedSum]:
        """All exchanges; what could be opened. Why others are not in it is in ``dropped``.

        Args:
            is_enough: Of the clients whose sums would be opened, whether it is to be done: what was opened once never is again.
        """
        sums = self.sums
        self._texts(KEYS, list(self._requests), sums.ask_keys, sums.take_keys)
        self._texts(SHARES, sums.form_rosters(), sums.ask_shares, sums.take_shares)
        self._train(sums.settle_present())
        going = sums.going()
        if is_enough(sums.in_subspaces(going)):
            self._texts(AGREE, going, sums.ask_agree, sums.take_agreed)
            self._texts(UNMASK, sums.agreed(), sums.ask_unmask, sums.take_unmasked)
            opened = sums.opened({client: digests_of_sent(request) for client, request in self._requests.items()})
        else:
            opened = {}
        for name, why in sums.reasons.items():
            if name != SHARED and name not in opened:
                self.dropped |= {client: why for client in sums.clients(name) if client not in self.dropped}
        return opened

    def _texts(self, step: str, clients: list[int], ask: Callable[[int], str], take: Callable[[int, object], None]) -> None:
        kept = self._log.of(step)
        if kept is None:
            requests = {client: text_request(step, self._work(client), client, ask(client)) for client in clients}

            def judge(request: Message, reply: Message) -> str:
                if set(reply.content) != {CONFIG, SUMS}:
                    raise Unusable(f"it holds the records {listed(reply.content)}, not {listed((CONFIG, SUMS))}")
                text = text_in(reply.content)
                self._taken(lambda: take(request.metadata.dst_node_id, text))
                assert isinstance(text, str)  # else it was not taken
                return text

            good, dropped = sort_out(requests, self._send(requests.values()) if requests else [], judge)
            self._log.keep(step, good, dropped)
            self.dropped |= dropped
            return
        for client, text in kept["replies"].items():
            take(int(client), text)
        self.dropped |= {int(client): why for client, why in kept["dropped"].items()}

    def _train(self, clients: list[int]) -> None:
        kept = self._log.of(TRAIN)
        asked = {}
        for client in clients if kept is None else map(int, kept["replies"]):
            asked[client] = request = self._requests[client]
            request.content[SUMS] = ConfigRecord({TEXT: self.sums.ask_train(client)})

        def judge(request: Message, reply: Message) -> Message:
            content, client = reply.content, request.metadata.dst_node_id
            kinds = {CONFIG: ConfigRecord, METRICS: MetricRecord, MASKED: ArrayRecord}
            if {name: type(record) for name, record in content.items()} != kinds:
                raise Unusable(f"it holds the records {listed(content)}, not {listed(kinds)}")
            self._taken(lambda: self.sums.check_masked(client, masked_in(reply, self._sizes[client])))
            return reply

        good, dropped = sort_out(asked, self._send(asked.values()) if asked else [], judge)
        if kept is None:
            self._log.keep(TRAIN, dict.fromkeys(good, ""), dropped)
        elif dropped:
            client, why = next(iter(dropped.items()))
            raise FcitError(
                f"The masked update of client {client} was there before this process was started again, and cannot be had any "
                f"more ({why}); start again, and take {self._log.path} away if this stays so."
            )
        else:
            dropped = {int(client): why for client, why in kept["dropped"].items()}
        self.dropped |= dropped
        for client, reply in good.items():
            self.sums.add_masked(client, masked_in(reply, self._sizes[client]))

    def _work(self, client: int) -> ConfigRecord:
        config = config_of(self._requests[client])
        return ClientConfig(config.run, config.stage, config.round, client, config.task).to_record()

    @staticmethod
    def _taken(take: Callable[[], None]) -> None:
        try:
            take()
        except FcitError as error:
            raise error if isinstance(error, Unusable) else Unusable(str(error)) from error


def groups_that_can(assignment: Assignment, least: int) -> tuple[Assignment, dict[int, str]]:
    """The clients whose subspace has enough of them for a sum, and why the others are left out before they train."""
    members: dict[int, list[int]] = {}
    for client, k in assignment.subspace.items():
        members.setdefault(k, []).append(client)
    dropped = {
        client: f"its subspace has {len(clients)} of at least {least} clients in this round (`fcit_secure_min_clients`)"
        for clients in members.values()
        if len(clients) < least
        for client in clients
    }
    return assignment.only(assignment.subspace.keys() - dropped.keys()), dict(sorted(dropped.items()))


def fold_opened(
    opened: Mapping[str, OpenedSum],
    assignment: Assignment,
    begin: Callable[[Assignment], Round],
    tokens: Mapping[int, ClientToken | WithoutToken],
) -> tuple[Assignment, FoldResult, float]:
    """The next state from opened sums.

    Args:
        opened: The sums, at least one of a subspace.
        assignment: Who was asked to train what. Who was asked keeps it: an opened sum cannot be divided again.
        begin: The round of an assignment.
        tokens: What clients have told, by client.

    Returns:
        Who trained which subspace, what came of it, and the mean loss.
    """
    of_subspaces = {name: each for name, each in opened.items() if name != SHARED}
    clients = sorted(client for each in of_subspaces.values() for client in each.clients)
    after = assignment.only(clients)
    found: dict[int | str, OpenedSum] = {after.subspace[each.clients[0]]: each for each in of_subspaces.values()}
    if SHARED in opened:
        found[RuleSet.SHARED] = opened[SHARED]
    told: Sequence[ClientToken | WithoutToken] = [tokens[client] for client in clients]
    folded = begin(after).fold_sums(found, told)
    weight = sum(each.weight for each in of_subspaces.values())
    return after, folded, sum(each.loss * each.weight for each in of_subspaces.values()) / weight
