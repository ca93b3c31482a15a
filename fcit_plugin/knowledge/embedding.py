"""The default identity encoder: the frozen base model's own input embeddings."""

import math
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..adapters.lora import whole_weight

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Rows of the embedding from which its common directions are found; a larger vocabulary is sampled evenly.
_MAX_ROWS = 16_384
#: Texts that are encoded together; a token that many of them have is centered once.
_TEXTS = 128
#: Rows that are fetched from the device together.
_AT_A_TIME = 1024


class EmbeddingEncoder:
    """Mean of the base model's input embeddings over the instruction's tokens.

    Needs no second model and works for every language model. The plain mean is dominated by what all instructions
    share: embeddings crowd around a few common directions, and every instruction has its "the" and "?". With ``center``
    both are taken away, by public means that are the same everywhere: each token's embedding loses the vocabulary's
    mean and its max(3, D / 100) leading principal directions (Mu & Viswanath, "All-but-the-top", arXiv 1702.01417), is
    scaled to length 1, and weighs log((2 + R) / (1 + df)), its inverse document frequency (Sparck Jones, 1972) in a list
    of R reference instructions that ships with the package.

    Args:
        embedding: The base model's input embedding, weight [vocabulary, D].
        tokenizer: The base model's tokenizer.
        center: Whether to take away what all instructions share.
    """

    def __init__(self, embedding: torch.nn.Module, tokenizer: "PreTrainedTokenizerBase", center: bool = False) -> None:
        self.embedding = embedding
        self.tokenizer = tokenizer
        self.center = center
        if center:
            with whole_weight(embedding.get_parameter("weight")) as weight:
                self._mean, self._directions = common_directions(weight)
            self._rarity = rarity([self._ids(text) for text in reference_instructions()])

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Identity tokens of the texts, float32 [n, D]."""
        with whole_weight(self.embedding.get_parameter("weight")) as weight:
            found = np.empty((len(texts), weight.shape[1]), np.float32)  # small arrays kept one by one would break up the heap
            for start in range(0, len(texts), _TEXTS):
                part = [self._ids(text) for text in texts[start : start + _TEXTS]]
                found[start : start + len(part)] = self._tokens(weight, part).numpy()
            return found

    @torch.no_grad()
    def table(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What each token of the vocabulary gives: its vector, float32 [vocabulary, D], and its weight [vocabulary].

        An identity token is the weighted mean of its tokens' vectors.
        """
        with whole_weight(self.embedding.get_parameter("weight")) as weight:
            if not self.center:
                return weight.float().cpu(), torch.ones(len(weight))
            rarity = torch.tensor([self._rarity(i) for i in range(len(weight))])
            return torch.cat([self._centered(_exact(part)).float() for part in torch.split(weight, _AT_A_TIME)]), rarity

    def _centered(self, rows: torch.Tensor) -> torch.Tensor:
        rows = rows - self._mean
        return torch.nn.functional.normalize(rows - rows @ self._directions @ self._directions.T, dim=1)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text or " ", add_special_tokens=False)["input_ids"]
        return ids

    def _tokens(self, weight: torch.Tensor, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """The identity tokens of texts that are given by their tokens' ids, float64 [n, D].

        Last digits depend on the texts that are encoded together, far below the grid of tokens (:func:`.vectors.on_grid`).
        """
        ids = np.array([i for text in texts for i in text], np.int64)
        lengths = torch.tensor([len(text) for text in texts])  # some tokenizers make nothing of white space
        distinct, places = np.unique(ids, return_inverse=True)
        rows = _exact(weight[torch.from_numpy(distinct).to(weight.device)])
        rare = torch.ones(len(distinct), dtype=torch.float64)
        if self.center:
            rows, rare = self._centered(rows), torch.tensor([self._rarity(i) for i in distinct.tolist()], dtype=torch.float64)
        which = torch.from_numpy(places)
        share = rare[which]
        starts = lengths.cumsum(0) - lengths
        sums = torch.nn.functional.embedding_bag(which, rows, starts, mode="sum", per_sample_weights=share)
        owners = torch.arange(len(texts)).repeat_interleave(lengths)
        weights = torch.zeros(len(texts), dtype=torch.float64).index_add_(0, owners, share)
        return sums / weights.clamp_min(torch.finfo(torch.float64).tiny)[:, None]


@torch.no_grad()
def common_directions(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean [D] and leading principal directions [D, max(3, D / 100)] of an embedding, float64 on the CPU.

    Args:
        weight: [vocabulary, D].
    """
    parts = torch.split(weight[:: -(-len(weight) // _MAX_ROWS)], _AT_A_TIME)
    mean = torch.stack([_exact(part).sum(dim=0) for part in parts]).sum(dim=0) / sum(map(len, parts))
    spread = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for part in parts:
        rows = _exact(part) - mean
        spread.addmm_(rows.T, rows)
    _, directions = torch.linalg.eigh(spread)  # eigenvalues ascending
    return mean, directions[:, -max(3, weight.shape[1] // 100) :]


def _exact(rows: torch.Tensor) -> torch.Tensor:
    """Rows in float64 on the CPU, which every machine has.

    What a number of threads changes of a sum is far below the grid of tokens then (:func:`.vectors.on_grid`).
    """
    return rows.cpu().double()


def rarity(documents: Sequence[Sequence[int]]) -> Callable[[int], float]:
    """Inverse document frequency of token ids, as a function: log((2 + R) / (1 + df)), always above 0.

    Args:
        documents: Token ids of R texts.
    """
    frequency: dict[int, int] = {}
    for document in documents:
        for token in set(document):
            frequency[token] = frequency.get(token, 0) + 1
    return lambda token: math.log((2 + len(documents)) / (1 + frequency.get(token, 0)))


def reference_instructions() -> list[str]:
    """A public list of instructions: what they have in common is what all instructions share."""
    return (files(__package__) / "reference_instructions.txt").read_text(encoding="utf-8").splitlines()
