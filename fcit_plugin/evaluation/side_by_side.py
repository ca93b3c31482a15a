"""Several runs side by side: which belong together, mean and deviation over their seeds, as tables."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ..errors import printable
from ..files import write_rows
from .paired import Difference
from .plots import short_name
from .report import Report
from .tables import Rows, escaped, markdown

Measure = Callable[[Report], float | None]

#: The columns of a comparison: name -> number of a run, None where it has none.
MEASURES: dict[str, Measure] = {
    "Last": lambda report: report.last,
    "Avg": lambda report: report.avg,
    "Forgetting": lambda report: report.forgetting,
    "BWT": lambda report: report.bwt,
    "FWT": lambda report: report.fwt,
    "NLL": lambda report: report.final_likelihood,
    "MB sent": lambda report: report.bytes_up / 1e6,
    "MB received": lambda report: report.bytes_down / 1e6,
    "minutes": lambda report: report.seconds["total"] / 60,
}

#: Columns that older runs, and those that were told not to, have nothing of: shown if any run has.
_IF_THERE = ("NLL",)

#: Those of them whose differences are told.
PAIRED = ("Last", "Avg", "Forgetting", "BWT", "NLL")

#: Arguments that tell no runs apart: what differs between seeds, what has a place of its own, what moves no score.
_ASIDE = {"seed", "fcit_method", "fcit_setting", "fcit_zero_shot"}
_ASIDE |= {"fcit_eval_every", "fcit_eval_restricted", "fcit_eval_likelihood"}


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of some runs; no deviation of a single one.

    Attributes:
        mean: of those that have the number.
        deviation: of them.
        count: how many they are.
    """

    mean: float
    deviation: float | None
    count: int = 1

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Spread | None":
        """Return that of the values that are there, None if there are none."""
        known = [value for value in values if value is not None]
        return cls(fmean(known), stdev(known) if len(known) > 1 else None, len(known)) if known else None

    def __str__(self) -> str:
        return f"{self.mean:.2f}" + ("" if self.deviation is None else f" ± {self.deviation:.2f}")


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed.

    Attributes:
        label: method, and the arguments in which it differs from the other groups of the comparison.
        reports: of the runs, by seed.
    """

    label: str
    reports: tuple[Report, ...]

    def spread(self, measure: Measure) -> Spread | None:
        """Return mean and deviation of a measure over the runs."""
        return Spread.of([measure(report) for report in self.reports])

    def above(self, other: "Group", measure: Measure) -> Difference | None:
        """Return what the runs have of a measure above another group's of the same seeds, as far as they are pairs."""
        return difference_of(self.by_seed, other.by_seed, measure, paired_seeds(self.by_seed, other.by_seed))

    @property
    def by_seed(self) -> dict[int, Report]:
        """The runs that have a seed; what was published has none."""
        return {report.seed: report for report in self.reports if report.seed is not None}

    def final_score(self, dataset: str) -> Spread | None:
        """Return mean and deviation of a dataset's score after the last stage."""
        return self.spread(lambda report: report.final_scores.get(dataset))

    def matrix(self, datasets: Sequence[str]) -> list[list[Spread | None]]:
        """Return mean and deviation of the score of each dataset after each stage."""
        return [[self._score(stage, name) for name in datasets] for stage in range(self._num_stages)]

    def curve(self) -> list[Spread | None]:
        """Return, stage by stage, mean and deviation of the mean score over the datasets seen so far."""
        return [self._seen_mean(stage) for stage in range(self._num_stages)]

    @property
    def _num_stages(self) -> int:
        return max(len(report.accuracy) for report in self.reports)

    def _score(self, stage: int, dataset: str) -> Spread | None:
        return self.spread(lambda report: report.scores_after(stage).get(dataset))

    def _seen_mean(self, stage: int) -> Spread | None:
        return self.spread(lambda report: fmean(seen.values()) if (seen := report.scores_after(stage)) else None)


