"""The messages of the protocol: JSON of a version, typed and bounded; a client is its number, bytes are hexadecimal digits."""

from collections.abc import Mapping, Sequence
from typing import Annotated, TypeVar

from pydantic import Field
from typing_extensions import TypedDict

from ...schema import Count, Number, Sum

T = TypeVar("T")

#: The steps, in their order.
KEYS, SHARES, TRAIN, AGREE, UNMASK = STEPS = ("keys", "shares", "train", "agree", "unmask")
#: Name of the sum over all clients; that of a subspace is its number.
SHARED = "shared"
#: Clients of a round at most, and bytes of the longest signature.
_MOST_CLIENTS, _SIGNATURE = 1000, 200
#: Bytes of a sealed text: nonce, tag, and two shares of 32 bytes for each of two sums.
_SEALED = 12 + 16 + 2 * 2 * 32

ClientNumber = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,8})$")]
Name = Annotated[str, Field(pattern=r"^(shared|0|[1-9][0-9]{0,8})$")]
Signature = Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$", max_length=2 * _SIGNATURE)]
Share = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Sealed = Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$", max_length=2 * _SEALED)]
Clients = Annotated[list[Count], Field(max_length=_MOST_CLIENTS)]


class _Session(TypedDict):
    version: Count
    launch: Sum
    attempt: Count


class KeysRequest(_Session):
    """Asks for keys for these sums, and says which bounds the server holds to."""

    sums: Annotated[list[Name], Field(min_length=1, max_length=2)]
    least: Count
    largest: Number
    most_examples: Count


class PublicKeys(TypedDict):
    """A client's public keys: for sealed texts, and for each sum; and its signature over them."""

    seal: Sum
    sums: Annotated[dict[Name, Sum], Field(min_length=1, max_length=2)]
    signature: Signature


class KeysReply(PublicKeys):
    """The keys of the one who was asked."""

    version: Count


class SharesRequest(_Session):
    """The keys of all clients that the receiver has a sum with, and the clients of each of its sums."""

    keys: Annotated[dict[ClientNumber, PublicKeys], Field(max_length=_MOST_CLIENTS)]
    rosters: Annotated[dict[Name, Clients], Field(min_length=1, max_length=2)]


class SharesReply(TypedDict):
    """Sealed shares for each other client, and the digest of the self mask of each sum."""

    version: Count
    sealed: Annotated[dict[ClientNumber, Sealed], Field(max_length=_MOST_CLIENTS)]
    masks: Annotated[dict[Name, Sum], Field(min_length=1, max_length=2)]


class TrainRequest(_Session):
    """What goes with the weights: the shares of the others."""

    sealed: Annotated[dict[ClientNumber, Sealed], Field(max_length=_MOST_CLIENTS)]


class AgreeRequest(_Session):
    """Those whose masked updates have arrived."""

    survivors: Clients


class AgreeReply(TypedDict):
    """The signature over the survivors."""

    version: Count
    signature: Signature


class UnmaskRequest(AgreeRequest):
    """The survivors, and the signatures over their list."""

    signatures: Annotated[dict[ClientNumber, Signature], Field(max_length=_MOST_CLIENTS)]


class UnmaskReply(TypedDict):
    """For each sum that may be opened a share of every client's: of a survivor's self mask, of another's key."""

    version: Count
    shares: Annotated[
        dict[Name, Annotated[dict[ClientNumber, Share], Field(max_length=_MOST_CLIENTS)]], Field(min_length=1, max_length=2)
    ]


#: The form of each step's request and of its reply; masked updates are arrays.
REQUESTS: Mapping[str, type] = {
    KEYS: KeysRequest,
    SHARES: SharesRequest,
    TRAIN: TrainRequest,
    AGREE: AgreeRequest,
    UNMASK: UnmaskRequest,
}
REPLIES: Mapping[str, type] = {KEYS: KeysReply, SHARES: SharesReply, AGREE: AgreeReply, UNMASK: UnmaskReply}


def numbers(clients: Mapping[str, T]) -> dict[int, T]:
    """Values by client, ascending."""
    return dict(sorted((int(client), value) for client, value in clients.items()))


def texts(values: Mapping[int, T]) -> dict[str, T]:
    """The same as JSON has it."""
    return {str(client): value for client, value in sorted(values.items())}


def is_ordered(clients: Sequence[int]) -> bool:
    """Whether each client is there once, ascending: a list of clients has one form."""
    return list(clients) == sorted(set(clients))
