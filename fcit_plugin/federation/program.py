"""What a run's stages share: its scenario, the parts of its method, and who takes part when."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from flwr.app import Message

from ..adapters.aggregation import LoraAggregation
from ..adapters.lora import BOTH, Tensors, fresh_subspace, select_factors
from ..arguments import FcitArguments
from ..arguments.round_order import OF_CHAIN, OF_STAGE, RELAY
from ..continual.method import ContinualMethod
from ..continual.methods import make_method
from ..knowledge.prototypes import MAX_KINDS
from ..knowledge.token_forms import FORMS, TokenForm
from ..knowledge.weighing import Weighing
from ..scenario.sampling import sample_clients, seated, turn
from ..scenario.streams import seed_after_round, seed_of_stage
from ..scenario.tasks import Scenario
from ..state.names import RULES
from ..state.server_state import ServerState
from .messages import ClientConfig
from .noise import Noise, noise_without_file
from .privacy import UpdatePrivacy
from .rules import RuleSet
from .secure_sum.parts import SumsOfRun
from .token_checks import Bounds

#: Keys that tell one run from another, beside the seed.
_IDENTITY = (
    *("fcit_setting", "fcit_task_order", "fcit_stages", "fcit_schedule"),
    *("fcit_num_clients", "fcit_clients_per_round", "fcit_num_rounds", "fcit_method", "fcit_server_rule"),
    *("fcit_lora_aggregation", "fcit_local_stage"),
)


@dataclass
class Program:
    """What all three fcit stages share: the scenario, the method's parts, and who takes part when.

    Attributes:
        args: The recipe's fcit keys.
        scenario: Tasks and schedule.
        seed: Seed of the run.
        blank: Any subspace of the model; gives keys and shapes.
        tasks_of: For each client the indices of the tasks that it takes part in; None: all of them.
        clients_of: How many clients there were in stages that were begun with fewer.
        sums: With secure sums, whose keys they are between; None: updates are seen.
        check_release: Called with stage, round and updates before a round's noise is put on them.
    """

    args: FcitArguments
    scenario: Scenario
    seed: int
    blank: Tensors
    tasks_of: Sequence[Collection[int]] | None = None
    clients_of: Mapping[int, int] = field(default_factory=dict)
    sums: SumsOfRun | None = None
    check_release: Callable[[int, int, Sequence[Message]], None] | None = None

    @cached_property
    def method(self) -> ContinualMethod:
        """The continual method."""
        return make_method(self.args)

    @cached_property
    def aggregation(self) -> LoraAggregation:
        """What becomes of the clients' LoRA factors."""
        aggregation: LoraAggregation = self.args.part("lora_aggregations").load()()
        return aggregation

    def rules(self, state: ServerState) -> RuleSet:
        """The server rules of the next round, with what they remember of the rounds before."""
        return RuleSet.from_arrays(self.args, state.rules)

    def check_memory(self, state: ServerState, folder: Path) -> None:
        """Refuse what a state's server rules remember where they cannot take it up.

        Args:
            state: The state; its subspaces fit the model.
            folder: Where it is from.

        Raises:
            FcitError: The sentence names the file.
        """
        own = {"": BOTH, ".A": "A", ".B": "B"}  # where A and B are trained in turn each has a rule
        subspaces = range(len(state.subspaces))
        weights = {f"{k}{end}": select_factors(self.blank, factors) for k in subspaces for end, factors in own.items()}
        weights[RuleSet.SHARED] = state.shared
        self.rules(state).check(weights, str(folder / RULES))

    def fresh(self, stage: int) -> Tensors:
        """The initialization of all subspaces that open in a stage."""
        return fresh_subspace(self.blank, seed=seed_of_stage(self.seed, stage))

    def fresh_after_round(self, state: ServerState) -> Tensors:
        """The initialization of a LoRA that begins again after a round; another one in each round."""
        number = state.stage * self.args.fcit_num_rounds + state.round
        return fresh_subspace(self.blank, seed=seed_after_round(self.seed, number))

    @cached_property
    def run_id(self) -> str:
        """What every request and reply of a run names; runs of one recipe, at whatever sites, have the same."""
        args = self.args.to_dict()
        identity = {"seed": self.seed, **{key: args[key] for key in _IDENTITY}}
        if identity["fcit_schedule"] == [[number] for number in range(len(identity["fcit_stages"] or ()))]:
            identity["fcit_schedule"] = None  # which says the same
        if self.relays:
            identity["fcit_round_order"] = self.args.fcit_round_order
        if self.args.over_network:  # where their number may grow
            del identity["fcit_num_clients"]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def num_stages(self) -> int:
        """T, the number of stages that are trained."""
        return self.scenario.num_stages

    def work(self, stage: int, round: int, attempt: int = 0) -> dict[int, ClientConfig]:
        """The clients sampled for a round, each with its task; other ones in a further attempt at it.

        A client that takes no part in the task of its place gives it to the next one that does: the round has fewer clients
        where there is none.
        """
        num_clients, per_round = self.clients_of.get(stage, self.args.fcit_num_clients), self.args.fcit_clients_per_round
        where = {"seed": self.seed, "stage": stage, "round": round, "attempt": attempt}
        clients = sample_clients(num_clients, per_round, **where)
        tasks = tuple(self.scenario.task_of(stage, position) for position in range(per_round))
        if self.tasks_of is not None:
            order = (*clients, *(c for c in sample_clients(num_clients, num_clients, **where) if c not in clients))
            clients, tasks = seated(order, tasks, self.tasks_of)
        return {client: self.work_of(stage, round, client, task) for client, task in zip(clients, tasks, strict=True)}

    @property
    def relays(self) -> bool:
        """Whether the clients of a subspace train one after the other (:mod:`.relay`)."""
        return bool(self.args.fcit_round_order == RELAY)

    def piece(self, round: int, place: int = 0, links: int = 1) -> tuple[int, int] | None:
        """Which piece of how many of a learning rate's schedule a client trains with; None: it has one of its own.

        Args:
            round: r, counted in the stage.
            place: The client's place in its chain, from 0, where there is one.
            links: How many clients that chain has.
        """
        if self.args.fcit_schedule_over == OF_CHAIN:
            return place, links
        if self.args.fcit_schedule_over == OF_STAGE:
            return round * links + place, self.args.fcit_num_rounds * links
        return None

    def turn(self, stage: int, round: int, client: int) -> tuple[int, int]:
        """What the clients of a subspace are sorted by where they train one after the other."""
        return turn(self.seed, stage, round, client)

    def fewest_replies(self, work: Sized) -> int:
        """The fewest good replies with which a round goes on: no more than there are clients for its places."""
        fewest: int = self.args.fcit_min_replies
        return fewest if self.tasks_of is None else min(fewest, len(work))

    def work_of(self, stage: int, round: int, client: int, task: int) -> ClientConfig:
        """What one client has to know."""
        compression = None if self.args.fcit_update_compression == "none" else self.args.fcit_update_compression
        return ClientConfig(self.run_id, stage, round, client, task, compression=compression)

    @cached_property
    def noise(self) -> Noise:
        """Where the noise on updates comes from; a run whose secret is in a file puts it here (:mod:`.secret`)."""
        return noise_without_file(self.args, self.seed)

    @property
    def privacy(self) -> UpdatePrivacy | None:
        """What is done to updates for their clients' privacy, None if nothing."""
        return UpdatePrivacy.from_args(self.args, self.noise if self.args.fcit_dp_noise_multiplier is not None else None)

    @property
    def form(self) -> TokenForm:
        """What clients tell of their tokens."""
        return FORMS[self.args.fcit_identity_form]

    def bounds(self, state: ServerState) -> Bounds:
        """What a reply may hold at most."""
        return Bounds.from_args(
            self.args,
            state.tokens.sums.shape[1],
            self.method.reports_kinds,
            by_tokens=self.method.by_tokens,
            subspaces=state.tokens.num_subspaces,
            limits={**self.method.limits, **RuleSet(self.args).limits},
        )

    @property
    def weighing(self) -> Weighing:
        """What the counts and the lengths that clients name come to."""
        # in a secure sum the counts are masked, so that nobody can bound them
        ratio = None if self.args.fcit_secure_sum else self.args.fcit_max_count_ratio
        return Weighing(self.args.fcit_identity_unit, ratio)

    def largest_update(self, state: ServerState) -> int:
        """Bytes that an update folder's file may have: all its numbers, and a megabyte for what describes them."""
        wants = {*self.method.wants(state.stage, state.round), *self.rules(state).wants}
        numbers = sum(value.numel() for value in (*self.blank.values(), *state.shared.values())) * (1 + len(wants))
        dimension = int(state.tokens.sums.shape[1])
        numbers += dimension + (MAX_KINDS * (dimension + 2) if self.method.reports_kinds else 0)
        return 4 * numbers + 2**20

    def task_name(self, config: ClientConfig) -> str:
        """Name of the task that a client works on."""
        return self.scenario.tasks[config.task].name
