"""What ``routing.py`` and ``foreign.py`` share: encoders that remember, subspaces of the kinds, and statistics."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from instructions import Case, test_sets, training
from transformers import AutoModelForCausalLM, AutoTokenizer

from fcit_plugin.knowledge.activation import Router, cosine_matrix
from fcit_plugin.knowledge.encoders import make_encoder
from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.knowledge.nearness import Nearness, nearness_of
from fcit_plugin.knowledge.prototypes import kinds_of
from fcit_plugin.knowledge.turns import learned_tokens, ways_to_tell
from fcit_plugin.samples.text import text_model_path

#: As by default.
TURNS, TEMPERATURE = "auto", 0.05


class Remembering:
    """An encoder that is asked for each text once.

    Args:
        encoder: The encoder.
    """

    def __init__(self, encoder: Any) -> None:
        self.encoder, self.known = encoder, {}

    @property
    def nearness(self) -> Nearness:
        """The cosines that belong to the tokens."""
        return nearness_of(self.encoder)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Identity tokens of the texts, float32 [n, D]."""
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            self.known |= zip(new, self.encoder.encode(new), strict=True)
        return np.stack([self.known[text] for text in texts])


def load(path: str) -> tuple[Any, Any]:
    """The base model in bfloat16, and its tokenizer; FCIT-mini's language model without a path."""
    path = path or str(text_model_path())
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).eval(), AutoTokenizer.from_pretrained(path)


def encoder_of(name: str, model: Any, tokenizer: Any) -> Remembering:
    """An encoder as a recipe names it, with its defaults."""
    return Remembering(make_encoder(name, "mean", True, model, tokenizer))


def label(name: str) -> str:
    """How an encoder is called in a table: its name, of a path the last part."""
    return Path(name).name


def questions(half: str, tiny: bool) -> tuple[dict[str, list[str]], dict[str, list[Case]]]:
    """The kinds' training instructions and the test sets; of a tiny form those of every sixth kind."""
    kinds = dict(list(training().items())[:: 6 if tiny else 1])
    sets = test_sets(half.replace("-", "_"))
    return kinds, {name: [case for case in cases if case.kind in kinds] for name, cases in sets.items()}


def subspaces(encoder: Remembering, kinds: dict[str, list[str]], several: bool = False) -> SubspaceTokens:
    """One subspace for each kind, made of all its training instructions.

    Args:
        encoder: The encoder.
        kinds: Training instructions of each.
        several: With the kinds of instructions that ``disco_plus`` tells beside the mean.
    """
    learned = [_learned(encoder, texts) for texts in kinds.values()]
    counts = np.array([len(rows) for rows in learned])
    found = tuple(kinds_of(rows, encoder.nearness.of_a_client) for rows in learned) if several else None
    return SubspaceTokens(np.stack([rows.sum(axis=0) for rows in learned]), counts, found)


def _learned(encoder: Remembering, texts: Sequence[str]) -> np.ndarray:
    return learned_tokens(encoder, [(text,) for text in texts], TURNS, lambda: [None] * len(texts))


def router(encoder: Remembering, tokens: SubspaceTokens) -> Router:
    """The product's own way from a question to the weights of subspaces."""
    return Router(encoder, tokens, "softmax", TEMPERATURE, TURNS)


def nearest(encoder: Remembering, tokens: SubspaceTokens, cases: Sequence[Case]) -> np.ndarray:
    """How near questions of one turn are to each subspace, by the best of what they may be told by, [n, K]."""
    ways = [ways_to_tell(encoder, case.turns[-1]) for case in cases]
    encoder.encode([text for way in ways for text in way])
    return np.stack([cosine_matrix(encoder.encode(way), tokens.tokens).max(axis=0) for way in ways])


def wilson(right: np.ndarray) -> str:
    """A share in per cent and its 95 % interval."""
    n, p, z = len(right), right.mean(), 1.96
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return f"{100 * p:.1f} ({100 * low:.0f}-{100 * high:.0f})"


def paired(left: np.ndarray, right: np.ndarray, kinds: Sequence[str], draws: int = 10_000) -> tuple[float, float, float]:
    """The mean difference of paired values and its 95 % interval by a bootstrap that draws whole kinds.

    Args:
        left: Values [n].
        right: Values of the same questions.
        kinds: Whose questions they are.
        draws: Draws of the bootstrap.
    """
    names = sorted(set(kinds))
    place = np.array([names.index(kind) for kind in kinds])
    difference = left.astype(np.float64) - right
    sums, sizes = np.bincount(place, difference), np.bincount(place)
    drawn = np.random.default_rng(0).integers(len(names), size=(draws, len(names)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return (float(difference.mean()), *map(float, np.quantile(means, (0.025, 0.975))))


def markdown(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table for the documents."""
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(map(str, row)) + " |", flush=True)
    print(flush=True)
