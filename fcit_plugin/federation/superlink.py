"""Flower's inner APIs, all of them that a deployment needs, but for what a reply is made of (:mod:`.arriving`; flwr 1.32).

The server's process is the ServerApp of its own run: the SuperLink runs with ``--isolation process``, so it starts nothing,
and the run's app bundle holds code that refuses to be imported. A site's process takes messages from its SuperNode in the
same way and never loads that bundle. ``tests/federation/test_superlink.py`` runs all of it against a real SuperLink.
"""

import contextlib
import functools
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
from flwr.app import Context, Error, Message, Metadata
from flwr.app.message import make_message
from flwr.cli.build import build_fab_from_files
from flwr.common.constant import ErrorCode, SubStatus
from flwr.common.serde import fab_to_proto, run_from_proto
from flwr.proto.appio_pb2 import (
    ClaimTaskRequest,
    PullAppMessagesRequest,
    PullPendingTasksRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
)
from flwr.proto.clientappio_pb2_grpc import ClientAppIoStub
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, StartRunRequest, UnregisterNodeRequest
from flwr.proto.control_pb2_grpc import ControlStub
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.serverappio_pb2_grpc import ServerAppIoStub
from flwr.supercore.constant import SYSTEM_MESSAGE_TYPE
from flwr.supercore.fab import Fab
from flwr.supercore.grpc import GRPC_MAX_MESSAGE_LENGTH, create_channel
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_grpc
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.interceptors import AppIoTokenClientInterceptor, RuntimeVersionClientInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.superlink.grid import GrpcGrid
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from ..deployment.addresses import as_dialed, past_proxies
from ..deployment.connection import check_connection
from ..deployment.keys import read_public_key
from ..errors import FcitError, one_line
from .arriving import LARGEST_PART, Arriving
from .reply_limits import ReplyLimits
from .reply_parts import Unusable
from .site_grid import LinkLost, RunLost, Site

T = TypeVar("T")

#: A SuperLink that cannot be reached at the moment, or is too busy: the run in it may well go on. SQLite's lock is UNKNOWN.
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNKNOWN)
#: What is said of one reply that is too large, or nested too deeply to be read; the run goes on.
_OF_A_REPLY = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL)
#: Seconds to wait for a run's task, which the SuperLink makes as the run starts.
_CLAIM = 30.0

_PYPROJECT = b"""[project]
name = "fcit"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "fcit"

[tool.flwr.app.components]
serverapp = "fcit_app:server"
clientapp = "fcit_app:client"

[tool.flwr.app.config]
"""
#: A bundle has to name code. Sites that run this plugin never load it.
_CODE = b"raise ImportError('fcit-plugin: a site runs the plugin that is installed there, never this')\n"


def read_site(name: str, path: Path) -> Site:
    """A site by its public key.

    Args:
        name: Its name in the recipe.
        path: The key, in OpenSSH's form, on the curve P-384.

    Raises:
        FcitError: The file holds no such key; the sentence names site and file.
    """
    key = read_public_key(path, name)
    return Site(name, key, public_key_to_bytes(key))


def _refusal(reply_to: str, reason: str, grid: GrpcGrid) -> Message:
    """An error in place of what has come for a request."""
    node = grid.node.node_id
    metadata = Metadata(grid.run.run_id, "", node, node, reply_to, "", time.time(), 0.0, SYSTEM_MESSAGE_TYPE)
    return make_message(metadata, error=Error(ErrorCode.MESSAGE_UNAVAILABLE, f"what came in its name {reason}"))


