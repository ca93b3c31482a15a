"""A Flower grid whose clients run in several processes at once, each client in one of them.

Who trains which client is fixed before anybody begins, by planned steps, and decides nothing but the time it takes: a
client's work begins from its request alone, and what comes back is taken up in the order of the requests.
"""

import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from flwr.app import Context, Message, MessageType, RecordDict
from typing_extensions import override

from ..knowledge.identity_tokens import ClientToken
from .client_states import ClientStates
from .in_process_grid import InProcessGrid, arriving, ask, tried
from .messages import ClientConfig, client_token, config_of
from .reply_cache import Place, ReplyCache

logger = logging.getLogger(__name__)

ClientApp = Callable[[Message, Context], Message]


class Crew(Protocol):
    """The processes that run clients; this one is the first of them."""

    count: int

    def send(self, value: Any, to: int) -> None:
        """Send an object to another process."""
        ...

    def received(self, sources: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """What comes from other processes, each object with the number of its process, as it arrives."""
        ...


class Notes(Protocol):
    """What one client's training adds to the run's log once it is its turn."""

    def client_step(self, config: ClientConfig, loss: float | None) -> None:
        """One optimizer step is done."""
        ...

    def client_log(self, config: ClientConfig, logs: dict[str, Any]) -> None:
        """The trainer has logged something."""
        ...

    def entries(self) -> dict[str, Any]:
        """What the run's journal takes up (:meth:`.reply_cache.Journal.replay`)."""
        ...


class Notebook(Protocol):
    """The run's log."""

    def open_notes(self, config: ClientConfig, watch: Callable[[], None]) -> Notes:
        """Notes of a client's training; ``watch`` is called after each of its steps in this process, and may raise."""
        ...

    def replay(self, entries: dict[str, Any]) -> None:
        """Take up what :meth:`Notes.entries` gave."""
        ...


@dataclass(frozen=True)
class Job:
    """What a process is to do.

    Attributes:
        request: What the client is asked.
        state: What the client keeps to itself.
        token: Its identity token, where another process has made it already.
    """

    request: Message
    state: RecordDict
    token: ClientToken | None


class Outcome(NamedTuple):
    """What came of a job: the content of the reply or how the client failed, what it keeps to itself, and the seconds."""

    content: RecordDict | None
    failure: str | None
    state: RecordDict
    seconds: float = 0.0


def outcome_of(client_app: ClientApp, job: Job, timeout: float | None, clock: Callable[[], float] = time.monotonic) -> Outcome:
    """Do a job.

    Args:
        client_app: The app that every client runs.
        job: What to do; its state is changed in place.
        timeout: Seconds after which an answer comes too late, None for no limit.
        clock: Tells the time in seconds.
    """
    start = clock()
    reply, failure = tried(job.request, lambda: ask(client_app, job.request, job.state), timeout, clock)
    return Outcome(None if reply is None else reply.content, failure, job.state, clock() - start)


def deal(costs: Sequence[int], count: int) -> list[list[int]]:
    """Share work out, the longest first, each to the process that has least of it so far.

    Args:
        costs: What each piece takes.
        count: Number of processes.

    Returns:
        For each process the numbers of its pieces, in the order in which it does them.
    """
    shares: list[list[int]] = [[] for _ in range(count)]
    taken = [0] * count
    for piece in sorted(range(len(costs)), key=lambda piece: -costs[piece]):  # stable: the first of equals goes first
        least = taken.index(min(taken))
        shares[least].append(piece)
        taken[least] += costs[piece]
    return shares


class ParallelGrid(InProcessGrid):
    """Shares the messages of a round out to the processes; this one takes its share, too.

    Args:
        crew: The processes.
        client_app: The app that every client runs.
        cache: Has the replies of an attempt at the round that was interrupted, and keeps those that arrive.
        notebook: The run's log.
        cost: What a message takes: planned steps of a training, records of a query's task.
        node_ids: The clients' numbers.
        on_reply: Called with each request and each reply, in the order of the requests.
        timeout: Seconds after which an answer comes too late, None for no limit.
        states: What the clients keep to themselves.
    """

    def __init__(
        self,
        crew: Crew,
        client_app: ClientApp,
        cache: ReplyCache,
        notebook: Notebook,
        cost: Callable[[Message], int],
        node_ids: Iterable[int],
        on_reply: Callable[[Message, Message], None],
        *,
        timeout: float | None,
        states: ClientStates,
    ) -> None:
        super().__init__(client_app, node_ids, on_reply, timeout=timeout, states=states)
        self._app = client_app
        self._crew = crew
        self._cache = cache
        self._notebook = notebook
        self._cost = cost
        self._homes: dict[int, int] = {}  # by task the process that has its records' tokens
        self._tokens: dict[tuple[int, int], ClientToken] = {}

    @override
    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError("Clients that run at once are asked together, by `send_and_receive`.")

    @override
    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Run the clients and return the replies that arrive, in the order of the messages."""
        round = _RoundOfJobs(self, list(messages))
        round.run()
        return [reply for number in range(len(round.requests)) for reply in self._take_up(round, number)]

    def _take_up(self, round: "_RoundOfJobs", number: int) -> list[Message]:
        """What one process has of a client becomes what the run has of it."""
        request, outcome, entries = round.requests[number], round.outcomes[number], round.entries[number]
        if entries is not None:
            self._notebook.replay(entries)
        replies, failure = None, outcome.failure
        if failure is None:
            reply = None if outcome.content is None else Message(outcome.content, reply_to=request)
            if reply is not None and request.metadata.message_type == MessageType.QUERY:
                config = config_of(request)
                token = client_token(reply)
                if isinstance(token, ClientToken):  # of too few records no process makes one to send
                    self._tokens[config.client, config.task] = token
                    self._cache.named(request, reply)
            replies, failure = tried(request, lambda: arriving(request, reply))
        return self._hand_over(request, replies or [], failure, outcome.state)

    def share_out(self, requests: Sequence[Message], pieces: Sequence[int]) -> list[list[int]]:
        """Which process does which of some requests, by number.

        A query needs the tokens of all records of its task, so those of one task go to one process, and stay there.
        """
        if not pieces or requests[pieces[0]].metadata.message_type != MessageType.QUERY:
            shares = deal([self._cost(requests[piece]) for piece in pieces], self._crew.count)
            return [[pieces[number] for number in share] for share in shares]
        by_task: dict[int, list[int]] = defaultdict(list)
        for piece in pieces:
            by_task[config_of(requests[piece]).task].append(piece)
        new = [task for task in by_task if task not in self._homes]
        for rank, share in enumerate(deal([self._cost(requests[by_task[task][0]]) for task in new], self._crew.count)):
            self._homes |= {new[number]: rank for number in share}
        return [
            [piece for task, own in by_task.items() if self._homes[task] == rank for piece in own]
            for rank in range(self._crew.count)
        ]

    def job(self, request: Message, state: RecordDict) -> Job:
        """What the process that gets a request needs for it."""
        config = config_of(request)
        known = self._tokens.get((config.client, config.task))
        return Job(request, state, known if request.metadata.message_type == MessageType.TRAIN else None)

    def do(self, job: Job) -> Outcome:
        """Do a job in this process."""
        return outcome_of(self._app, job, self._timeout, self._clock)


class _RoundOfJobs:
    """The requests that go out together, and what comes of them.

    Args:
        grid: The grid.
        requests: The requests.
    """

    def __init__(self, grid: ParallelGrid, requests: list[Message]) -> None:
        self.grid = grid
        self.requests = requests
        self.outcomes: dict[int, Outcome] = {}
        self.entries: dict[int, dict[str, Any] | None] = {}
        self._places: dict[int, Place] = {}
        self._notes: dict[int, Notes] = {}
        self._error: BaseException | None = None

    def run(self) -> None:
        """Let all processes do their share; comes back once every client has answered or failed."""
        grid, jobs = self.grid, {}
        for number, request in enumerate(self.requests):
            state = grid._states.of(request.metadata.dst_node_id)
            place, kept = grid._cache.look_up(request, state)
            self.entries[number] = None
            if kept is not None:
                self.outcomes[number] = Outcome(kept.content, None, kept.state)
                self.entries[number] = kept.journal
                continue
            if place is not None:
                self._places[number] = place
                self._notes[number] = grid._notebook.open_notes(config_of(request), self._check)
            jobs[number] = grid.job(request, state)
        shares = grid.share_out(self.requests, list(jobs))
        sources = [rank for rank in range(1, grid._crew.count) if shares[rank]]
        start = time.perf_counter()
        for rank in sources:
            grid._crew.send(("jobs", [(number, jobs[number]) for number in shares[rank]]), rank)
        missing = sum(len(shares[rank]) for rank in sources)
        listening = threading.Thread(target=self._listen, args=(sources, missing), daemon=True)
        listening.start()
        for number in shares[0]:
            self._check()
            self._keep(number, grid.do(jobs[number]))
        listening.join()
        self._check()
        busy = [round(sum(self.outcomes[number].seconds for number in share), 3) for share in shares]
        logger.debug("Busy: " + json.dumps({"processes": busy, "whole": round(time.perf_counter() - start, 3)}))

    def _listen(self, sources: Sequence[int], missing: int) -> None:
        """Hear what the others do until all their outcomes are here."""
        try:
            for _, (what, number, *more) in self.grid._crew.received(sources) if missing else ():
                if what == "outcome":
                    self._keep(number, Outcome(*more))
                    missing -= 1
                    if not missing:
                        return
                elif what == "step":
                    self._notes[number].client_step(config_of(self.requests[number]), *more)
                else:
                    self._notes[number].client_log(config_of(self.requests[number]), *more)
        except BaseException as error:  # it is raised in the thread that waits
            self._error = error

    def _keep(self, number: int, outcome: Outcome) -> None:
        """Keep what a client has answered, as soon as it is here."""
        if number in self._places:
            request, entries = self.requests[number], self._notes[number].entries()
            self.entries[number] = entries
            if outcome.failure is None and outcome.content is not None:
                reply = Message(outcome.content, reply_to=request)
                self.grid._cache.keep(self._places[number], request, reply, outcome.state, entries)
        self.outcomes[number] = outcome

    def _check(self) -> None:
        """Raise what has gone wrong while listening."""
        if self._error is not None:
            raise self._error