@dataclass(frozen=True)
class Comparison:
    """Groups of runs of one setting on the same datasets.

    Attributes:
        setting: of all runs.
        datasets: names, in the order of the first run.
        groups: by their Last, the best at the end.
        zero_shot: scores of the untuned model by label: one, unless the runs had different untuned models.
        reference: label of the group that differences are taken from, None for no differences.
    """

    setting: str
    datasets: tuple[str, ...]
    groups: tuple[Group, ...]
    zero_shot: dict[str, dict[str, float]]
    reference: str | None = None

    @property
    def title(self) -> str:
        """Setting and size."""
        stages = max(len(report.stages) for group in self.groups for report in group.reports)
        return f"{self.setting}: {_count(stages, 'stage')}, {_count(len(self.datasets), 'dataset')}"


def paired_seeds(ours: Mapping[int, Report], theirs: Mapping[int, Report]) -> set[int]:
    """Return the seeds of which two recipes' runs make pairs: both have them, of one machine and number of threads."""
    return {seed for seed in ours.keys() & theirs.keys() if ours[seed].where == theirs[seed].where}


def difference_of(
    ours: Mapping[int, Report], theirs: Mapping[int, Report], measure: Measure, seeds: Collection[int]
) -> Difference | None:
    """Return what one recipe's runs have of a measure above another's.

    Args:
        ours: runs by seed.
        theirs: likewise.
        measure: of a run; a seed of which one has none is left out.
        seeds: that both have, see :func:`paired_seeds`.
    """
    numbers = [{seed: measure(runs[seed]) for seed in seeds} for runs in (ours, theirs)]
    return Difference.of(*({seed: number for seed, number in one.items() if number is not None} for one in numbers))


def compare(reports: Mapping[str, Report]) -> list[Comparison]:
    """Sort runs into comparisons by setting and datasets, and there into groups by all but the seed.

    Differences are taken from the group of the first run of a comparison.

    Runs of one group that share a seed cannot be told apart by their reports; each becomes a group of its own under its name.

    Args:
        reports: by the name to call the run if nothing else tells it from another, such as its folder.
    """
    tables: dict[Any, dict[str, Report]] = {}
    for name, report in reports.items():
        tables.setdefault((report.setting, frozenset(report.datasets)), {})[name] = report
    return [_make_comparison(members) for members in tables.values()]


def side_by_side(setting: str, groups: Mapping[str, Sequence[Report]], reference: str | None = None) -> Comparison:
    """Compare groups that are known already, in their order.

    Args:
        setting: what to call it.
        groups: reports of runs that differ in the seed alone, by label; at least one report each. If the untuned model is
            among them it has no other row.
        reference: label of the group that differences are taken from.
    """
    made = [Group(label, tuple(sorted(reports, key=_by_seed))) for label, reports in groups.items()]
    datasets = made[0].reports[0].datasets
    has_own = any(report.reference == "zero_shot" for group in made for report in group.reports)
    zero_shot = {} if has_own else _zero_shot_scores(made, datasets)
    return Comparison(setting, tuple(datasets), tuple(made), zero_shot, reference)


def summary_rows(comparison: Comparison, measures: Mapping[str, Measure] = MEASURES) -> Rows:
    """Return the table of summaries: zero-shot, then one row for each group; without what no run of these has measured."""
    there = {name for name, m in measures.items() if any(group.spread(m) for group in comparison.groups)}
    measures = {name: m for name, m in measures.items() if name in there or name not in _IF_THERE}
    rows = [["", "runs", *measures]]
    for label, scores in comparison.zero_shot.items():
        rows.append([label, "", f"{fmean(scores.values()):.2f}", *[""] * (len(measures) - 1)])
    for group in comparison.groups:
        rows.append([group.label, str(len(group.reports)), *(_cell(group.spread(m), group) for m in measures.values())])
    return rows


def final_rows(comparison: Comparison) -> Rows:
    """Return the table of scores after the last stage, a column for each dataset."""
    rows = [["", *map(short_name, comparison.datasets)]]
    for label, scores in comparison.zero_shot.items():
        rows.append([label, *(f"{scores[name]:.2f}" for name in comparison.datasets)])
    for group in comparison.groups:
        rows.append([group.label, *(_cell(group.final_score(name), group) for name in comparison.datasets)])
    return rows


