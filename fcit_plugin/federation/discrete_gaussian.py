"""Exact noise: the discrete Gaussian on the whole numbers, drawn from a ChaCha20 key stream.

A Gaussian in floating-point numbers is none: which of them can come up, and with which last bits, tells about the number that
the noise was added to (Mironov 2012, "On significance of the least significant bits for differential privacy"). The discrete
Gaussian of Canonne, Kamath and Steinke 2020 (arXiv 2004.00010) has P(y) proportional to exp(-y^2 / (2 sigma^2)) on all whole
numbers y; added to whole numbers it has the Renyi divergences of the continuous one (their theorem 14), so that the accounting
holds as it is.

None of the libraries that the plugin stands on draws it from a stream that it is given: dp-accounting adds up alone, OpenDP
takes its random numbers from the operating system. So it is drawn here, with whole numbers alone: the bits are the same on
every machine, whatever its libraries make of exp and log.
"""

from bisect import bisect_right
from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

#: Standard deviation, in whole numbers.
SIGMA = 2**26
#: Numbers beyond 20 SIGMA, which have less than 2**-288 of the probability, are never drawn. The rest is cells of as many.
_CELL_BITS, _CELLS = 20, 20 * 64
#: Bits to which the probabilities of the cells are exact, of which so many come first.
_BITS, _FIRST = 256, 64
#: exp(-n / _UNIT) is what a number at n is accepted with.
_UNIT_BITS = 53
_CHUNK = 2**16

Words = Callable[[int], np.ndarray]


def key_stream(key: bytes) -> Words:
    """The key stream of ChaCha20 (RFC 8439), block counter and nonce 0: a key is for one stream.

    Args:
        key: 32 bytes.

    Returns:
        A function that gives the next uint64 [n] of it.
    """
    encryptor = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
    return lambda count: np.frombuffer(encryptor.update(bytes(8 * count)), dtype="<u8")


def discrete_gaussian(words: Words, count: int) -> np.ndarray:
    """Independent numbers of the discrete Gaussian of standard deviation SIGMA.

    Args:
        words: Gives the next n uniform numbers of 64 bits, uint64 [n].
        count: How many.

    Returns:
        int64 [count]. The distance to the discrete Gaussian (total variation) is under 2**-240 for each.
    """
    found = [np.empty(0, np.int64)]
    while count > 0:
        drawn = _accepted(words, min(count, _CHUNK))
        found.append(drawn)
        count -= len(drawn)
    return np.concatenate(found)


def _accepted(words: Words, count: int) -> np.ndarray:
    """What is left of some candidates: a cell by its probability at its lower end, a place in it, a sign."""
    first, second = words(count), words(count)
    base = _cells(first, words) << np.uint64(_CELL_BITS)
    place = second & np.uint64(2**_CELL_BITS - 1)
    size = base + place
    kept = _exp_coins(place * (base + size), words)  # y^2 - base^2
    negative = (second >> np.uint64(63)).astype(bool)
    kept &= ~(negative & (size == 0))  # or 0 would come up twice as often
    drawn = size.astype(np.int64)
    signed: np.ndarray = np.where(negative, -drawn, drawn)[kept]
    return signed


def _cells(first: np.ndarray, words: Words) -> np.ndarray:
    """The cells that uniform numbers fall into, uint64; where 64 bits do not decide, more do."""
    limits, heads = _limits()
    cells = np.searchsorted(heads, first, side="right")
    for index in np.flatnonzero(heads[np.maximum(cells, 1) - 1] == first):
        rest = sum(int(word) << (64 * place) for place, word in enumerate(words(_BITS // 64 - 1)))
        cells[index] = bisect_right(limits, (int(first[index]) << (_BITS - _FIRST)) + rest)
    return cells.astype(np.uint64)


@lru_cache(maxsize=1)
def _limits() -> tuple[list[int], np.ndarray]:
    """Where the cells end, of 2**256, but for the last one; and the first 64 bits of that, uint64."""
    width = 2**_CELL_BITS
    with localcontext() as context:
        context.prec = 120
        total, sums = Decimal(0), []
        for cell in range(_CELLS):
            total += (-(Decimal(cell * width) ** 2) / (2 * Decimal(SIGMA) ** 2)).exp()
            sums.append(total)
        limits = [int(part / total * 2**_BITS) for part in sums[:-1]]
    return limits, np.array([limit >> (_BITS - _FIRST) for limit in limits], dtype=np.uint64)


def _exp_coins(numerators: np.ndarray, words: Words) -> np.ndarray:
    """True with probability exp(-n / 2**53) for each n < 2**53: algorithm 1 of Canonne et al.

    Coins that come up with probability gamma / 1, gamma / 2, gamma / 3, ... are tossed as long as they do; an even number of
    times has probability exp(-gamma).
    """
    even, left, times = np.ones(len(numerators), bool), np.arange(len(numerators)), 1
    while len(left):
        drawn = words(len(left))
        up = (drawn & np.uint64(2**_UNIT_BITS - 1)) < numerators[left]
        if times > 1:
            left, drawn = left[up], drawn[up]
            up = _one_in(times, drawn, words)
        left = left[up]
        even[left] ^= True
        times += 1
    return even


def _one_in(times: int, drawn: np.ndarray, words: Words) -> np.ndarray:
    """True with probability 1 / times, by the bits of uniform numbers above the lowest 53, or of others in their place."""
    bits = drawn >> np.uint64(_UNIT_BITS)
    share = 2 ** (64 - _UNIT_BITS) // times
    while len(again := np.flatnonzero(bits >= share * times)):
        bits[again] = words(len(again)) >> np.uint64(_UNIT_BITS)
    hit: np.ndarray = bits < share
    return hit
