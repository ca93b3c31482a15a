"""Where noise comes from: the recipe's seed, which is right for simulations and protects nobody, or a secret.

Noise from a secret is exact (:mod:`.discrete_gaussian`). It is added to whole numbers of steps of 2**-26 of its standard
deviation: what a client sends is cut off to such steps, toward 0, so that it has no larger norm than before. All that is
computed from the noisy sum is computed after that, and tells no more. Each sum has a ChaCha20 key of its own, derived by HKDF
from the secret, what the noise is for, where (stage, round and subspace; client and task), the tensor's name and the noise's
standard deviation: the same whole numbers at two deviations would be two equations for what they hide.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..arguments import FcitArguments
from ..scenario.streams import Stream, generator
from .discrete_gaussian import SIGMA, discrete_gaussian, key_stream

#: Share of a norm that is left free for what float64 rounds off: what is cut off to whole steps then has that norm, exactly.
MARGIN = 2.0**-40
_SALT = b"fcit-plugin noise 2"


class NoisySum(Protocol):
    """Adds noise to the tensors of one sum."""

    def mean(self, name: str, values: Sequence[np.ndarray], start: np.ndarray, deviation: float) -> np.ndarray:
        """The noisy mean of arrays.

        Args:
            name: Name of the tensor, and of what is summed up where others might be at the same place; each has its turn once.
            values: What is summed up, float [...] each.
            start: What each of them moved away from, which is no secret; of the same shape.
            deviation: Standard deviation of the noise on each number of the sum.

        Returns:
            float64 of the same shape.
        """
        ...


class Noise(Protocol):
    """Gaussian noise for every sum of a run.

    Attributes:
        exact: Whether it is exact on whole numbers of steps, so that norms have to be bounded exactly too.
    """

    @property
    def exact(self) -> bool: ...  # noqa: D102

    def at(self, stream: Stream, *where: int) -> NoisySum:
        """The noise of one sum: the same whenever, and in whichever process, it is asked for.

        Args:
            stream: What it is for.
            where: Its coordinates.
        """
        ...


@dataclass(frozen=True)
class SimulatedNoise:
    """Noise that everyone can draw who knows the seed.

    Attributes:
        seed: 0 or more.
    """

    seed: int
    exact = False

    def at(self, stream: Stream, *where: int) -> NoisySum:
        """See :class:`Noise`."""
        return _SimulatedSum(generator(self.seed, stream, *where))


@dataclass(frozen=True)
class _SimulatedSum:
    drawn: np.random.Generator

    def mean(self, name: str, values: Sequence[np.ndarray], start: np.ndarray, deviation: float) -> np.ndarray:
        mean = np.asarray(np.mean(values, axis=0, dtype=np.float64))
        return mean + self.drawn.normal(0.0, deviation / len(values), mean.shape)


@dataclass(frozen=True, repr=False)
class SecretNoise:
    """Noise that nobody can draw without the secrets.

    Attributes:
        updates: Secret of the noise on updates.
        tokens: Secret of the noise on identity tokens.
    """

    updates: bytes
    tokens: bytes
    exact = True

    @classmethod
    def of_number(cls, number: str) -> "SecretNoise":
        """Noise from a number that the user has given."""
        return cls(b"number " + number.encode(), b"number " + number.encode())

    def at(self, stream: Stream, *where: int) -> NoisySum:
        """See :class:`Noise`."""
        return _SecretSum({Stream.UPDATE_NOISE: self.updates, Stream.TOKEN_NOISE: self.tokens}[stream], (int(stream), *where))


@dataclass(frozen=True, repr=False)
class _SecretSum:
    secret: bytes
    where: tuple[int, ...]

    def mean(self, name: str, values: Sequence[np.ndarray], start: np.ndarray, deviation: float) -> np.ndarray:
        step = deviation / SIGMA  # which is a power of 2
        total = np.zeros(start.shape, np.int64)
        for value in values:
            total += np.trunc((value.astype(np.float64) - start) / step).astype(np.int64)
        total += discrete_gaussian(key_stream(self.key(name, deviation)), total.size).reshape(total.shape)
        noisy: np.ndarray = start + total * (step / len(values))
        return noisy

    def key(self, name: str, deviation: float) -> bytes:
        """The ChaCha20 key of a tensor's noise of a standard deviation, 32 bytes."""
        info = json.dumps([*self.where, name, deviation.hex()]).encode()  # no two places have the same
        return HKDF(SHA256(), 32, _SALT, info).derive(self.secret)


def noise_without_file(args: FcitArguments, seed: int) -> Noise:
    """The noise of a recipe whose secret is in no file: a number, or none at all.

    Args:
        args: The recipe's fcit keys.
        seed: Seed of the run.
    """
    assert args.fcit_dp_secret != "auto"  # which comes from a file, or not at all
    return SimulatedNoise(seed) if args.fcit_dp_secret is None else SecretNoise.of_number(args.fcit_dp_secret)
