"""DISCO: dynamic knowledge organization, a subspace for each kind of instruction (arXiv 2503.12897); and a warmer start for it."""

from typing import TYPE_CHECKING

import torch
from typing_extensions import override

from ..adapters.lora import State, factor_of
from ..knowledge.organizer import Organizer
from .method import ContinualMethod

if TYPE_CHECKING:
    from ..federation.state import ServerState


class Disco(ContinualMethod):
    """Clients are assigned to subspaces by the identity token of their instructions (:mod:`..knowledge.organizer`)."""

    @override
    def organizer(self, stage: int) -> Organizer:
        return Organizer(self.args.fcit_similarity_threshold, self.args.fcit_max_subspaces)


class DiscoPlus(Disco):
    """DISCO whose new subspaces read what the one before them has learnt to read.

    In a layer's LoRA s B A, the rows of A say which directions of the input it reads, B what it writes for them. What is
    worth reading is much the same from task to task (arXiv 2410.01463, 2404.19245), so a new subspace K begins with

        A_K = (|A_fresh| / |A_{K-1}|) A_{K-1},    B_K = 0

    in place of a random A_fresh (Frobenius norms, layer by layer). It begins as the base model, as ever; the length is that of
    the initialisation, for which the learning rate was chosen. No byte more travels. Measured in docs/method.md.
    """

    @override
    def opening(self, fresh: State, state: "ServerState") -> State:
        if not state.subspaces:
            return fresh
        last = state.subspaces[-1]
        return {key: value if factor_of(key) == "B" else _as_long_as(value, last[key]) for key, value in fresh.items()}


def _as_long_as(model: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """A matrix stretched to the Frobenius norm of another one."""
    matrix = matrix.double()
    return (matrix * (model.double().norm() / matrix.norm())).to(model.dtype)