class SuperLink:
    """The way from the server's process to the nodes of a SuperLink (:class:`.site_grid.Link`).

    Args:
        control: Host and port of its Control API.
        appio: Host and port of its ServerAppIo API, which has no TLS: an address of this machine.
        certificate: The CA's certificate, None: the Control API has no TLS.
        ca: The same as a file, by which it is found out what is wrong where the Control API cannot be reached.
    """

    def __init__(self, control: str, appio: str, certificate: bytes | None, ca: Path | None = None) -> None:
        self._control, self._appio = as_dialed(control), as_dialed(appio)
        past_proxies(appio)
        interceptors = [RuntimeVersionClientInterceptor(component_name="flwr CLI")]
        self._channel = create_channel(self._control, certificate is None, certificate, interceptors=interceptors)
        self._stub = ControlStub(self._channel)
        self._grid: GrpcGrid | None = None
        self._heartbeat: HeartbeatSender | None = None
        self._replies: Any = None
        self._open = contextlib.ExitStack()
        self._arriving: dict[str, Arriving] = {}
        self._listed: dict[bytes, int] = {}
        self._ca, self._reasons = ca, dict[str, str]()

    def __enter__(self) -> "SuperLink":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """End the run: without that its sites are at work for it for another minute."""
        self._end(SubStatus.COMPLETED if error is None else SubStatus.FAILED, "" if error is None else one_line(error))
        self._channel.close()

    def node_of(self, key: bytes) -> int:
        """The node of a public key, which is registered where it is not: node numbers are lost with the SuperLink's memory.

        One that :meth:`online` has just listed is not asked for: each question is a line in the SuperLink's log, for weeks.
        """
        if key in self._listed:
            return self._listed[key]
        return self._asked(self._control, lambda: self._node_of(key))

    def _node_of(self, key: bytes) -> int:
        if known := self._registered(key):
            return known[0]
        return int(self._stub.RegisterNode(RegisterNodeRequest(public_key=key)).node_id)

    def _registered(self, key: bytes) -> list[int]:
        nodes = self._stub.ListNodes(ListNodesRequest()).nodes_info
        return [int(node.node_id) for node in nodes if bytes(node.public_key) == key and not node.unregistered_at]

    def forget(self, key: bytes) -> None:
        """Let the node of a public key in no more."""

        def ask() -> None:
            self._listed.pop(key, None)
            for node_id in self._registered(key):
                self._stub.UnregisterNode(UnregisterNodeRequest(node_id=node_id))

        self._asked(self._control, ask)

    def online(self) -> Mapping[int, str]:
        """The nodes that are there, each with the time at which it came up."""

        def ask() -> dict[int, str]:
            nodes = self._stub.ListNodes(ListNodesRequest()).nodes_info
            self._listed = {bytes(node.public_key): int(node.node_id) for node in nodes if not node.unregistered_at}
            return {node.node_id: node.last_activated_at for node in nodes if node.status == "online"}

        self._listed = {}
        return self._asked(self._control, ask)

    def push(self, message: Message) -> str | None:
        """Send a message; its id, or None where the SuperLink did not take it."""
        ids = self._asked(self._appio, lambda: list(self._run().push_messages([message])))
        return ids[0] or None if ids else None

    def pull(self, ids: Mapping[str, ReplyLimits]) -> Iterator[Message]:
        """The replies that have arrived, one after the other: one is fetched when the reader has done with that before it.

        The grid's own method waits until all arrays of a reply have come, for up to two hours: those of a SuperNode that was
        killed while it sent them never do. Here a reply that is not whole yet is looked at again the next time, and nobody
        waits for it any more once its request has been sent again.

        Each is asked for by itself, and by a channel that takes nothing large: one that cannot be had costs no other one.
        """
        for message_id in self._arriving.keys() - ids.keys():
            del self._arriving[message_id]
        for message_id, limits in ids.items():
            message = self._asked(self._appio, functools.partial(self._arrived, message_id, limits))
            if message is not None:
                yield message
            del message  # before the arrays of the next one are fetched

    def _arrived(self, message_id: str, limits: ReplyLimits) -> Message | None:
        """The reply to a message, None where there is none or it is not whole; an error where it is none that can be taken."""
        grid, stub = self._run(), self._replies
        try:
            if message_id not in self._arriving:
                response = stub.PullMessages(PullAppMessagesRequest(message_ids=[message_id]))
                for head, tree in zip(response.messages_list, response.message_object_trees, strict=True):
                    self._arriving[message_id] = Arriving(head.metadata.message_id, tree, limits)
                if message_id not in self._arriving:
                    return None
            pull = make_pull_object_fn_protobuf(stub.PullObject, grid.node, grid.run.run_id)
            message = self._arriving[message_id].message(pull)
        except Unusable as error:
            message = _refusal(message_id, str(error), grid)
        except grpc.RpcError as error:
            if error.code() not in _OF_A_REPLY:
                raise
            message = _refusal(message_id, f"cannot be had ({_words(error)})", grid)
        if message is None:
            return None
        if (arriving := self._arriving.pop(message_id, None)) is not None:
            confirm = ConfirmMessageReceivedRequest(
                node=grid.node, run_id=grid.run.run_id, message_object_id=arriving.message_id
            )
            with contextlib.suppress(grpc.RpcError):  # then it stays there until the run ends
                stub.ConfirmMessageReceived(confirm)
        message.metadata.__dict__["_reply_to_message_id"] = message_id  # whatever its sender says
        return message

    def _asked(self, address: str, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except grpc.RpcError as error:
            said = f"the SuperLink at {address} says {_words(error)}"
            if error.code() in _PASSING:
                raise LinkLost(self._reason(address, said)) from error
            self._end(SubStatus.FAILED, "the run was lost")
            raise RunLost(said) from error

    def _reason(self, address: str, said: str) -> str:
        """What is wrong with the way to the Control API, in our words; looked for once for each of gRPC's."""
        if self._ca is None or address != self._control:
            return said
        if said not in self._reasons:
            try:
                check_connection(address, self._ca, 5.0)
                self._reasons = {said: said}
            except FcitError as error:
                self._reasons = {said: one_line(error).rstrip(".")}
        return self._reasons[said]

    def _run(self) -> GrpcGrid:
        """The run, begun where there is none."""
        if self._grid is not None:
            return self._grid
        files = {"pyproject.toml": _PYPROJECT, "fcit_app.py": _CODE, "README.md": b"fcit\n"}
        bundle, _ = build_fab_from_files(files)
        fab = Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})
        run_id = self._stub.StartRun(StartRunRequest(fab=fab_to_proto(fab))).run_id
        grid = GrpcGrid(self._appio, insecure=True, token=(token := self._token(run_id)))
        grid._retry_invoker.max_tries = 1  # whoever asks does so again, and says it
        grid._retry_invoker.should_giveup = lambda error: True  # Flower's own interrupts this process if its token is unknown
        grid.set_run(run_from_proto(grid._stub.PullTaskInput(PullTaskInputRequest()).run))
        self._heartbeat = _beating(grid._stub)
        interceptors = RuntimeVersionClientInterceptor(component_name="flwr-serverapp"), AppIoTokenClientInterceptor(token)
        self._replies = self._stub_of_replies(*interceptors)
        self._grid = grid
        return grid

    def _stub_of_replies(self, *interceptors: grpc.UnaryUnaryClientInterceptor) -> ServerAppIoStub:
        """What replies are fetched by: it lets nothing large into memory, and is closed as the run ends."""
        return ServerAppIoStub(self._open.enter_context(_channel(self._appio, *interceptors, most=LARGEST_PART)))

    def _token(self, run_id: int) -> str:
        with _channel(self._appio, RuntimeVersionClientInterceptor(component_name="SuperExec")) as channel:
            stub, end = ServerAppIoStub(channel), time.monotonic() + _CLAIM
            while time.monotonic() < end:
                for task in stub.PullPendingTasks(PullPendingTasksRequest()).tasks:
                    if task.run_id == run_id and (token := stub.ClaimTask(ClaimTaskRequest(task_id=task.task_id)).token):
                        return str(token)
                time.sleep(0.2)
        raise LinkLost(f"the SuperLink at {self._appio} gives no task for the run; it needs `--isolation process`")

    def _end(self, status: str, details: str) -> None:
        grid, heartbeat = self._grid, self._heartbeat
        self._grid = self._heartbeat = self._replies = None
        self._arriving.clear()
        self._open.close()
        if grid is None or heartbeat is None:
            return
        with contextlib.suppress(grpc.RpcError):  # then the SuperLink finds out by itself, in a minute
            grid._stub.PushTaskOutput(PushTaskOutputRequest(sub_status=status, details=details))
        heartbeat.stop()
        grid.close()


