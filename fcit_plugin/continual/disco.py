"""DISCO: dynamic knowledge organization, a subspace for each kind of instruction (arXiv 2503.12897)."""

from typing_extensions import override

from ..knowledge.organizer import Organizer
from .method import ContinualMethod


class Disco(ContinualMethod):
    """Clients are assigned to subspaces by the identity token of their instructions (:mod:`..knowledge.organizer`)."""

    @override
    def organizer(self, stage: int) -> Organizer:
        return Organizer(self.args.fcit_similarity_threshold, self.args.fcit_max_subspaces)
