"""Key pairs: how they are made and written, and what is wrong with the file of one.

A site's key is on the curve P-384 and in OpenSSH's form without a passphrase: Flower's SuperNode takes no other. Those of
the operator's certificates are in PKCS #8's form.
"""

import base64
import hashlib
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)

from ..errors import FcitError
from ..files import opened, private_bytes, write_bytes

#: Bytes that the file of a key, or of a certificate, may have.
LONGEST = 100_000
#: What loading a key may raise: a TypeError for one with a passphrase, a NotImplementedError for a compressed point.
_NO_KEY = (TypeError, ValueError, NotImplementedError, UnsupportedAlgorithm)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A new private key on the curve P-384."""
    return ec.generate_private_key(ec.SECP384R1())


def write_private_key(path: Path, key: ec.EllipticCurvePrivateKey, form: PrivateFormat = PrivateFormat.OpenSSH) -> None:
    """Write a private key that nobody else may read (mode 600), without a passphrase."""
    write_bytes(path, key.private_bytes(Encoding.PEM, form, NoEncryption()), mode=0o600)


def public_line(key: ec.EllipticCurvePublicKey, comment: str = "") -> bytes:
    """A public key as the line of a ``.pub`` file."""
    line = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return line + (f" {comment}\n" if comment else "\n").encode()


def fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """A public key's SHA-256 as ``ssh-keygen -l`` shows it: what two people compare by telephone."""
    blob = base64.b64decode(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def read_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A site's private key.

    Raises:
        FcitError: The file is missing, others may read or write it, it has a passphrase or another form, is on another curve,
            or is no private key.
    """
    remedy = "make a key with `fcit-cli site init`, or put the site's own back"
    content = private_bytes(path, "the private key", LONGEST, remedy)
    try:
        key = load_ssh_private_key(content, None)
    except _NO_KEY as error:
        raise FcitError(f"{path} {_why_no_ssh_key(content, error)}; {remedy}.") from error
    return _on_our_curve(key, path, remedy)


def read_pem_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The private key of one of the operator's certificates; errors are those of :func:`read_private_key`."""
    remedy = "put the file back that `fcit-cli deploy init` has written, from a backup"
    content = private_bytes(path, "the private key", LONGEST, remedy)
    try:
        key = load_pem_private_key(content, None)
    except _NO_KEY as error:
        what = "has a passphrase" if isinstance(error, TypeError) else "is not a private key"
        raise FcitError(f"{path} {what}; {remedy}.") from error
    return _on_our_curve(key, path, remedy)


def read_public_key(path: Path, name: str) -> ec.EllipticCurvePublicKey:
    """A site's public key.

    Args:
        path: A file with one line in OpenSSH's form.
        name: The site's name, for the sentence.

    Raises:
        FcitError: The file is missing, is a private key, holds none or several, or one on another curve.
    """
    with opened(path, LONGEST, f"ask site {name} for its public key") as file:
        content = file.read()
    if b"PRIVATE KEY-----" in content:
        raise FcitError(
            f"{path} is a private key, which nobody but site {name} may ever have; "
            "let the site make a new one, and give its .pub file."
        )
    if b"\n" in content.strip():
        raise FcitError(f"{path} has several lines where site {name} has one public key; give the .pub file that it has made.")
    try:
        key = load_ssh_public_key(content)
    except _NO_KEY as error:
        raise FcitError(f"{path} is not a public key of site {name}; give the .pub file that the site has made.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise FcitError(f"{path}, the key of site {name}, is not on the curve P-384; let the site make a new one.")
    return key


def _why_no_ssh_key(content: bytes, error: Exception) -> str:
    if isinstance(error, TypeError):
        return "has a passphrase, which Flower's SuperNode cannot ask for"
    if content.startswith((b"ecdsa-", b"ssh-")):
        return "is a public key, not the private one"
    if b"PRIVATE KEY-----" in content and b"OPENSSH" not in content:
        return "is a private key in another form than OpenSSH's, which alone Flower's SuperNode takes"
    return "is not a private key"


def _on_our_curve(key: object, path: Path, remedy: str) -> ec.EllipticCurvePrivateKey:
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise FcitError(f"{path} is not a key on the curve P-384; {remedy}.")
    return key