def difference_rows(comparison: Comparison, measures: Mapping[str, Measure]) -> Rows:
    """Return the table of paired differences from the reference: measures that are there, groups that share a seed with it.

    No row but the header if there is nothing to compare; a row for each group where they share seeds and make no pair at all.
    """
    base, others = _reference_and_others(comparison)
    found = {group.label: [group.above(base, m) for m in measures.values()] for group in others} if base else {}
    kept = [i for i in range(len(measures)) if any(row[i] is not None for row in found.values())]
    pairs = {label: max((one.pairs for one in row if one is not None), default=0) for label, row in found.items()}
    shown = [label for label, count in pairs.items() if count] or [group.label for group in others if _seeds_apart(group, base)]
    rows: list[list[str]] = [["", "paired seeds", *([*measures][i] for i in kept)]]
    for label in shown:
        rows.append([label, str(pairs[label]), *(_difference_cell(found[label][i], pairs[label]) for i in kept)])
    return rows


def difference_title(comparison: Comparison) -> str:
    """Return what stands above :func:`difference_rows`: how they are to be read, and which runs are no pairs."""
    base, others = _reference_and_others(comparison)
    told = "mean and its 95 % interval (Student's t); of one seed the difference alone, which says little"
    apart = [f"{group.label} seeds {', '.join(map(str, seeds))}" for group in others if (seeds := _seeds_apart(group, base))]
    if apart:
        told += ". No pairs, for their reports name different machines or numbers of threads, or one names none: "
        told += "; ".join(apart)
    return f"Above {comparison.reference}, seed by seed: {told}"


def _reference_and_others(comparison: Comparison) -> tuple[Group | None, list[Group]]:
    base = next((group for group in comparison.groups if group.label == comparison.reference), None)
    return base, [group for group in comparison.groups if base is not None and group is not base]


def _seeds_apart(group: Group, base: Group | None) -> list[int]:
    """The seeds that both have and that are no pairs."""
    if base is None:
        return []
    return sorted((group.by_seed.keys() & base.by_seed.keys()) - paired_seeds(group.by_seed, base.by_seed))


def render(comparisons: Sequence[Comparison], form: Callable[[Rows], str]) -> str:
    """Return all tables as one text.

    Args:
        comparisons: from `compare`.
        form: `tables.plain` or `tables.markdown`.
    """
    shown = escaped if form is markdown else printable
    blocks = []
    for comparison in comparisons:
        blocks += [f"{shown(comparison.title)}. Mean ± standard deviation over the runs:", form(summary_rows(comparison))]
        blocks += ["Score after the last stage:", form(final_rows(comparison))]
        differences = difference_rows(comparison, {name: MEASURES[name] for name in PAIRED})
        if len(differences) > 1:
            blocks += [f"{shown(difference_title(comparison))}:", form(differences)]
    return "\n\n".join(blocks)


def write_csv(comparisons: Sequence[Comparison], path: str | PathLike[str], measures: Mapping[str, Measure] = MEASURES) -> None:
    """Write one line for each group: mean and deviation of every measure and of every dataset after the last stage."""
    names = list(dict.fromkeys(name for comparison in comparisons for name in comparison.datasets))
    numbers = [*measures, *names]
    rows: list[list[Any]] = [["setting", "method", "runs", "seeds", *(f"{n}{s}" for n in numbers for s in ("", " deviation"))]]
    for comparison in comparisons:
        for label, scores in comparison.zero_shot.items():
            found: dict[str, Spread | None] = {"Last": Spread(fmean(scores.values()), None)}
            found |= {name: Spread(score, None) for name, score in scores.items()}
            rows.append([comparison.setting, label, "", "", *_numbers(found, numbers)])
        for group in comparison.groups:
            found = {name: group.spread(measure) for name, measure in measures.items()}
            found |= {name: group.final_score(name) for name in comparison.datasets}
            seeds = " ".join(str(report.seed) for report in group.reports if report.seed is not None)
            rows.append([comparison.setting, group.label, len(group.reports), seeds, *_numbers(found, numbers)])
    write_rows(Path(path), rows)


