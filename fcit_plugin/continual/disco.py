"""DISCO: dynamic knowledge organization, a subspace for each kind of instruction (arXiv 2503.12897)."""

from typing_extensions import override

from ..knowledge.organizer import Organizer
from .method import ContinualMethod


class Disco(ContinualMethod):
    """Clients are assigned to subspaces by the identity token of their instructions (:mod:`..knowledge.organizer`)."""

    @override
    def organizer(self, stage: int) -> Organizer:
        return Organizer(self.args.fcit_similarity_threshold, self.args.fcit_max_subspaces)


class DiscoPlus(Disco):
    """DISCO with several identity tokens for a subspace: one for each kind of instruction that it serves.

    A client covers its instructions by kinds and sends the mean u_j and the size q_j of each beside its mean token; the server
    merges what a subspace's clients have sent (:mod:`..knowledge.prototypes`). At inference

        w = softmax_k ( max_j cos(u, u_kj) / temperature ),

    so that a subspace is found by each of its kinds, and not by their mean alone. Who trains which subspace stays DISCO's.
    """

    tells_kinds = True
