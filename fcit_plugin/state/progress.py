"""How far a run has come and what it has measured.

That is all that its report, or a run that goes on from it, needs beside the server's state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import takewhile
from typing import Any

from ..evaluation.matrix import AccuracyMatrix
from .forms import NoiseForm


@dataclass
class Traffic:
    """Bytes of arrays that traveled, over the whole run."""

    up: int = 0
    down: int = 0


@dataclass
class Progress:
    """Grows with a run, and goes into every commit.

    Attributes:
        step: Optimizer steps of all clients so far.
        zero_shot: Scores of the untuned model by dataset, None as long as it was not evaluated.
        matrix: Scores after each stage.
        restricted: Per stage the scores with answers restricted to the datasets' own labels.
        other: Per stage the scores by further metrics.
        likelihood: Per stage the mean negative log-likelihood of the right answers by dataset.
        likelihood_untuned: That of the untuned model, as `zero_shot` its scores.
        assignments: Who trained which subspace, one entry per client and round.
        asked: With `fcit_identity_noise`: who was asked for a token, each client once for a stage and task.
        dropped: Who was left out of a round, and why.
        idle: Whose training could not take a step, and why.
        product_errors: Relative error of each trained subspace's product, one entry per subspace and round.
        traffic: Bytes that traveled.
        seconds: Wall-clock time, "total" and of it "evaluate".
        partition: How many records of what each client has, as :meth:`fcit_plugin.scenario.Partition.table` has it.
        left_out: How many records of each dataset are not used, as LLaMA-Factory does not use them.
        labels: The answers that occur in the training records of each dataset, None where they are open; without those
            records nobody could tell them.
        recipes: What decided the numbers, of this run and before it of those that it goes on from: "stage" (the first
            one), "arguments" and "data".
        noise: Where the noise comes from: "run", an id, and "source"; None without noise.
        sites: Names of the clients, by their numbers, where they are sites.
        client_names: What records called the clients, by their numbers: a list for each of `recipes`, empty where there were
            no names.
        site_lists: For each stage that was begun, their names then.
        site_scores: What sites told of their own test records: site, stage, dataset, metric, score, records.
        encoder_choice: Which identity encoder ``auto`` has become, and why; None for a recipe that names one.
    """

    step: int = 0
    zero_shot: dict[str, float] | None = None
    matrix: AccuracyMatrix = field(default_factory=AccuracyMatrix)
    restricted: list[dict[str, float | None]] = field(default_factory=list)
    other: list[dict[str, dict[str, float]]] = field(default_factory=list)
    assignments: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    idle: list[dict[str, Any]] = field(default_factory=list)
    product_errors: list[dict[str, Any]] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)
    seconds: dict[str, float] = field(default_factory=lambda: {"total": 0.0, "evaluate": 0.0})
    partition: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    labels: dict[str, Sequence[str] | None] = field(default_factory=dict)
    recipes: list[dict[str, Any]] = field(default_factory=list)
    noise: NoiseForm | None = None
    encoder_choice: str | None = None
    sites: list[str] = field(default_factory=list)
    site_lists: list[list[str]] = field(default_factory=list)
    site_scores: list[dict[str, Any]] = field(default_factory=list)
    client_names: list[list[str]] = field(default_factory=list)
    likelihood: list[dict[str, float]] = field(default_factory=list)
    likelihood_untuned: dict[str, float] | None = None

    def add_scores(
        self,
        stage: int,
        free: Mapping[str, float],
        restricted: Mapping[str, float | None],
        other: Mapping[str, Mapping[str, float]],
        likelihood: Mapping[str, float] | None = None,
    ) -> None:
        """Add the scores after a stage; earlier stages that were not evaluated have none."""
        self.matrix.add(stage, free)
        beside: list[tuple[list[dict[str, Any]], Mapping[str, Any]]]
        beside = [(self.restricted, restricted), (self.other, other), (self.likelihood, likelihood or {})]
        for rows, row in beside:
            rows += [{} for _ in range(stage - len(rows))]
            rows.append(dict(row))

    def name_clients(self, names: Sequence[str], are_sites: bool, going_on: bool) -> None:
        """Note what the clients of a run are called.

        Args:
            names: By number; none where they have numbers alone.
            are_sites: Whether these are the names of sites, and not what records call their clients.
            going_on: Whether the run has begun before, so that the last of `recipes` is its own.
        """
        self.sites = list(names) if are_sites else []
        before = len(self.recipes) - going_on
        earlier = self.client_names[:before]
        self.client_names = [*earlier, *[[] for _ in range(before - len(earlier))], [] if are_sites else list(names)]
        if not any(self.client_names):
            self.client_names = []

    @property
    def names(self) -> list[str]:
        """What to call the clients, by their numbers; who was called otherwise in an earlier run has both names.

        Shorter than there are clients where those of an earlier run had none, and empty where none has any.
        """
        lists = [self.sites] if self.sites else self.client_names
        count = max(map(len, lists), default=0)
        return [" / ".join(dict.fromkeys(names[k] for names in lists if k < len(names))) for k in range(count)]

    def list_sites(self, stage: int) -> None:
        """Note who is there as a stage begins, where clients are sites; those that come later wait for the next."""
        missing = stage + 1 - len(self.site_lists)
        if self.sites and missing > 0:
            self.site_lists += [list(self.sites)] * missing

    def add_asked(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add who was asked for a token, each client once for a stage and task."""
        first = min((row["stage"] for row in rows), default=0)
        these = takewhile(lambda row: row["stage"] >= first, reversed(self.asked))  # they stand in the order of the stages
        known = {(row["stage"], row["client"], row["task"]) for row in these}
        self.asked += [dict(row) for row in rows if (row["stage"], row["client"], row["task"]) not in known]

    def add_site_scores(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add what sites tell of their own test records."""
        self.site_scores += map(dict, rows)

    def add_partition(self, table: Sequence[Mapping[str, Any]]) -> None:
        """Add how tasks are distributed; a task that comes back takes the place of itself."""
        rows = {(row["task"], row["dataset"]): dict(row) for row in [*self.partition, *table]}
        self.partition = list(rows.values())

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        matrix = {"datasets": list(self.matrix.datasets), "rows": self.matrix.to_list()}
        return {**values, "matrix": matrix, "traffic": asdict(self.traffic)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Progress":
        """Rebuild it from `to_dict`, also after JSON."""
        matrix = AccuracyMatrix.from_list(values["matrix"]["datasets"], values["matrix"]["rows"])
        return cls(**{**values, "matrix": matrix, "traffic": Traffic(**values["traffic"])})
