"""A site's part in secure sums: between its messages and :class:`.secure_sum.site.SiteSums`."""

from collections.abc import Callable

from flwr.app import Message, MessageType, RecordDict

from ..errors import FcitError
from .messages import ClientConfig
from .secure_messages import (
    STEP_OF,
    SUMS,
    digests_of_sent,
    masked_reply,
    text_in,
    text_reply,
    update_in,
    without_text,
)
from .secure_sum.parts import Place, Update
from .secure_sum.site import SiteSums
from .secure_sum.texts import AGREE, KEYS, SHARES, TRAIN, UNMASK


class SecureSite:
    """Answers the steps of a session, and trains for masked replies alone.

    Args:
        sums: The site's part of the protocol.
    """

    def __init__(self, sums: SiteSums) -> None:
        self._sums = sums
        self._answers: dict[str, Callable[[Place, str], str]] = {
            KEYS: sums.keys,
            SHARES: sums.shares,
            AGREE: sums.agree,
            UNMASK: sums.unmask,
        }

    def __call__(
        self, kind: str, config: ClientConfig, content: RecordDict, train: Callable[[RecordDict], RecordDict]
    ) -> RecordDict:
        """The records of the reply.

        Args:
            kind: Type of the request's message, one of :data:`.secure_messages.STEP_OF`.
            config: Its configuration.
            content: Its records.
            train: Gives the plain reply to a training.

        Raises:
            FcitError: The site does not answer this (again); the sentence says why.
        """
        text, step = text_in(content), STEP_OF[kind]
        if not isinstance(text, str):
            raise FcitError("This site sends masked updates alone (`fcit_secure_sum`), and the request is for another one.")
        place = Place(config.run, config.stage, config.round)
        if config.client != self._sums.client:
            raise FcitError(f"The request is for client {config.client}; in `fcit_sites` this site is {self._sums.client}.")
        if step != TRAIN:
            return text_reply(content, self._answers[step](place, text))
        plain = without_text(content)
        request = Message(plain, dst_node_id=config.client, message_type=MessageType.TRAIN)

        def trained() -> Update:
            return update_in(Message(train(plain), reply_to=request), request)

        return masked_reply(content, self._sums.train(place, text, digests_of_sent(request), trained))


def refuse_sums(content: RecordDict) -> None:
    """Refuse a request for masked updates at a site that does not have them."""
    if SUMS in content:
        raise FcitError("The request is for secure sums, and this site's recipe has no `fcit_secure_sum: true`.")
