"""What is around a message that goes to a site: a nonce, and signatures of both sides.

A node that is registered at Flower's SuperLink can answer in the name of another one (Flower 1.32). A reply counts only if
it is signed with the key that the recipe names for the site, over the nonce of this very request. The envelope is a record
of its own and never part of a request's digest: a site that is asked again signs the reply that it has kept once more.

A site answers nobody but its server: each request is signed with the key of the server's certificate, for this one site, and
the certificate has to be by the CA that the site was given. So whoever reaches the SuperLink's other interfaces, or the
SuperLink itself, can hold messages back, and not ask for anything.
"""

import datetime
import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Array, ConfigRecord, RecordDict

from ..errors import FcitError
from .arrays import LazyArray, digest_of

#: Name of the record, and the version of what is in it.
ENVELOPE, VERSION = "fcit-envelope", 1
NONCE, SIGNATURE, FAILURE, CERTIFICATE = "nonce", "signature", "failure", "certificate"
_LONGEST_NONCE = 200
#: Characters of a site's sentence about its failure that are taken over.
LONGEST_FAILURE = 2000

_SIGNS = ec.ECDSA(hashes.SHA384())


@dataclass(frozen=True)
class ServerSigner:
    """What a server signs with.

    Attributes:
        key: The private key of its certificate.
        certificate: The certificate, as PEM.
    """

    key: ec.EllipticCurvePrivateKey
    certificate: bytes


def sealed_request(content: RecordDict, kind: str, to: bytes, signer: ServerSigner) -> tuple[RecordDict, str]:
    """A request's records in a new signed envelope, and its nonce; the records themselves are those that were given.

    Args:
        content: The records.
        kind: Type of the message.
        to: The public key of the site, as Flower's SuperLink knows it.
        signer: The server.
    """
    nonce = secrets.token_hex(16)
    envelope = ConfigRecord({"version": VERSION, NONCE: nonce, CERTIFICATE: signer.certificate})
    envelope[SIGNATURE] = signer.key.sign(_signed("fcit-request", content, nonce, kind, to.hex()), _SIGNS)
    return RecordDict({**content, ENVELOPE: envelope}), nonce


def nonce_of(content: RecordDict) -> str:
    """The nonce of a request's envelope, whoever has made it.

    Raises:
        FcitError: It has no envelope of this version.
    """
    nonce = _envelope(content).get(NONCE)
    if not isinstance(nonce, str) or not 0 < len(nonce) <= _LONGEST_NONCE:
        raise FcitError("The request has no nonce; the server needs this version of fcit-plugin.")
    return nonce


def open_request(content: RecordDict, kind: str, to: bytes, ca: x509.Certificate) -> RecordDict:
    """The records of a request that is the server's.

    Args:
        content: What arrived.
        kind: Type of the message.
        to: The site's own public key.
        ca: The certificate of the CA that the server's has to be by.

    Raises:
        FcitError: It is not the server's request to this site; the sentence says why.
    """
    envelope, records, nonce = _envelope(content), _without(content), nonce_of(content)
    given, signature = envelope.get(CERTIFICATE), envelope.get(SIGNATURE)
    if not isinstance(given, bytes) or not isinstance(signature, bytes):
        raise FcitError("The request is not signed; the server needs this version of fcit-plugin.")
    try:
        certificate = x509.load_pem_x509_certificate(given)
        certificate.verify_directly_issued_by(ca)
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("a key of another kind")
        key.verify(signature, _signed("fcit-request", records, nonce, kind, to.hex()), _SIGNS)
    except (InvalidSignature, TypeError, ValueError) as error:
        raise FcitError(
            "The request is not signed for this site by a certificate of this site's CA (`fcit_certificate`); it is not the "
            "server's, or the server's certificate is another federation's."
        ) from error
    now = datetime.datetime.now(datetime.UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise FcitError(
            f"The server's certificate is valid from {certificate.not_valid_before_utc:%Y-%m-%d} to "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}, and this site's clock says {now:%Y-%m-%d}; renew the one, or set the "
            "other."
        )
    return records


def sealed_reply(content: RecordDict, nonce: str, kind: str, key: ec.EllipticCurvePrivateKey) -> RecordDict:
    """A reply's records, signed.

    Args:
        content: The records.
        nonce: Of the request.
        kind: Type of the request's message.
        key: The site's private key.
    """
    envelope = ConfigRecord({"version": VERSION, NONCE: nonce})
    envelope[SIGNATURE] = key.sign(_signed("fcit-reply", content, nonce, kind, None), _SIGNS)
    return RecordDict({**content, ENVELOPE: envelope})


def sealed_failure(reason: str, nonce: str, kind: str, key: ec.EllipticCurvePrivateKey) -> RecordDict:
    """What a site answers in place of a reply, signed like one: nobody else can say that it failed."""
    reason = reason[:LONGEST_FAILURE]  # a longer one would be refused for its length
    envelope = ConfigRecord({"version": VERSION, NONCE: nonce, FAILURE: reason})
    envelope[SIGNATURE] = key.sign(_signed("fcit-reply", RecordDict(), nonce, kind, reason), _SIGNS)
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
        key.verify(signature, _signed("fcit-reply", records, nonce, kind, failure), _SIGNS)
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


def _signed(what: str, content: RecordDict, nonce: str, kind: str, more: str | None) -> bytes:
    """What a signature is over: JSON of all that a message says, of each array its head and the digest of its data."""
    digests: dict[int, str] = {}  # equal arrays of a message that has come have one data, which is hashed once

    def digest(array: Array) -> str:
        if isinstance(array, LazyArray):  # whose data are new ones each time
            return digest_of(array).hex()
        if id(array.data) not in digests:
            digests[id(array.data)] = digest_of(array).hex()
        return digests[id(array.data)]

    arrays = [
        [name, [[key, array.dtype, list(array.shape), array.stype, digest(array)] for key, array in record.items()]]
        for name, record in sorted(content.array_records.items())
    ]
    records: dict[str, Any] = {**content.metric_records, **content.config_records}
    scalars = [
        [name, type(record).__name__, [[key, _plain(value)] for key, value in sorted(record.items())]]
        for name, record in sorted(records.items())
    ]
    said: list[Any] = [what, VERSION, nonce, kind, more, arrays, scalars]
    return hashlib.sha384(json.dumps(said).encode()).digest()


def _plain(value: Any) -> list[Any]:
    """A scalar or a list of them with its type: 1, 1.0 and True are three values."""
    if isinstance(value, list):
        return ["list", [_plain(each) for each in value]]
    return [type(value).__name__, value.hex() if isinstance(value, bytes | float) else value]
