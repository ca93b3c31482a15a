"""What a continual method may change; by itself it is sequential federated tuning of one LoRA."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol

import torch
from torch import nn
from typing_extensions import TypeVar

from ..adapters.lora import Tensors
from ..arguments.method import NEAREST
from ..knowledge.identity_encoders import ORACLE
from ..knowledge.nearness import nearness_of_recipe
from ..knowledge.organizer import Organizer, SingleSubspace
from .record_limits import RecordLimits
from .terms import BatchTerm, GradientTerm

if TYPE_CHECKING:
    from peft import PeftModel

    from ..adapters.aggregation import LoraAggregation
    from ..arguments import FcitArguments
    from ..state.server_state import ServerState

#: Records of arrays by name; in each the keys are those of the subspace and of the shared trainables together.
Extras = Mapping[str, Tensors]


class TrainedModel(Protocol):
    """What a method sees of a client's model once it has trained."""

    @property
    def weights(self) -> Mapping[str, nn.Parameter]:
        """What was trained: the subspace and the shared trainables."""
        ...

    def sample_gradients(self, count: int, of: Callable[[torch.Tensor], torch.Tensor] | None = None) -> Iterator[None]:
        """For up to ``count`` of the client's records, drawn by seed, yields with a gradient in each weight's ``grad``.

        Args:
            count: How many records at most.
            of: Makes of the model's outputs for a record the number whose gradient it is. The outputs are the logits from
                which the tokens of the answer are told, float32 [tokens, vocabulary]. None: the gradient of the loss.
        """
        ...


@dataclass(frozen=True)
class Recall:
    """What a client's model makes up records of earlier tasks with, before it trains.

    Attributes:
        weights: The subspace and the shared trainables that it does so with.
        top_k: How many tokens each one of an instruction is drawn from, the most likely ones.
        max_tokens: Tokens of an instruction at most.
    """

    weights: Tensors
    top_k: int
    max_tokens: int


class Memory(Protocol):
    """The records that a client has kept of earlier tasks, while it trains on another one."""

    def gradient(self, count: int) -> Tensors:
        """The gradient of the mean loss of some of them at the weights as they are; those in training stay as they are.

        Args:
            count: How many records at most; they are drawn again at each call, by seed.

        Returns:
            By the weights' names, without those that have none.
        """
        ...


#: The dataclass of a method's own keys; a method without any need not say.
OptionsT = TypeVar("OptionsT", default=Any)


