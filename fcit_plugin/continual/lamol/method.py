"""LAMOL: the model makes up records of earlier tasks before it trains on a new one."""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from typing_extensions import override

from ..method import Extras, Recall
from ..stage_start import StageStart
from ..terms import BatchTerm, Weights
from .options import LamolOptions

WRITER = "writer"
_IGNORED = -100


class Lamol(StageStart[LamolOptions]):
    """Language modeling for lifelong language learning (Sun et al. 2020, https://arxiv.org/abs/1909.03329), for a federation.

    The model is trained to write whole records, not their answers alone,

        L = L_QA + lambda L_LM   (equation 1),

    with L_QA the mean loss over the answers' tokens and L_LM that over all tokens of the records. From the second stage on
    it first makes up gamma n records, n being how many a client has, as it was when the stage began (the server keeps these
    weights and sends them along, so that all rounds of a stage see the same records, and a client keeps none):
    instructions from the beginning of a user's turn on, each token drawn from the k most likely ones, and then their
    answers, as it answers in the evaluation. They are trained on beside the client's own.

    The paper begins with a token of its own in place of the user's turn, which is what is common to all records here, and
    draws the answers' tokens too.
    """

    kept_as = WRITER

    @override
    def num_recalled(self, stage: int, records: int) -> int:
        return round(self.options.fcit_lamol_gamma * records) if stage > 0 else 0

    @override
    def recall(self, sent: Extras) -> Recall | None:
        options = self.options
        return Recall(sent[WRITER], options.fcit_lamol_top_k, options.fcit_lamol_max_tokens) if WRITER in sent else None

    @override
    def batch_terms(self, sent: Extras) -> list[BatchTerm]:
        return [WholeRecords(self.options.fcit_lamol_lambda)]


class WholeRecords(BatchTerm):
    """lambda times the mean loss over all tokens of the records, in place of a mean a sum over as many as are learned.

    Args:
        strength: lambda.
    """

    def __init__(self, strength: float) -> None:
        self.strength = strength

    @override
    def loss(
        self, model: nn.Module, weights: Weights, inputs: Mapping[str, torch.Tensor], logits: torch.Tensor
    ) -> torch.Tensor:
        told = inputs["attention_mask"][:, 1:] != 0  # the logits of a position are for the next token
        learned = (inputs["labels"][:, 1:] != _IGNORED).sum()
        mean = cross_entropy(logits[:, :-1][told].float(), inputs["input_ids"][:, 1:][told])
        return self.strength * learned * mean
