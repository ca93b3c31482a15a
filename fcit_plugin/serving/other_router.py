"""Tokens for another encoder than the run's: a run keeps tokens and no texts, so a dataset has to say them again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FcitError
from ..knowledge.activation import Router
from ..knowledge.identity_tokens import SubspaceTokens
from ..knowledge.turns import Turns, learned_tokens
from ..knowledge.vectors import first_largest, on_grid


@dataclass(frozen=True)
class Agreement:
    """How far another router goes where the run's own does.

    Attributes:
        asked: How many instructions both were asked.
        alike: For how many of them the same subspace weighed most.
        lost: Subspaces that none of the instructions is for: the other router never finds them.
    """

    asked: int
    alike: int
    lost: tuple[int, ...]

    def __str__(self) -> str:
        lost = f", and never finds subspace {', '.join(map(str, self.lost))}" if self.lost else ""
        return f"of {self.asked} instructions it sends {self.alike} ({self.alike / self.asked:.0%}) where the run does{lost}"


def other_router(own: Router, encoder: Any, conversations: Sequence[Turns]) -> tuple[Router, Agreement]:
    """A router by another encoder, and how it compares.

    The run's router says which subspace each conversation is for. Of every second one the tokens are made; of the others both
    routers are asked.

    Args:
        own: The run's.
        encoder: The other encoder.
        conversations: What users say.

    Raises:
        FcitError: There are fewer than two conversations.
    """
    conversations = list(dict.fromkeys(conversations))
    if len(conversations) < 2:
        raise FcitError("Tokens for another encoder need two different instructions at least; name a dataset with more.")
    owners = first_largest(own.weights(conversations))
    told = learned_tokens(encoder, conversations[::2], own.turns, lambda: [None] * len(conversations[::2]))
    counts = np.bincount(owners[::2], minlength=own.tokens.num_subspaces).astype(np.int64)
    sums = np.zeros((len(counts), told.shape[1]))
    np.add.at(sums, owners[::2], told.astype(np.float64))
    router = Router(encoder, SubspaceTokens(on_grid(sums), counts), own.mode, own.temperature, own.turns)
    alike = int((first_largest(router.weights(conversations[1::2])) == owners[1::2]).sum())
    lost = tuple(np.flatnonzero((own.tokens.counts > 0) & (counts == 0)).tolist())
    return router, Agreement(len(owners[1::2]), alike, lost)