class ContinualMethod(Generic[OptionsT]):
    """The base of all methods: one LoRA that all clients tune, with nothing against forgetting.

    The same object serves the server's side and the client's; it holds no state. What the server has to remember is
    in :attr:`fcit_plugin.state.server_state.ServerState.method_state`, what a client has to know is sent to it.

    Args:
        args: The recipe's keys.

    Attributes:
        options: The method's own keys, an instance of the options of its part.
    """

    #: How the subspaces act at inference, where the method leaves no choice.
    activation: str | None = None
    #: Whether identity tokens decide who trains which subspace.
    organizes_by_tokens = False
    #: Whether subspaces of two runs that have tokens of one kind may become one (``fcit-cli join``).
    joinable = True
    #: Whether a subspace acts as the product of its factors, B A.
    acts_as_product = True
    #: Whether clients tell their kinds of instructions beside the mean token, for activation by the nearest kind.
    reports_kinds = False
    #: Whether clients train on the records that they keep of earlier tasks; if not, these are for :meth:`memory_terms`.
    rehearses = True
    #: Whether each subspace keeps the projector that it was trained with last, to answer with it.
    keeps_projectors = False
    #: What the records that :meth:`wants` names may hold, by name; a client whose record does not is left out of the round.
    limits: ClassVar[Mapping[str, RecordLimits]] = {}

    def __init__(self, args: "FcitArguments") -> None:
        self.args = args
        self.options: OptionsT = args.options("methods")

    @property
    def by_tokens(self) -> bool:
        """Whether clients tell tokens that say something of their records, and that decide who trains what."""
        return self.organizes_by_tokens and self.args.fcit_identity_encoder != ORACLE

    # the server's side

    def organizer(self, stage: int) -> Organizer:
        """Decides who trains which subspace in a stage."""
        return SingleSubspace(nearness_of_recipe(self.args).threshold, self.args.fcit_max_subspaces)

    def organizer_of(self, stage: int, round: int) -> Organizer:
        """The stage's organizer in one of its rounds, by ``fcit_later_rounds``."""
        organizer = self.organizer(stage)
        return organizer.closed() if round > 0 and self.args.fcit_later_rounds == NEAREST else organizer

    def sends(self, state: "ServerState") -> Extras:
        """What every client of a round gets beside the weights that it trains."""
        return {}

    def wants(self, stage: int, round: int) -> tuple[str, ...]:
        """Names of the records that clients must send beside their weights in a round; see :attr:`limits`."""
        return ()

    def remember(
        self, before: "ServerState", after: "ServerState", measured: Sequence[Extras], examples: Sequence[int]
    ) -> Tensors:
        """The server's memory after a round.

        Args:
            before: The state before the round, with the subspaces that it has opened as they were drawn.
            after: The state with the round's updates folded in; it still names this stage and this round.
            measured: For each client what it sent beside its weights, in the clients' order.
            examples: n_c of each client.
        """
        return before.method_state

    def merged(self, after: "ServerState") -> list[Tensors]:
        """The subspaces as they answer and as the next round starts from them; by itself what the rules made of them.

        Args:
            after: As :meth:`remember` got it, with what that returned as its memory.
        """
        return after.subspaces

    def ends_stage(self, round: int) -> bool:
        """Whether a round is the last one of its stage."""
        return round + 1 == self.args.fcit_num_rounds

    def refuses(self, aggregation: "LoraAggregation") -> str | None:
        """Why the method cannot go with a LoRA aggregation, said of the method; None if it can."""
        if not self.acts_as_product and (aggregation.averages_products or not aggregation.keeps_basis):
            return "weighs parts of a LoRA for each token, which is more than the product of its factors"
        if aggregation.changes_base and not isinstance(self.organizer(0), SingleSubspace):
            return "has several subspaces, and a change of the base weights would act in all of them"
        return None

    # the client's side

    def prepare(self, model: "PeftModel") -> None:
        """Change the model that trains, once, after it was loaded."""

    def frozen_subspaces(self, sent: Extras) -> list[Tensors]:
        """Frozen subspaces that act beside the one in training, with weight 1."""
        return []

    def terms(self, sent: Extras) -> list[GradientTerm]:
        """What is added to the gradient of each step."""
        return []

    def batch_terms(self, sent: Extras) -> list[BatchTerm]:
        """What is added to the loss of each batch."""
        return []

    def memory_terms(self, memory: Memory) -> list[GradientTerm]:
        """What is done to the gradient of each step of a client that has kept records, after :meth:`terms`."""
        return []

    @classmethod
    def takes_logits(cls) -> bool:
        """Whether there are terms of the loss, which are given the model's logits in training."""
        return cls.batch_terms is not ContinualMethod.batch_terms

    @classmethod
    def wants_more(cls) -> bool:
        """Whether there are records beside the weights that clients may have to send."""
        return cls.wants is not ContinualMethod.wants

    def measure(self, model: TrainedModel) -> Extras:
        """What :meth:`wants` asks for, after training."""
        return {}

    def num_recalled(self, stage: int, records: int) -> int:
        """How many records of earlier tasks the model of a client that has so many of its own makes up, to train on too."""
        return 0

    def recall(self, sent: Extras) -> Recall | None:
        """What they are made up with; None where there are none."""
        return None

    @classmethod
    def makes_up_records(cls) -> bool:
        """Whether models make up records: those are of text, without images."""
        return cls.recall is not ContinualMethod.recall

    def num_remembered(self) -> int:
        """Records that a client keeps of each task it has worked on, for later stages; see :attr:`rehearses`."""
        return 0


def flat(name: str, state: Tensors) -> Tensors:
    """A record as part of a flat memory."""
    return {f"{name}/{key}": value for key, value in state.items()}


def record(name: str, memory: Tensors) -> Tensors:
    """The record that :func:`flat` has put into a memory; empty if there is none."""
    return {key.removeprefix(f"{name}/"): value for key, value in memory.items() if key.startswith(f"{name}/")}
