"""What is around a message that goes to a site: a nonce that each request draws, and the site's signature over its reply.

A node that is registered at Flower's SuperLink can answer in the name of another one (Flower 1.32). A reply counts only if
it is signed with the key that the recipe names for the site, over the nonce of this very request. The envelope is a record
of its own and never part of a request's digest: a site that is asked again signs the reply that it has kept once more.
"""

import hashlib
import json
import secrets
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import ConfigRecord, RecordDict

from ..errors import FcitError
from .arrays import digest_of

#: Name of the record, and the version of what is in it.
ENVELOPE, VERSION = "fcit-envelope", 1
NONCE, SIGNATURE, FAILURE = "nonce", "signature", "failure"
#: Characters of a site's sentence about its failure that are taken over.
LONGEST_FAILURE = 2000

_SIGNS = ec.ECDSA(hashes.SHA384())


def sealed_request(content: RecordDict) -> tuple[RecordDict, str]:
    """A request's records in a new envelope, and its nonce; the records themselves are those that were given."""
    nonce = secrets.token_hex(16)
    return RecordDict({**content, ENVELOPE: ConfigRecord({"version": VERSION, NONCE: nonce})}), nonce


def open_request(content: RecordDict) -> tuple[RecordDict, str]:
    """The records of a request, and the nonce of its envelope.

    Raises:
        FcitError: It has no envelope of this version.
    """
    envelope = _envelope(content)
    nonce = envelope.get(NONCE)
    if not isinstance(nonce, str) or not nonce:
        raise FcitError("The request has no nonce; the server needs this version of fcit-plugin.")
    return _without(content), nonce


def sealed_reply(content: RecordDict, nonce: str, kind: str, key: ec.EllipticCurvePrivateKey) -> RecordDict:
    """A reply's records, signed.

    Args:
        content: The records.
        nonce: Of the request.
        kind: Type of the request's message.
        key: The site's private key.
    """
    envelope = ConfigRecord({"version": VERSION, NONCE: nonce})
    envelope[SIGNATURE] = key.sign(_signed(content, nonce, kind, None), _SIGNS)
    return RecordDict({**content, ENVELOPE: envelope})


def sealed_failure(reason: str, nonce: str, kind: str, key: ec.EllipticCurvePrivateKey) -> RecordDict:
    """What a site answers in place of a reply, signed like one: nobody else can say that it failed."""
    envelope = ConfigRecord({"version": VERSION, NONCE: nonce, FAILURE: reason})
    envelope[SIGNATURE] = key.sign(_signed(RecordDict(), nonce, kind, reason), _SIGNS)
    return RecordDict({ENVELOPE: envelope})


def open_reply(content: RecordDict, nonce: str, kind: str, key: ec.EllipticCurvePublicKey) -> tuple[RecordDict, str | None]:
    """The records of a reply, and the site's sentence where it failed instead.

    Args:
        content: What arrived.
        nonce: Of the request.
        kind: Type of the request's message.
        key: The site's public key.

    Raises:
        FcitError: It is not the site's answer to this request.
    """
    envelope, records = _envelope(content), _without(content)
    signature, failure = envelope.get(SIGNATURE), envelope.get(FAILURE)
    if envelope.get(NONCE) != nonce:
        raise FcitError("it answers another request")
    if not isinstance(signature, bytes) or not isinstance(failure, str | None):
        raise FcitError("it is not signed")
    try:
        key.verify(signature, _signed(records, nonce, kind, failure), _SIGNS)
    except InvalidSignature as error:
        raise FcitError("its signature is not by the key that the recipe names") from error
    return (records, None) if failure is None else (RecordDict(), failure[:LONGEST_FAILURE])


def _envelope(content: RecordDict) -> ConfigRecord:
    envelope = content.get(ENVELOPE)
    if not isinstance(envelope, ConfigRecord):
        raise FcitError("it has no envelope")
    if envelope.get("version") != VERSION:
        raise FcitError(f"its envelope is of version {str(envelope.get('version'))[:20]}, not {VERSION}")
    return envelope


def _without(content: RecordDict) -> RecordDict:
    return RecordDict({name: record for name, record in content.items() if name != ENVELOPE})


def _signed(content: RecordDict, nonce: str, kind: str, failure: str | None) -> bytes:
    """What a signature is over: JSON of all that a reply says, of each array its head and the digest of its data."""
    arrays = [
        [name, [[key, array.dtype, list(array.shape), array.stype, digest_of(array).hex()] for key, array in record.items()]]
        for name, record in sorted(content.array_records.items())
    ]
    records: dict[str, Any] = {**content.metric_records, **content.config_records}
    scalars = [
        [name, type(record).__name__, [[key, _plain(value)] for key, value in sorted(record.items())]]
        for name, record in sorted(records.items())
    ]
    said: list[Any] = ["fcit-reply", VERSION, nonce, kind, failure, arrays, scalars]
    return hashlib.sha384(json.dumps(said).encode()).digest()


def _plain(value: Any) -> list[Any]:
    """A scalar or a list of them with its type: 1, 1.0 and True are three values."""
    if isinstance(value, list):
        return ["list", [_plain(each) for each in value]]
    return [type(value).__name__, value.hex() if isinstance(value, bytes | float) else value]
