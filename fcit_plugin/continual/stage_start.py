"""The model as a stage begins with it, kept by the server and sent along: what methods that ask it share."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from ..adapters.lora import Tensors
from .method import ContinualMethod, Extras, OptionsT, flat, record

if TYPE_CHECKING:
    from ..adapters.aggregation import LoraAggregation
    from ..state.server_state import ServerState


class StageStart(ContinualMethod[OptionsT]):
    """Clients are sent the subspace and the shared trainables with which a stage after the first begins."""

    #: Name of the record that clients are sent.
    kept_as: ClassVar[str]

    @override
    def sends(self, state: "ServerState") -> Extras:
        return {self.kept_as: record(self.kept_as, state.method_state)} if state.method_state else {}

    @override
    def remember(
        self, before: "ServerState", after: "ServerState", measured: Sequence[Extras], examples: Sequence[int]
    ) -> Tensors:
        ends = self.ends_stage(before.round)
        return flat(self.kept_as, {**after.subspaces[0], **after.shared}) if ends else before.method_state

    @override
    def refuses(self, aggregation: "LoraAggregation") -> str | None:
        if aggregation.changes_base:
            return "asks the model of the stage's start, of which it keeps the LoRA and not the base weights"
        return super().refuses(aggregation)
