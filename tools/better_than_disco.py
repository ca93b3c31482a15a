"""The tables of docs/research/better-than-disco.md and of README, from results/*.jsonl: paired differences, and what rules say.

    python tools/better_than_disco.py            # prints them
    python tools/better_than_disco.py --write    # puts them into the two pages

So a page cannot say more than the runs: what has no run is named as such, and a rule is applied to the seeds that it is for or
not at all.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from fcit_plugin.compare.grid_file import GridFile
from fcit_plugin.compare.results import Results, read_runs
from fcit_plugin.errors import FcitError, end_in_a_sentence
from fcit_plugin.evaluation.paired import Difference
from fcit_plugin.evaluation.report import Report
from fcit_plugin.evaluation.side_by_side import difference_of, paired_seeds
from fcit_plugin.evaluation.tables import markdown

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "research" / "better-than-disco.md"
START, END = "<!-- tables: start -->", "<!-- tables: end -->"

README = ROOT / "README.md"

#: On which seeds a change is chosen, and on which it is then confirmed.
CHOOSING, CONFIRMING = frozenset({1, 2, 3}), frozenset(range(11, 19))
#: Points of Last: the least mean gain that is pursued, and that wins; and what the interval's lower end may be at worst.
PURSUED, WON, NOT_LOST = 1.0, 2.0, -3.0

#: FCIT-mini's settings: what is tuned in a stage, and what of it a round has.
SETTINGS = ("task_hom", "task_het", "cap_hom", "cap_het")

#: The changes that were chosen and then confirmed.
CONFIRMED, PRODUCTS, FACTORS = "disco_relay_stage", "disco_svd", "disco_refactor"
BOTH = "disco_relay_refactor"
#: The grids, which share results/base.jsonl, and the rows of each that are changes to DISCO, not rivals or bounds.
EXPERIMENTS = {
    "base": ("disco_plus",),
    "others": (),
    "chance": (),
    "ladder": (),
    "server_step": ("disco_step", PRODUCTS),
    "relay": ("disco_relay", "disco_relay_chain", "disco_stage", "disco_relay_stage"),
    "confirm": (CONFIRMED,),
    "confirm_stage": ("disco_stage",),
    "confirm_svd": (PRODUCTS,),
    "stage_svd": (PRODUCTS, "disco_stage_svd"),
    "refactor": (FACTORS,),
    "confirm_refactor": (FACTORS,),
    "relay_refactor": (CONFIRMED, BOTH),
    "confirm_relay_refactor": (CONFIRMED, BOTH),
    "rates": (),
    "kinds_bound": (),
}
#: Changes that were tried and not taken, and the commit that has their code and their grid, trial.yaml: in history alone.
TRIED = ("disco_own_projector", "disco_moments", "disco_block_moments", "disco_pull")
TRIED_IN = "6197aa6"
#: README's rows: what each is called there, with a place for the number of its seeds, and its grid and name.
HEADLINE = (
    ("fedavg", "base", "fedavg"),
    ("ewc, above its own disco, {} seeds", "others", "ewc"),
    ("moe_lora, above its own disco, {} seeds", "others", "moe_lora"),
    ("o_lora", "base", "o_lora"),
    ("disco", "base", "disco"),
    ("disco_plus", "base", "disco_plus"),
    ("centralized, as many passes", "base", "centralized_equal"),
    ("disco_refactor, above its own disco, {} other seeds", "confirm_refactor", FACTORS),
    ("disco in a relay with new factors, above its own disco, {} other seeds", "confirm_relay_refactor", BOTH),
)
#: Rows of one seed that differ by chance alone.
NUDGES = tuple(f"nudge_{number}" for number in range(1, 6))


@dataclass(frozen=True)
class Pairs:
    """What one row has above another one, seed by seed.

    Attributes:
        last: in Last, points; None without a seed that both have.
        likelihood: in the negative log-likelihood of the right answers, nats a token: less is better.
    """

    last: Difference | None
    likelihood: Difference | None

    @classmethod
    def of(cls, ours: Mapping[int, Report], theirs: Mapping[int, Report], among: Set[int] | None = None) -> "Pairs":
        """Compare the runs of two rows by seed, `among` some seeds or by all that both have.

        Runs on another machine or with another number of threads are no pair (`Report.where`): last digits alone move Last by
        points.
        """
        seeds = paired_seeds(ours, theirs)
        seeds &= ours.keys() if among is None else among
        return cls(
            difference_of(ours, theirs, lambda report: report.last, seeds),
            difference_of(ours, theirs, lambda report: report.final_likelihood, seeds),
        )


def verdict(ours: Mapping[int, Report], theirs: Mapping[int, Report]) -> str:
    """What the rules say of a change: of seeds 11 to 18 whether the setting is won, else of 1 to 3 whether it is pursued.

    Other seeds, or fewer than all of these, decide nothing.
    """
    seeds = paired_seeds(ours, theirs)
    if not seeds:
        return "not run"
    if seeds & CONFIRMING:
        if not seeds >= CONFIRMING:
            return f"open: {len(seeds & CONFIRMING)} of {len(CONFIRMING)} confirming seeds"
        last = Pairs.of(ours, theirs, CONFIRMING).last
        assert last is not None and last.half is not None, "there are eight"
        if last.mean - last.half > 0 and last.mean >= WON:
            return "won"
        return "not lost" if last.mean - last.half > NOT_LOST else "lost"
    if not seeds >= CHOOSING:
        return f"open: {len(seeds & CHOOSING)} of {len(CHOOSING)} choosing seeds"
    pairs = Pairs.of(ours, theirs, CHOOSING)
    better = pairs.likelihood is not None and pairs.likelihood.mean < 0
    return "pursued" if better or (pairs.last is not None and pairs.last.mean >= PURSUED) else "dropped"


def section(name: str, candidates: Sequence[str], shown: set[tuple[str, str, int]], root: Path = ROOT) -> str:
    """Return the part of a grid: how much of it has been run, and a table for each setting in which it has runs of its own.

    Args:
        name: of the grid, whose runs are among the base's.
        candidates: its rows that the rules apply to.
        shown: setting, row and seed of the runs that stand in sections before it; those of this one are added.
        root: of the checkout.
    """
    grid, runs = GridFile(root / "recipes" / "compare" / f"{name}.yaml"), _runs_of(name, root)
    made = sum(len(seeds) for rows in runs.values() for seeds in rows.values())
    command = f"OMP_NUM_THREADS=1 fcit-cli compare recipes/compare/{name}.yaml --jobs 1 --to results/base.jsonl"
    blocks = [f"### {grid.title}", f"`{command}`: {made} of {len(grid.cells)} runs."]
    for setting, rows in runs.items():
        found = {(setting, row, seed) for row, seeds in rows.items() for seed in seeds}
        if found <= shown:
            continue  # they stand in tables above
        shown |= found
        blocks += [f"**{setting}**", markdown(_table(rows, str(grid.reference), candidates))]
        if nudges := [report for row in NUDGES for report in rows.get(row, {}).values()]:
            blocks.append(_chance(nudges))
    if apart := runs.get("apart", {}).get("disco"):
        pairs = Pairs.of(apart, runs.get("cap_hom", {}).get("disco", {}))
        blocks.append(f"`apart` above `cap_hom`, row disco: Last {_or_dash(pairs.last)}, NLL {_or_dash(pairs.likelihood)}.")
    return "\n\n".join(blocks)


def tried(root: Path = ROOT) -> str:
    """Return the part of the changes whose grid the checkout does not have: their runs are in results/base.jsonl."""
    grid = GridFile(root / "recipes" / "compare" / "base.yaml")
    file = root / "results" / "base.jsonl"
    runs = read_runs(grid, [file]) if file.exists() else {}
    where = f"git worktree add --detach trial {TRIED_IN} && cd trial"
    command = "OMP_NUM_THREADS=1 fcit-cli compare recipes/compare/trial.yaml --jobs 1 --to results/base.jsonl"
    blocks = ["### Tried, and in history alone", f"`{where} && {command}`"]
    for setting in SETTINGS:
        rows = {
            row: {seed: runs[name].report for seed in sorted(CHOOSING) if (name := f"{setting}/beta1/{row}/seed{seed}") in runs}
            for row in ("disco", *TRIED)
        }
        rows = {row: found for row, found in rows.items() if found}
        if rows.keys() & TRIED:
            blocks += [f"**{setting}**", markdown(_table(rows, "disco", TRIED))]
    return "\n\n".join(blocks)


def pooled(name: str, ours: str, theirs: str, root: Path = ROOT) -> str:
    """Return a sentence: what a row of earlier runs has above another one, over all pairs of a setting and a seed.

    Args:
        name: of the grid and of its results file.
        ours: row.
        theirs: row.
        root: of the checkout.
    """
    both = [(rows.get(ours, {}), rows.get(theirs, {})) for rows in _runs_of(name, root).values()]
    pairs = [(one[seed].last, other[seed].last) for one, other in both for seed in paired_seeds(one, other)]
    places = [(one, other) for one, other in pairs if one is not None and other is not None]
    if not places:
        return f"results/{name}.jsonl: no setting and seed has a run of {ours} and one of {theirs}."
    last = [{place: pair[which] for place, pair in enumerate(places)} for which in (0, 1)]
    gains = sum(a > b for a, b in zip(last[0].values(), last[1].values(), strict=True))
    return f"results/{name}.jsonl: {Difference.of(*last)} in Last over {len(places)} pairs, above 0 in {gains} of them."


def tables(root: Path = ROOT) -> str:
    """Return all parts."""
    shown: set[tuple[str, str, int]] = set()
    parts = [section(name, candidates, shown, root) for name, candidates in EXPERIMENTS.items()]
    earlier = [f"- {pooled(name, 'disco_plus', 'disco', root)}" for name in ("mini", "real")]
    return "\n\n".join([*parts, tried(root), "### Earlier runs: `disco_plus` above `disco`", "\n".join(earlier)])


def headline(root: Path = ROOT) -> str:
    """Return README's table: Last by row and setting, of the base over the seeds that all of its rows have."""
    runs = {grid: _runs_of(grid, root) for grid in dict.fromkeys(grid for _, grid, _ in HEADLINE)}
    rows = [row for _, grid, row in HEADLINE if grid == "base"]
    for setting, found in runs["base"].items():
        whole = set.intersection(*(set(found.get(row, {})) for row in rows))
        runs["base"][setting] = {row: {seed: found[row][seed] for seed in whole} for row in rows if whole}
    cells = [
        (
            label.format(_number_of_seeds(runs[grid], row)),
            [_headline_cell(runs[grid].get(setting, {}), row) for setting in SETTINGS],
        )
        for label, grid, row in HEADLINE
    ]
    return markdown([["Last", *SETTINGS], *([label, *told] for label, told in cells)])


