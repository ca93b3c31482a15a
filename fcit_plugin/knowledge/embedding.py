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
            for row, text in zip(found, texts, strict=True):  # not in one product: its bits would depend on the texts beside it
                row[:] = self._token(weight, self._ids(text)).numpy()
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

    def _token(self, weight: torch.Tensor, ids: list[int]) -> torch.Tensor:
        if not ids:  # some tokenizers make nothing of white space
            return torch.zeros(weight.shape[1])
        rows = _exact(weight[torch.tensor(ids, device=weight.device)])
        if not self.center:
            return rows.mean(dim=0)
        rare = torch.tensor([self._rarity(i) for i in ids], dtype=torch.float64)
        return (rare @ self._centered(rows)) / rare.sum()


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