@dataclass(frozen=True)
class Task:
    """A message that a site's SuperNode has for it.

    Attributes:
        message: The message.
        answer: Sends the reply; raises :class:`.site_grid.LinkLost` where the SuperNode is gone.
    """

    message: Message
    answer: Callable[[Message], None]


def next_tasks(address: str) -> Iterator[Task]:
    """What a SuperNode has for its site at the moment.

    Args:
        address: Host and port of its ClientAppIo API.

    Raises:
        LinkLost: The SuperNode is not there, or went away.
    """
    with _supernode(address), _channel(address, RuntimeVersionClientInterceptor(component_name="SuperExec")) as channel:
        stub = ClientAppIoStub(channel)
        for task in stub.PullPendingTasks(PullPendingTasksRequest()).tasks:
            token = stub.ClaimTask(ClaimTaskRequest(task_id=task.task_id)).token
            if token:
                with _claimed(address, token) as claimed:
                    yield claimed


def _beating(stub: Any) -> HeartbeatSender:
    """Signs of life, until they are stopped."""
    beat = make_task_heartbeat_fn_grpc(stub)

    def is_heard() -> bool:
        try:
            return beat()
        except grpc.RpcError:  # by itself it would end the thread with a traceback: whom it tells has started again, say
            return False

    sender = HeartbeatSender(is_heard)
    sender.start()
    return sender


