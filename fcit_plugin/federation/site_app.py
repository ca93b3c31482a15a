"""What a site answers: a hello with what it has, everything else by its client app, as far as its policy allows it."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from flwr.app import Array, Context, Message, MessageType, RecordDict

from ..errors import FcitError, one_line
from .arrays import numbers_of
from .audit import Audit
from .client_states import ClientFolder
from .hello import KIND as HELLO_KIND
from .messages import ClientConfig, config_of, record_of
from .reply_cache import ClientApp, ReplyCache
from .secure_messages import STEP_OF
from .secure_site import SecureSite, refuse_sums
from .site_policy import SitePolicy

logger = logging.getLogger(__name__)


class SiteApp:
    """Answers requests whose envelope is off already.

    Args:
        app: The site's client app.
        keeping: Makes of it one that answers with the replies that the site has kept.
        policy: What the site allows.
        audit: Where each request is written down.
        folder: The site's own, for what it carries over from round to round.
        others: By type of message what answers it, beside queries and trainings: such as the hello.
        sums: Where the site has secure sums alone; it sends no update in another way then.
    """

    def __init__(
        self,
        app: ClientApp,
        keeping: Callable[[ClientApp], ReplyCache],
        policy: SitePolicy,
        audit: Audit,
        folder: Path,
        others: Mapping[str, Callable[[Message], RecordDict]],
        sums: SecureSite | None = None,
    ) -> None:
        self._client, self._app = app, keeping(self._counted)
        self._policy, self._audit, self._folder, self._others = policy, audit, folder, others
        self._sums = sums

    def __call__(self, kind: str, content: RecordDict) -> RecordDict:
        """The records of the reply.

        Args:
            kind: Type of the request's message.
            content: The request's records.

        Raises:
            FcitError: The site does not allow what is asked for, or has failed.
        """
        config, task, reply, refused, before = None, None, None, None, self._policy.trained
        try:
            try:
                config = config_of(Message(content, dst_node_id=0, message_type=MessageType.TRAIN))
            except (KeyError, TypeError) as error:
                raise FcitError(
                    f"The request has no configuration of this version of fcit-plugin ({one_line(error)})."
                ) from error
            names = list(self._policy.names)
            task = names[config.task] if 0 <= config.task < len(names) else None
            reply = self._answer(kind, config, content)
            return reply
        except Exception as error:  # whatever it is: it is written down, and whoever called says it to the server
            refused = one_line(error)
            raise
        finally:
            self._audit.write(kind, config, task, reply, refused, trained=self._policy.trained > before)

    def _answer(self, kind: str, config: ClientConfig, content: RecordDict) -> RecordDict:
        self._policy.check_number(config)
        if kind in self._others:
            return self._others[kind](Message(content, dst_node_id=config.client, message_type=HELLO_KIND))
        if self._sums is None:
            refuse_sums(content)
        if kind not in (MessageType.QUERY, MessageType.TRAIN, *(STEP_OF if self._sums is not None else ())):
            raise FcitError(f"A site answers no messages of the type {kind[:50]}.")
        self._policy.check(config)
        if self._sums is not None and kind in STEP_OF:
            return self._sums(kind, config, content, lambda plain: self._plain(kind, config, plain))
        return self._plain(kind, config, content)

    def _counted(self, message: Message, context: Context) -> Message:
        """What the client app answers where no kept reply does."""
        if message.metadata.message_type == MessageType.TRAIN:
            self._policy.count_training()
        return self._client(message, context)

    def _plain(self, kind: str, config: ClientConfig, content: RecordDict) -> RecordDict:
        request = Message(content, dst_node_id=config.client, message_type=kind)
        kept = ClientFolder(self._folder, config) if kind == MessageType.TRAIN else None
        state = RecordDict() if kept is None else kept.read()
        reply = self._app(request, Context(run_id=0, node_id=config.client, node_config={}, state=state, run_config={}))
        self._app.arrived(request, reply)
        if kept is not None and state:
            kept.write(state)
        return plain(reply.content)


def plain(content: RecordDict) -> RecordDict:
    """Records as Flower can send them: an array that is left in a file has a class that it does not know."""
    found = RecordDict(dict(content))
    for name, record in content.array_records.items():
        found[name] = record_of({key: Array(numbers_of(array)) for key, array in record.items()})
    return found
