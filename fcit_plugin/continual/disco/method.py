"""DISCO: dynamic knowledge organization, a subspace for each kind of instruction (arXiv 2503.12897)."""

from typing import TYPE_CHECKING

from typing_extensions import override

from ...adapters.lora import shared_parameters
from ...adapters.projectors import check_projector
from ...knowledge.nearness import nearness_of_recipe
from ...knowledge.organizer import Organizer
from ..method import ContinualMethod

if TYPE_CHECKING:
    from peft import PeftModel


class Disco(ContinualMethod[None]):
    """Clients are assigned to subspaces by the identity token of their instructions (:mod:`...knowledge.organizer`)."""

    organizes_by_tokens = True

    @override
    def organizer(self, stage: int) -> Organizer:
        near, args = nearness_of_recipe(self.args), self.args
        return Organizer(
            near.threshold, args.fcit_max_subspaces, max_new=args.fcit_max_new_subspaces, of_one_kind=near.of_one_kind
        )


class DiscoPlus(Disco):
    """DISCO whose subspaces are found by each kind of instruction that they serve, and see with their own projector.

    A client covers its instructions by kinds and sends the mean u_j and the size q_j of each beside its mean token; the server
    merges what a subspace's clients have sent (:mod:`...knowledge.prototypes`). At inference

        w = softmax_k ( max_j cos(u, u_kj) / temperature ),

    so that a subspace is found by each of its kinds, and not by their mean alone. The server also keeps for each subspace the
    shared projector as it was after the last round that trained the subspace, and images are seen through these
    (:mod:`...adapters.projectors`): what others make of the projector later does not touch it. Training stays DISCO's to the
    bit.
    """

    reports_kinds = True
    keeps_projectors = True

    @override
    def prepare(self, model: "PeftModel") -> None:
        if shared := shared_parameters(model):
            check_projector(model.get_base_model(), shared)