def _number_of_seeds(runs: Mapping[str, Mapping[str, Mapping[int, Report]]], row: str) -> str:
    """How many seeds a row has in each setting; from fewest to most where they differ."""
    counts = sorted({len(runs.get(setting, {}).get(row, {})) for setting in SETTINGS})
    return " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]])))


def _headline_cell(rows: Mapping[str, Mapping[int, Report]], row: str) -> str:
    """The mean of a row and what it has above disco, with half of the 95 % interval from three pairs on."""
    if not (last := [report.last for report in rows.get(row, {}).values() if report.last is not None]):
        return ""
    difference = Pairs.of(rows[row], rows.get("disco", {})).last
    told = f"{fmean(last):.1f}"
    if row == "disco" or difference is None:
        return told
    if difference.half is not None and difference.pairs >= len(CHOOSING):
        return f"{told} ({difference.mean:+.1f} ± {difference.half:.1f})"
    return f"{told} ({difference.mean:+.1f}, {difference.pairs} seed{'s' * (difference.pairs > 1)})"


def _runs_of(name: str, root: Path) -> dict[str, dict[str, dict[int, Report]]]:
    """The runs of a grid at beta 1 that are in its results file, by setting, row and seed."""
    results = "base" if name in EXPERIMENTS else name
    grid, file = GridFile(root / "recipes" / "compare" / f"{name}.yaml"), root / "results" / f"{results}.jsonl"
    reports = Results(grid, [file]).reports() if file.exists() else {}
    runs: dict[str, dict[str, dict[int, Report]]] = {}
    for cell in grid.cells:
        if cell.beta == 1.0 and cell.name in reports:
            runs.setdefault(cell.setting, {}).setdefault(cell.row, {})[cell.seed] = reports[cell.name]
    return runs


