"""Streams of random numbers: everything that a run draws depends on its coordinates alone and on nothing drawn before.

So a resumed run and a run on other machines draw the same. The coordinates are the spawn key of a `SeedSequence`: unlike a list
of seeds, where [7] and [7, 0] are one and the same, different coordinates give independent streams.
"""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What numbers are drawn for, the first of their coordinates. The values decide the bits of a run: they never change."""

    CLIENTS_OF_ROUND = 0
    CLIENT_SEED = 1
    UPDATE_NOISE = 2
    TOKEN_NOISE = 3
    KEPT_RECORDS = 4
    CHECKED_FILES = 5
    TURN = 6


def sequence(seed: int, stream: Stream, *where: int) -> np.random.SeedSequence:
    """The seeds of one stream at some coordinates.

    Args:
        seed: Seed of the run, or a secret one; 0 or more.
        stream: What the numbers are for.
        where: Its coordinates, such as stage, round and client.
    """
    return np.random.SeedSequence(seed, spawn_key=(int(stream), *where))


def generator(seed: int, stream: Stream, *where: int) -> np.random.Generator:
    """NumPy's generator of one stream at some coordinates, see :func:`sequence`."""
    return np.random.default_rng(sequence(seed, stream, *where))


def seed_of_stage(seed: int, stage: int) -> int:
    """The seed, for torch, of the subspaces that open in a stage."""
    return seed * 1_000_003 + stage


def seed_after_round(seed: int, number: int) -> int:
    """The seed, for torch, of the subspaces that begin from scratch after a round.

    Args:
        seed: Seed of the run.
        number: Of the round, counted over all stages from 0.
    """
    return seed * 1_000_003 + 500_009 + number
