"""The tables of a report's page: every number is that of the report, with the place that it has there."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from .matrix import Row
from .plots import short_name
from .report import Report


class Figure(NamedTuple):
    """A number of the report.

    Attributes:
        key: Its place there: keys and positions between dots.
        value: It itself.
        shown: As people read it.
    """

    key: str
    value: float | int
    shown: str

    @property
    def exact(self) -> str:
        """As JSON has it."""
        return json.dumps(self.value)

    @property
    def shade(self) -> int | None:
        """How dark a score's cell is, from 0 to 10; None for other numbers."""
        scored = self.key.startswith(("accuracy", "zero_shot")) and isinstance(self.value, float)
        return max(0, min(10, round(self.value / 10))) if scored else None


Cell = str | Figure | None
#: Letters of names in a cell; the clients are counted where they have more.
_LISTED = 80


@dataclass(frozen=True)
class Table:
    """Rows under a header.

    Attributes:
        caption: What it is.
        header: Names of the columns; the first column names the rows.
        rows: Cells.
        about: What to know to read it.
        left_out: How many rows more there are.
        columns_left_out: How many columns more.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    about: str = ""
    left_out: int = 0
    columns_left_out: int = 0


@dataclass(frozen=True)
class Limits:
    """How much of long tables is shown, that a page stays small."""

    rows: int
    columns: int


@dataclass(frozen=True)
class Tables:
    """The tables of one report.

    Attributes:
        report: The report.
        limits: How much of them is made.
    """

    report: Report
    limits: Limits
    values: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", self.report.to_dict())

    def summary(self) -> list[tuple[str, Cell]]:
        """Return the summaries by name, and their deviation where there is one."""
        found: list[tuple[str, Cell]] = []
        for name in self.report.summaries:
            found.append((name, self._figure(name.lower())))
            if name.lower() in (self.report.spread or {}):
                found.append((f"{name}: deviation over clients", self._figure("spread", name.lower())))
        return found

    def after(self, stage: int) -> Table:
        """Return the scores after one stage."""
        names = self.report.datasets
        rows = [(short_name(name), self._figure("accuracy", stage, i)) for i, name in enumerate(names)]
        return self._table(f"After stage {stage}", ["dataset", "score"], [row for row in rows if row[1] is not None])

    def scores(self) -> list[Table]:
        """Return the matrices, stages down and datasets across, and the scores by further metrics."""
        untuned, likely = self._by_name("zero_shot"), self._by_name("likelihood_untuned")
        found = [
            self._matrix("Score after each stage", "accuracy", self.report.accuracy, untuned),
            self._matrix(
                "Score with answers restricted to the dataset's own labels",
                "accuracy_restricted",
                self.report.accuracy_restricted,
            ),
            self._matrix(
                "Negative log-likelihood of the right answers, nats a token",
                "likelihood",
                self.report.likelihood or [],
                likely,
            ),
        ]
        others: list[tuple[Cell, ...]] = [
            (f"stage {stage}", short_name(name), metric, self._figure("scores_other", stage, name, metric))
            for stage, row in enumerate(self.report.scores_other)
            for name, metrics in row.items()
            for metric in metrics
        ]
        found.append(self._table("Scores by further metrics", ["after", "dataset", "metric", "score"], others))
        alone = [
            (self.report.client(int(client)), name, self._figure("clients", client, name))
            for client, numbers in (self.report.clients or {}).items()
            for name in numbers
        ]
        found.append(self._table("Clients that learned alone", ["client", "summary", "value"], alone))
        own = [
            (
                *(row["site"], short_name(row["dataset"]), row["metric"]),
                *(self._figure("site_scores", i, key) for key in ("stage", "score", "records")),
            )
            for i, row in enumerate(self.report.site_scores or [])
        ]
        header = ["site", "dataset", "metric", "after stage", "score", "records"]
        found.append(self._table("Sites on their own test records", header, own))
        return [table for table in found if table.rows]

    def subspaces(self) -> list[Table]:
        """Return who trained which subspace: an overview, each training, and the error of the averaged products."""
        rows = self.report.assignments
        met: dict[int, dict[int, dict[str, list[int]]]] = {}
        for row in rows:
            tasks = met.setdefault(row["subspace"], {}).setdefault(row["stage"], {})
            clients = tasks.setdefault(row["task"], [])
            if row["client"] not in clients:
                clients.append(row["client"])
        stages = sorted({row["stage"] for row in rows})
        overview = [(f"subspace {k}", *(self._who(met[k].get(stage, {})) for stage in stages)) for k in sorted(met)]
        name, named = self._named()
        header = ["stage", "round", "client", "subspace", "cosine"]
        each = (
            (row["task"], *named(row["client"]), *(self._figure("assignments", i, key) for key in header))
            for i, row in enumerate(rows)
        )
        errors = (
            tuple(self._figure("product_errors", i, key) for key in ("stage", "round", "subspace", "error"))
            for i in range(len(self.report.product_errors))
        )
        found = [
            self._table("Who went to which subspace", ["", *(f"stage {stage}" for stage in stages)], overview),
            self._between(),
            self._table(
                "Each training, and how near the client's identity token was to the subspace",
                ["task", *name, *header],
                each,
                len(rows),
                "A cosine that is not there: the method needs none, the client told none, or the subspace was new.",
            ),
            self._table(
                "Relative error of the averaged products",
                ["stage", "round", "subspace", "error"],
                errors,
                len(self.report.product_errors),
                "What averaging the factors of a LoRA leaves of the average of their products.",
            ),
        ]
        return [table for table in found if table.rows]

    def _who(self, tasks: Mapping[str, Sequence[int]]) -> str:
        return "; ".join(f"{task}: {self._list(clients)}" for task, clients in tasks.items())

    def _list(self, clients: Sequence[int]) -> str:
        named = ", ".join(map(self.report.client, sorted(clients)))
        if len(clients) > 8 or (self.report.names and len(named) > _LISTED):
            return f"{len(clients)} client{'s' * (len(clients) > 1)}"
        if self.report.names:
            return named
        return f"client{'s' * (len(clients) > 1)} {', '.join(map(str, sorted(clients)))}"

    def _named(self) -> tuple[list[str], Callable[[int], list[str]]]:
        """The head of a column with the clients' names and what stands in it; none where they have numbers alone."""
        return (["name"], lambda client: [self.report.client(client)]) if self.report.names else ([], lambda client: [])

    def _between(self) -> Table:
        """How near subspaces are to each other."""
        count = len(self.report.subspace_cosines or [])
        names = [f"subspace {k}" for k in range(count)]
        rows = [(name, *(self._figure("subspace_cosines", k, i) for i in range(count))) for k, name in enumerate(names)]
        about = "Cosines between their identity tokens: a client joins from fcit_similarity_threshold on."
        return self._table("How near the subspaces are to each other", ["", *names], rows, about=about)

    def clients(self) -> list[Table]:
        """Return who has which records, and who was left out."""
        shares = self.report.partition
        count = max((len(share["records"]) for share in shares), default=0)
        names = [
            name if name == task else f"{task}: {name}"
            for name, task in ((share["dataset"], share["task"]) for share in shares)
        ]
        dealt = (
            (
                self.report.client(client),
                *(
                    self._figure("partition", i, "records", client) if client < len(share["records"]) else None
                    for i, share in enumerate(shares[: self.limits.columns])
                ),
            )
            for client in range(count)
        )
        name, named = self._named()
        found = [self._table("Records of each client", ["", *map(short_name, names)], dealt, count)]
        for key, caption in (("dropped", "Left out of a round"), ("idle", "Took part and could not take a step")):
            those = self.values.get(key) or []
            absent = (
                (*named(row["client"]), row["reason"], *(self._figure(key, i, part) for part in ("stage", "round", "client")))
                for i, row in enumerate(those)
            )
            found.append(self._table(caption, [*name, "reason", "stage", "round", "client"], absent, len(those)))
        unused = [(short_name(name), self._figure("left_out", name)) for name in self.report.left_out or {}]
        found.append(self._table("Records not used, as LLaMA-Factory does not use them", ["dataset", "records"], unused))
        return [table for table in found if table.rows]

    def cost(self) -> list[Table]:
        """Return bytes and time."""
        traffic = [(label, self._figure(key)) for key, label in (("bytes_up", "sent by clients"), ("bytes_down", "received"))]
        seconds = [(name, self._figure("seconds", name)) for name in self.report.seconds]
        return [
            self._table("Bytes that traveled", ["", "bytes"], traffic),
            self._table("Seconds", ["", "seconds"], seconds),
        ]

    def privacy(self) -> list[Table]:
        """Return what noise was added and what it comes to."""
        return self._tree("Privacy", "privacy")

    def recipe(self) -> list[Table]:
        """Return the keys that decide the run's numbers, its own and those of runs that it goes on from."""
        found = self._tree("Keys that decide the numbers and are not at their default", "arguments")
        found += self._tree("Runs that this one goes on from", "earlier")
        if self.report.seed is not None:
            found.append(self._table("Seed", ["", "value"], [("seed", self._figure("seed"))]))
        return found

    def machine(self) -> list[Table]:
        """Return how the run was computed."""
        return self._tree("How it was computed", "engine")

    def _by_name(self, key: str) -> list[Cell]:
        known = self.values.get(key) or {}
        return [self._figure(key, name) if name in known else None for name in self.report.datasets]

    def _matrix(self, caption: str, key: str, rows: Sequence[Row], untuned: Sequence[Cell] = ()) -> Table:
        lines: list[tuple[str, Sequence[Cell]]] = [("untuned", untuned)]
        lines += [(f"stage {stage}", [self._figure(key, stage, i) for i in range(len(row))]) for stage, row in enumerate(rows)]
        filled = [(name, *cells) for name, cells in lines if any(cell is not None for cell in cells)]
        return self._table(caption, ["", *map(short_name, self.report.datasets)], filled)

    def _tree(self, caption: str, key: str) -> list[Table]:
        """All leaves below a key of the report, each with its way there."""
        value = self.values.get(key)
        rows = [(".".join(map(str, way)), self._leaf(leaf, key, *way)) for way, leaf in _leaves(value)] if value else []
        return [self._table(caption, ["key", "value"], rows)] if rows else []

    def _leaf(self, value: Any, *way: str | int) -> Cell:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return Figure(".".join(map(str, way)), value, f"{value:g}" if isinstance(value, float) else str(value))

    def _figure(self, *way: str | int) -> Cell:
        """The number at a place of the report; None where there is none."""
        value: Any = self.values
        for part in way:
            value = value[part]
        if value is None:
            return None
        key = ".".join(map(str, way))
        return Figure(key, value, f"{value:,}" if isinstance(value, int) else _brief(key, value))

    def _table(
        self, caption: str, header: Sequence[str], rows: Iterable[Sequence[Cell]], count: int | None = None, about: str = ""
    ) -> Table:
        """Of rows, of which there are `count`, those within the limits: others are not even made."""
        if count is None:
            rows = list(rows)
            count = len(rows)
        wide = self.limits.columns
        cut = [row[:wide] for row in islice(rows, self.limits.rows)]
        return Table(caption, header[:wide], cut, about, count - len(cut), max(0, len(header) - wide))


def _brief(key: str, value: float) -> str:
    few = key.startswith(("likelihood", "assignments", "product_errors", "subspace_cosines"))
    return f"{value:.4g}" if few else f"{value:.2f}"


def _leaves(value: Any, way: tuple[str | int, ...] = ()) -> Iterable[tuple[tuple[str | int, ...], Any]]:
    """The leaves of plain JSON; a list of words or an empty one is one."""
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            yield from _leaves(part, (*way, key))
    elif isinstance(value, list) and any(isinstance(part, Mapping | list | int | float) for part in value):
        for i, part in enumerate(value):
            yield from _leaves(part, (*way, i))
    else:
        yield way, value