def _make_comparison(reports: Mapping[str, Report]) -> Comparison:
    by_recipe: dict[str, dict[str, Report]] = {}
    for name, report in reports.items():
        recipe = [report.method, report.stages, _arguments(report)]
        by_recipe.setdefault(json.dumps(recipe, sort_keys=True), {})[name] = report
    parts: list[dict[str, Report]] = []
    for members in by_recipe.values():
        seeds = [report.seed for report in members.values()]
        told_apart = len(set(seeds)) == len(seeds) and None not in seeds
        parts += [members] if told_apart else [{name: report} for name, report in members.items()]

    labels = [_label(next(iter(part.values())), list(reports.values())) for part in parts]
    groups = []
    for part, label in zip(parts, labels, strict=True):
        told = label if labels.count(label) == 1 else f"{label} ({next(iter(part))})"
        groups.append(Group(told, tuple(sorted(part.values(), key=_by_seed))))
    reference = groups[0].label
    groups.sort(key=lambda group: (last.mean if (last := group.spread(MEASURES["Last"])) else -1.0, group.label))

    first = next(iter(reports.values()))
    zero_shot = _zero_shot_scores(groups, first.datasets)
    return Comparison(first.setting, tuple(first.datasets), tuple(groups), zero_shot, reference)


def _by_seed(report: Report) -> int:
    return -1 if report.seed is None else report.seed


def _arguments(report: Report) -> dict[str, Any]:
    """The arguments that tell runs apart."""
    return {key: value for key, value in report.arguments.items() if key not in _ASIDE}


def _label(report: Report, among: Sequence[Report]) -> str:
    """Method and the arguments that are not the same in all runs; an argument at its default is not in a report.

    A bound differs from methods in much that it does not choose, so it is told from runs of its own kind alone.
    """
    peers = [other for other in among if other.reference == report.reference]
    own = _arguments(report)

    def differs(key: str, other: Report) -> bool:
        published = other.seed is None  # it does not say all of its arguments
        return other.arguments.get(key) != own[key] and not (published and key not in other.arguments)

    differing = [key for key in own if any(differs(key, other) for other in peers)]
    return ", ".join([report.method, *(f"{key.removeprefix('fcit_')}={_value_text(own[key])}" for key in differing)])


def _zero_shot_scores(groups: Sequence[Group], datasets: Sequence[str]) -> dict[str, dict[str, float]]:
    """The different scores of the untuned model, of the runs that have one for each dataset."""
    found: dict[tuple[float, ...], list[str]] = {}
    for group in groups:
        for report in group.reports:
            if datasets and set(report.zero_shot) >= set(datasets):
                scores = tuple(report.zero_shot[name] for name in datasets)
                found.setdefault(scores, []).append(group.label)
    only = len(found) == 1
    return {
        "zero-shot" if only else f"zero-shot ({'; '.join(dict.fromkeys(labels))})": dict(zip(datasets, scores, strict=True))
        for scores, labels in found.items()
    }


def _numbers(found: Mapping[str, Spread | None], names: Sequence[str]) -> list[float | str]:
    cells: list[float | str] = []
    for name in names:
        spread = found.get(name)
        cells += ["", ""] if spread is None else [spread.mean, "" if spread.deviation is None else spread.deviation]
    return cells


def fewer_runs(spread: Spread, group: Group) -> str:
    """Return what stands behind the mean of fewer runs than a group has, such as " (2 runs)"; nothing behind that of all."""
    return f" ({_count(spread.count, 'run')})" if spread.count < len(group.reports) else ""


def _cell(spread: Spread | None, group: Group) -> str:
    return "-" if spread is None else f"{spread}{fewer_runs(spread, group)}"


def _difference_cell(difference: Difference | None, pairs: int) -> str:
    """A difference, with its number of pairs where others of its row have more."""
    if difference is None:
        return "-"
    return str(difference) + (f" ({_count(difference.pairs, 'pair')})" if difference.pairs < pairs else "")


def _value_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
