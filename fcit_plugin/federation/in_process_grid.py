"""A Flower grid without servers: clients run one after the other in this process."""

import logging
import time
from collections.abc import Callable, Iterable

from flwr.app import Context, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from ..errors import FcitError
from ..plugins import blame, manager
from .client_states import ClientStates

logger = logging.getLogger(__name__)


#: What a mistake in a plugin's code raises, and data or a machine hardly ever do.
PROGRAMMERS = (AttributeError, ImportError, NameError, NotImplementedError, TypeError)


class InProcessGrid(Grid):
    """Calls the :class:`~flwr.clientapp.ClientApp` directly; node ids are the clients' numbers.

    Args:
        client_app: The app that every client runs. None makes a grid to sample from only, such as the view that
            one subspace's strategy has of the federation.
        node_ids: The clients' numbers.
        on_reply: Called with each request and each reply that arrives, for progress.
        timeout: Seconds after which an answer comes too late, None for no limit.
        states: What the clients keep to themselves, None: nothing as yet.
        agree: Makes of this process's failure (None: it went well) the one that all processes of the run hold to.
        clock: Tells the time in seconds.
    """

    def __init__(
        self,
        client_app: Callable[[Message, Context], Message] | None,
        node_ids: Iterable[int],
        on_reply: Callable[[Message, Message], None] = lambda request, reply: None,
        *,
        timeout: float | None = None,
        states: ClientStates | None = None,
        agree: Callable[[str | None], str | None] = lambda failure: failure,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client_app = client_app
        self._node_ids = list(node_ids)
        self._on_reply = on_reply
        self._timeout = timeout
        self._states = states or ClientStates()
        self._agree = agree
        self._clock = clock
        self._replies: dict[str, list[Message]] = {}

    def set_run(self, run: object) -> None:
        """There is one run."""

    @property
    def run(self) -> None:  # type: ignore[override]  # there is one run, without a record of it
        """See :class:`flwr.serverapp.Grid`."""

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """See :class:`flwr.serverapp.Grid`."""
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> Iterable[int]:
        """The clients' numbers."""
        return list(self._node_ids)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Run the clients; their replies wait to be pulled."""
        ids = []
        for number, message in enumerate(messages):
            key = f"{message.metadata.dst_node_id}-{number}"
            self._replies[key] = self._deliver(message)
            ids.append(key)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to pushed messages."""
        return [reply for key in message_ids for reply in self._replies.pop(key, [])]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Run the clients in the order of the messages and return the replies that arrive."""
        return [reply for message in messages for reply in self._deliver(message)]

    def _deliver(self, message: Message) -> list[Message]:
        """The replies that arrive: mostly one. A client that fails says so, as with Flower's own runtimes."""
        if self._client_app is None:
            raise RuntimeError("A grid to sample from has no clients to ask.")
        node, replies, failure, start = message.metadata.dst_node_id, [], None, self._clock()
        state = self._states.of(node)
        try:
            replies = arriving(message, ask(self._client_app, message, state))
        except Exception as error:  # here trust ends: whatever one client's code raises, the others go on
            blamed = blame(error)
            if isinstance(error, PROGRAMMERS) and blamed is not None:
                raise FcitError(blamed) from error  # no client can help it: every one of them would fail so
            logger.debug(f"Client {node} failed.", exc_info=True)
            said = isinstance(error, (ValueError, TimeoutError))
            failure = str(error) if said else blamed or f"{type(error).__name__}: {error}"
        if failure is None and self._timeout is not None and self._clock() - start > self._timeout:
            failure = timeout_message(self._timeout)
        failure = self._agree(failure)
        if failure is not None:
            replies = [Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, failure), reply_to=message)]
        else:
            self._states.keep(node, state)
        for reply in replies:
            self._on_reply(message, reply)
        return replies


def ask(client_app: Callable[[Message, Context], Message], message: Message, state: RecordDict) -> Message:
    """Call a client app; what it raises is the caller's to handle.

    Args:
        client_app: The app.
        message: What it is asked.
        state: What the client keeps to itself; changed in place.
    """
    node = message.metadata.dst_node_id
    return client_app(message, Context(run_id=0, node_id=node, node_config={}, state=state, run_config={}))


def arriving(request: Message, reply: Message | None) -> list[Message]:
    """What arrives of a client's reply, if somebody plays with it (hook ``fcit_intercept_reply``).

    Raises:
        TypeError: The client answered with something else than a message.
    """
    if not isinstance(reply, Message | None):
        raise TypeError(f"it answered with a {type(reply).__name__}, which is not a message")
    intercepted = manager().hook.fcit_intercept_reply(request=request, reply=reply)
    if intercepted is not None:
        return list(intercepted)
    return [] if reply is None else [reply]


def timeout_message(timeout: float) -> str:
    """What is said of a client that takes too long."""
    return f"it took longer than {timeout:g} s (`fcit_client_timeout`)"
