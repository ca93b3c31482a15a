"""A Flower grid without servers: clients run one after the other in this process."""

import logging
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from flwr.app import Context, Error, Message, MessageType, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from ..errors import FcitError, OutOfMemory, one_line
from ..plugins import blame, manager
from .client_states import ClientStates
from .failures import PROGRAMMERS, is_clients, naming_memory
from .messages import CONFIG, config_of

T = TypeVar("T")

logger = logging.getLogger(__name__)

_GOES_ON = "Started again, the run goes on from the last reply that it has kept."


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
        node = message.metadata.dst_node_id
        state = self._states.of(node)
        replies, failure = tried(
            message, lambda: arriving(message, ask(self._client_app, message, state)), self._timeout, self._clock
        )
        return self._hand_over(message, replies or [], self._agree(failure), state)

    def _hand_over(self, message: Message, replies: list[Message], failure: str | None, state: RecordDict) -> list[Message]:
        """Keep what the client keeps, and let whoever waits for replies see those to a message."""
        if failure is not None:
            replies = [Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, failure), reply_to=message)]
        else:
            self._states.keep(message.metadata.dst_node_id, state)
        for reply in replies:
            self._on_reply(message, reply)
        return replies


def tried(
    message: Message,
    answer: Callable[[], T],
    timeout: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[T | None, str | None]:
    """What a client answers, and its failure if it does not.

    What is not the client's failure (:mod:`.failures`) ends the run, at once and without waiting for other processes:
    they may wait for this one in the middle of a step, and end when it does.

    Args:
        message: What it is asked.
        answer: Asks it.
        timeout: Seconds after which the answer comes too late, None for no limit.
        clock: Tells the time in seconds.
    """
    start = clock()
    try:
        found = answer()
    except Exception as error:
        if not is_clients(error):
            blamed = blame(error)
            if isinstance(error, PROGRAMMERS) and blamed is not None:
                raise FcitError(blamed) from error
            met = f"This was met in {_work(message)}, and is no failure of the client's. "
            error.add_note(f"{'' if isinstance(error, OutOfMemory) else met}{_GOES_ON}")
            raise
        logger.debug(f"Client {message.metadata.dst_node_id} failed.", exc_info=True)
        return None, one_line(error)
    return found, timeout_message(timeout) if timeout is not None and clock() - start > timeout else None


def _work(message: Message) -> str:
    """What a message asks for, in words."""
    asked = "the identity token" if message.metadata.message_type == MessageType.QUERY else "the training"
    when = ""
    if CONFIG in message.content:
        config = config_of(message)
        when = f" in stage {config.stage}, round {config.round}"
    return f"{asked} of client {message.metadata.dst_node_id}{when}"


def _memory(message: Message) -> str:
    """What makes memory enough for what a message asks for."""
    if message.metadata.message_type == MessageType.QUERY:
        return "Free some, or take a smaller `fcit_identity_encoder`."
    return (
        "Halve `per_device_train_batch_size` and double `gradient_accumulation_steps`; a smaller `cutoff_len`, "
        "`image_max_pixels` or `lora_rank` helps, too, and makes it another run."
    )


def ask(client_app: Callable[[Message, Context], Message] | None, message: Message, state: RecordDict) -> Message:
    """Call a client app; what it raises is the caller's to handle (:func:`.failures.is_clients`).

    Args:
        client_app: The app.
        message: What it is asked.
        state: What the client keeps to itself; changed in place.
    """
    if client_app is None:
        raise RuntimeError("A grid to sample from has no clients to ask.")
    node = message.metadata.dst_node_id
    with naming_memory(_work(message), _memory(message)):
        return client_app(message, Context(run_id=0, node_id=node, node_config={}, state=state, run_config={}))


def arriving(request: Message, reply: Message | None) -> list[Message]:
    """What arrives of a client's reply, if somebody plays with it (hook ``fcit_intercept_reply``).

    Raises:
        FcitError: The client answered with something else than a message.
    """
    if not isinstance(reply, Message | None):
        raise FcitError(f"it answered with a {type(reply).__name__}, which is not a message")
    intercepted = manager().hook.fcit_intercept_reply(request=request, reply=reply)
    if intercepted is not None:
        return list(intercepted)
    return [] if reply is None else [reply]


def timeout_message(timeout: float) -> str:
    """What is said of a client that takes too long."""
    return f"it took longer than {timeout:g} s (`fcit_client_timeout`)"
