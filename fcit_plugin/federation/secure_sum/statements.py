"""What sites sign: their keys, and the list of survivors. A site's key is the one that the recipe names for it."""

from collections.abc import Mapping, Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from .masks import digest

_SIGNS = ec.ECDSA(hashes.SHA384())


def session_of(run: str, launch: str, stage: int, round: int, attempt: int) -> str:
    """What tells one session from every other, as hexadecimal digits.

    Args:
        run: The run.
        launch: Drawn by each of the server's processes.
        stage: Stage.
        round: Round.
        attempt: How often the round was begun before in this process.
    """
    return digest("session", run, launch, stage, round, attempt).hex()


def keys_statement(session: str, client: int, seal: str, sums: Mapping[str, str]) -> bytes:
    """What a client signs of its public keys."""
    return digest("keys", session, client, seal, *(part for pair in sorted(sums.items()) for part in pair))


def survivors_statement(session: str, survivors: Sequence[int]) -> bytes:
    """What a client signs of the survivors."""
    return digest("survivors", session, survivors)


def signed(key: ec.EllipticCurvePrivateKey, statement: bytes) -> str:
    """A signature, as hexadecimal digits."""
    return key.sign(statement, _SIGNS).hex()


def is_signed(key: ec.EllipticCurvePublicKey | None, statement: bytes, signature: str) -> bool:
    """Whether a signature is by this key; None: nobody's."""
    if key is None:
        return False
    try:
        key.verify(bytes.fromhex(signature), statement, _SIGNS)
    except InvalidSignature:
        return False
    return True
