"""A Flower grid without servers: clients run one after the other in this process."""

from collections.abc import Callable, Iterable

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity


def identify_process() -> None:
    """Tell Flower that this process is the server, as its runtimes do before the first message."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, SUPERLINK_NODE_ID


class InProcessGrid(Grid):
    """Calls the :class:`~flwr.clientapp.ClientApp` directly; node ids are the clients' numbers.

    Args:
        client_app: The app that every client runs. None makes a grid to sample from only, such as the view that
            one subspace's strategy has of the federation.
        node_ids: The clients' numbers.
        on_reply: Called with each request and its reply, for progress.
    """

    def __init__(
        self,
        client_app: ClientApp | None,
        node_ids: Iterable[int],
        on_reply: Callable[[Message, Message], None] = lambda request, reply: None,
    ) -> None:
        self._client_app = client_app
        self._node_ids = list(node_ids)
        self._on_reply = on_reply
        self._replies: dict[str, Message] = {}

    def set_run(self, run) -> None:
        """There is one run."""

    @property
    def run(self):
        """There is one run, without a record of it."""
        return None

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
        return [self._replies.pop(key) for key in message_ids if key in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Run the clients in the order of the messages and return their replies."""
        return [self._deliver(message) for message in messages]

    def _deliver(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        context = Context(run_id=0, node_id=node, node_config={}, state=RecordDict(), run_config={})
        reply = self._client_app(message, context)
        self._on_reply(message, reply)
        return reply