def _words(error: grpc.RpcError) -> str:
    return f"{error.code().name}: {' '.join((error.details() or '').split())[:300]}"


@contextlib.contextmanager
def _supernode(address: str) -> Iterator[None]:
    """Say of gRPC's errors within the block that it was the SuperNode."""
    try:
        yield
    except grpc.RpcError as error:
        raise LinkLost(f"the SuperNode at {address} says {_words(error)}") from error


@contextlib.contextmanager
def _claimed(address: str, token: str) -> Iterator[Task]:
    interceptors = RuntimeVersionClientInterceptor(component_name="flwr-clientapp"), AppIoTokenClientInterceptor(token)
    with _channel(address, *interceptors) as channel:
        stub: Any = ClientAppIoStub(channel)
        heartbeat = _beating(stub)
        try:
            try:
                message, context, _, _ = pull_task_input(stub)  # the last one is code of the server, which stays unread
            except grpc.RpcError:
                raise
            except Exception as error:  # protobuf's own among them: whoever sends it ends no site
                raise LinkLost(f"the SuperNode at {address} gave a message that cannot be read ({one_line(error)})") from error

            def answer(reply: Message) -> None:
                with _supernode(address):
                    _answer(stub, reply, context)

            yield Task(message, answer)
        finally:
            heartbeat.stop()


def _answer(stub: Any, reply: Message, context: Context) -> None:
    push_message(stub, reply, context)
    push_task_output(stub=stub, context=context, sub_status=SubStatus.COMPLETED, details="")


def refused(message: Message, reason: str) -> Message:
    """An answer to what is no request of the plugin."""
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)


@contextlib.contextmanager
def _channel(
    address: str, *interceptors: grpc.UnaryUnaryClientInterceptor, most: int = GRPC_MAX_MESSAGE_LENGTH
) -> Iterator[grpc.Channel]:
    """A channel to an inner API, on this machine and without TLS, for messages of so many bytes at most."""
    channel = create_channel(address, insecure=True, max_message_length=most, interceptors=list(interceptors))
    try:
        yield channel
    finally:
        channel.close()
