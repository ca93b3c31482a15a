"""Shares of secrets (Shamir 1979, over GF(2^128), by pycryptodome), and how they travel: sealed for one client by another."""

import os
from collections.abc import Callable, Mapping
from itertools import combinations, islice

from Crypto.Protocol.SecretSharing import Shamir
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ...errors import FcitError

#: Bytes of a secret and of each of its shares; pycryptodome shares 16 at a time.
SECRET = 32
_CHUNK, _NONCE = 16, 12
#: Sets of shares that are tried to find a secret, where some share is false.
_MOST_TRIES = 500


def threshold(clients: int) -> int:
    """t, how many of a sum's shares give a secret: more than half, so that no two sets of t are apart.

    Else a server could be given both the self mask and the pair keys of one client, by two halves that it tells different
    lists of survivors.
    """
    return clients // 2 + 1


def fewest(clients: int, least: int) -> int:
    """The clients of a sum that have to stay.

    Args:
        clients: How many of them exchanged keys.
        least: k, of which no sum may have fewer.
    """
    return max(least, threshold(clients))


def split(secret: bytes, clients: int) -> list[bytes]:
    """A share of a secret of 32 bytes for each client, in their order."""
    parts = [Shamir.split(threshold(clients), clients, secret[at : at + _CHUNK], ssss=False) for at in (0, _CHUNK)]
    return [first + second for (_, first), (_, second) in zip(*parts, strict=True)]


def combined(shares: Mapping[int, bytes], clients: int, is_right: Callable[[bytes], bool]) -> bytes | None:
    """The secret of some shares, None where they do not give it.

    Args:
        shares: By the place of their client in the sum, from 0.
        clients: How many shares were made.
        is_right: Whether it is the one.
    """
    for places in islice(combinations(sorted(shares), threshold(clients)), _MOST_TRIES):
        secret = b"".join(
            bytes(Shamir.combine([(place + 1, shares[place][at : at + _CHUNK]) for place in places], ssss=False))
            for at in (0, _CHUNK)
        )
        if is_right(secret):
            return secret
    return None


def sealed(key: bytes, text: bytes, about: bytes) -> bytes:
    """A text that only who has the key can read, and nobody else can have written.

    Args:
        key: 32 bytes, of two clients in one session.
        text: The text.
        about: What it is bound to: session, sender, receiver.
    """
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, text, about)


def unsealed(key: bytes, message: bytes, about: bytes, length: int) -> bytes:
    """What :func:`sealed` was given.

    Raises:
        FcitError: It was changed on its way, or is of another length.
    """
    try:
        text = AESGCM(key).decrypt(message[:_NONCE], message[_NONCE:], about)
    except (InvalidTag, ValueError) as error:
        raise FcitError("it was changed on its way") from error
    if len(text) != length:
        raise FcitError(f"it has {len(text)} bytes, not {length}")
    return text
