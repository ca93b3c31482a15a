"""Masks: AES-256 in counter mode from keys that are of one session and one sum, and never used for anything else."""

import hashlib
import json
from collections.abc import Iterator, Sequence

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

#: Numbers that are masked at a time: a mask is never there whole.
BLOCK = 2**18


def digest(*parts: bytes | str | int | Sequence[int]) -> bytes:
    """SHA-256 over some values, of which no two lists have one encoding."""
    plain = [
        {"bytes": part.hex()} if isinstance(part, bytes) else part if isinstance(part, str | int) else list(part)
        for part in parts
    ]
    return hashlib.sha256(json.dumps(plain).encode()).digest()


def derived(secret: bytes, info: bytes) -> bytes:
    """A key of 32 bytes for one purpose."""
    return HKDF(hashes.SHA256(), 32, None, info).derive(secret)


def new_private() -> bytes:
    """A private key of X25519."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_of(private: bytes) -> bytes:
    """The public key of a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agreed_key(private: bytes, public: bytes, info: bytes) -> bytes:
    """The key that two parties have for one purpose, each from its own private key and the other's public one.

    Raises:
        ValueError: The public key is none that a private key has.
    """
    secret = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    return derived(secret, info)


def pair_info(session: str, name: str, present: Sequence[int], sent: bytes) -> bytes:
    """What a pair's mask is bound to: session, sum, the clients in it, and what all of them were sent."""
    return digest("pair", session, name, sorted(present), sent)


def self_info(session: str, name: str) -> bytes:
    """What a self mask is bound to."""
    return digest("self", session, name)


def apply_mask(numbers: np.ndarray, key: bytes, *, add: bool) -> None:
    """Add a key's mask to numbers mod 2^32, or take it off, in place.

    Args:
        numbers: uint32 [n].
        key: 32 bytes that have masked nothing else.
        add: Whether it is added.
    """
    for start, mask in _mask(key, len(numbers)):
        block = numbers[start : start + len(mask)]
        (np.add if add else np.subtract)(block, mask, out=block)


def _mask(key: bytes, count: int) -> Iterator[tuple[int, np.ndarray]]:
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    for start in range(0, count, BLOCK):
        length = min(BLOCK, count - start)
        yield start, np.frombuffer(stream.update(bytes(4 * length)), "<u4")