def _table(rows: Mapping[str, Mapping[int, Report]], reference: str, candidates: Sequence[str]) -> list[list[str]]:
    table = [["", "seeds", "Last", "NLL", f"Last above {reference}", f"NLL above {reference}", "by the rules"]]
    for row, found in rows.items():
        pairs = Pairs.of(found, rows.get(reference, {}))
        known = [report.final_likelihood for report in found.values() if report.final_likelihood is not None]
        cells = [
            ", ".join(map(str, sorted(found))),
            _spread([r.last for r in found.values() if r.last is not None]),
            _spread(known),
        ]
        differences = ["", ""] if row == reference else [_or_dash(pairs.last), _or_dash(pairs.likelihood)]
        table.append([row, *cells, *differences, verdict(found, rows.get(reference, {})) if row in candidates else ""])
    return table


def _chance(reports: Sequence[Report]) -> str:
    last = [report.last for report in reports if report.last is not None]
    if len(last) < 2:
        return "One nudged run tells nothing of chance yet."
    told = f"{len(last)} nudged runs: sample standard deviation of Last {stdev(last):.2f}"
    return f"{told}, from {min(last):.2f} to {max(last):.2f}."


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{fmean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def _or_dash(difference: Difference | None) -> str:
    return "-" if difference is None else str(difference)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or put them into the two pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put them into the two pages")
    given = parser.parse_args(arguments)
    for page, made in ((PAGE, tables()), (README, headline())):
        if given.write:
            before, _, rest = page.read_text(encoding="utf-8").partition(START)
            if END not in rest:
                raise FcitError(f"{page} has no {START} with {END} behind it, where the tables go; put them in.")
            page.write_text(f"{before}{START}\n\n{made}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
        else:
            sys.stdout.write(f"{made}\n\n")


if __name__ == "__main__":
    end_in_a_sentence()
    main()
