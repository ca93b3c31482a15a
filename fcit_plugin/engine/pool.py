"""Processes that train whole clients: what they send each other, and what is heard of one that ends.

The first process is the server and a client at once; the others do what it sends them, and talk to it alone. They are all
of one run, and each proves with a secret that torchrun's store has handed out that it is.
"""

import contextlib
import json
import pickle
import secrets
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge, wait
from typing import Any, TypeVar, cast

import torch.distributed as dist

from ..errors import FcitError
from ..recipe.world import World

T = TypeVar("T")

#: How long processes wait for each other before all are there; loading starts afterwards.
_MEETING = timedelta(minutes=10)
#: How many seconds whoever connects may say nothing until it has shown that it knows the secret.
_SHOWING = 10
#: A machine that is gone without a word is noticed after this many seconds: 30, and then four times 10 for an answer.
_KEEPALIVE = ((socket.SO_KEEPALIVE, 1), (socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 4))


class ProcessGone(RuntimeError):
    """Another process of the run has ended."""


class Pool:
    """The processes of a run that trains clients in parallel.

    Args:
        world: What torchrun told this process.
    """

    def __init__(self, world: World) -> None:
        if world.problem is not None:
            raise FcitError(world.problem)
        self.rank = world.rank
        self.count = world.count
        self._local_rank = world.local_rank
        store = dist.PrefixStore(
            "fcit",
            dist.TCPStore(
                world.address,
                world.port,
                is_master=world.is_main and not world.has_store,
                timeout=_MEETING,
                wait_for_workers=False,
            ),
        )
        self._peers = _accepted(store, world) if world.is_main else {0: _connected(store, world)}

    @property
    def is_main(self) -> bool:
        """Whether this process is the server."""
        return self.rank == 0

    def send(self, value: Any, to: int) -> None:
        """Send an object to a process.

        Raises:
            ProcessGone: It has ended.
        """
        self._send(pickle.dumps(value, pickle.HIGHEST_PROTOCOL), to)

    def _send(self, data: bytes, to: int) -> None:
        with self._alive(to):
            self._peers[to].send_bytes(data)

    def receive(self, source: int) -> Any:
        """The next object from a process.

        Raises:
            ProcessGone: It has ended.
        """
        with self._alive(source):
            return pickle.loads(self._peers[source].recv_bytes())

    def received(self, sources: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """What comes from some processes, in the order of its arrival, until the caller has enough."""
        ranks = {self._peers[rank]: rank for rank in sources}
        while True:
            for peer in cast("list[Connection]", wait(list(ranks))):
                yield ranks[peer], self.receive(ranks[peer])

    def send_all(self, value: Any) -> None:
        """Send one object from the first process to all others."""
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        for rank in range(1, self.count):
            self._send(data, rank)

    def gather(self, own: T) -> list[T]:
        """What each process has, by rank, in all of them."""
        if not self.is_main:
            self.send(own, 0)
            return cast("list[T]", self.receive(0))
        found = [own, *(self.receive(rank) for rank in range(1, self.count))]
        self.send_all(found)
        return found

    def compute_on_main(self, compute: Callable[[], T]) -> T:
        """What the first process alone computes and needs; None in the others."""
        return cast("T", compute() if self.is_main else None)

    @contextlib.contextmanager
    def one_first(self) -> Iterator[None]:
        """Within the block one process of each machine goes before the others: they find what it has put into caches."""
        if self._local_rank:
            self.gather(None)
        yield
        if not self._local_rank:
            self.gather(None)

    def close(self) -> None:
        """End all connections."""
        for peer in self._peers.values():
            peer.close()

    @contextlib.contextmanager
    def _alive(self, rank: int) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:  # also in the midst of a message, or where no way leads to its machine any more
            raise ProcessGone(
                f"Process {rank} of this run has ended, and what it said stands above; started again, the run goes on from the "
                "last reply that it has kept."
            ) from error


def _accepted(store: dist.Store, world: World) -> dict[int, Connection]:
    """The connections to all other processes, which the first one waits for."""
    secret = secrets.token_bytes(32)
    host = "127.0.0.1" if world.local_count == world.count else world.address
    family = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0][0]
    peers: dict[int, Connection] = {}
    with socket.create_server((host, 0), family=family, backlog=world.count) as listener:
        store.set("meeting", json.dumps([*listener.getsockname()[:2], secret.hex()]))
        while len(peers) < world.count - 1:
            peer = Connection(listener.accept()[0].detach())
            try:
                _wait_at_most(_SHOWING, peer)
                deliver_challenge(peer, secret)
                answer_challenge(peer, secret)
                peers[int(peer.recv())] = peer  # one of this run's, for it knows the secret
            except (AuthenticationError, EOFError, OSError):
                peer.close()  # anybody may knock, such as who looks for open ports
    for peer in peers.values():
        _wait_at_most(0, peer)
        _keep_alive(peer)
    return peers


def _connected(store: dist.Store, world: World) -> Connection:
    host, port, secret = json.loads(store.get("meeting"))
    peer = Connection(socket.create_connection((host, port)).detach())
    answer_challenge(peer, bytes.fromhex(secret))
    deliver_challenge(peer, bytes.fromhex(secret))
    peer.send(world.rank)
    _keep_alive(peer)
    return peer


def _wait_at_most(seconds: int, peer: Connection) -> None:
    """Have a connection fail where its other side says nothing for so long; 0: wait forever."""
    with socket.fromfd(peer.fileno(), socket.AF_INET, socket.SOCK_STREAM) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", seconds, 0))


def _keep_alive(peer: Connection) -> None:
    with socket.fromfd(peer.fileno(), socket.AF_INET, socket.SOCK_STREAM) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in _KEEPALIVE:
            line.setsockopt(socket.SOL_SOCKET if option == socket.SO_KEEPALIVE else socket.IPPROTO_TCP, option, value)
