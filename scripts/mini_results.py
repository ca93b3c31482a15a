"""DISCO and sequential FedAvg on FCIT-mini over several seeds, and the centralized bound; writes docs/results.md.

    python scripts/mini_results.py --seeds 1 2 3

A run whose report is there already is not run again.
"""

import argparse
import json
import statistics
import subprocess
from pathlib import Path

RUNS = {
    "FedAvg (sequential)": ("fcit_mini_fedavg.yaml", "fedavg"),
    "DISCO": ("fcit_mini_disco.yaml", "disco"),
    "centralized": ("fcit_mini_centralized.yaml", "centralized"),
}
BOUND = "centralized"  # one seed of it is enough to show where the bound lies
MEASURES = {"last": "Last", "avg": "Avg", "forgetting": "Forgetting", "bwt": "BWT"}
START, END = "<!-- mini: start -->", "<!-- mini: end -->"


def report_of(recipe: str, name: str, seed: int, saves: Path) -> dict:
    """The report of one run, which is made if it is not there."""
    folder = saves / f"{name}-seed{seed}"
    path = folder / "fcit_report.json"
    if not path.exists():
        command = ["llamafactory-cli", "train", f"recipes/{recipe}", f"seed={seed}", f"output_dir={folder}"]
        print("$", " ".join(command), flush=True)
        subprocess.run(command, check=True)
    return json.loads(path.read_text(encoding="utf-8"))


def zero_shot(report: dict) -> float:
    """Mean score of the untuned model."""
    return statistics.mean(report["zero_shot"].values())


def tables(reports: dict[str, dict[int, dict]]) -> str:
    """Markdown: every seed, then mean and standard deviation."""
    lines = ["| method | seed | Last | Avg | Forgetting | BWT | minutes |", "|---|---|---|---|---|---|---|"]
    for name, by_seed in reports.items():
        for seed, report in by_seed.items():
            cells = " | ".join(f"{report[key]:.2f}" for key in MEASURES)
            lines.append(f"| {name} | {seed} | {cells} | {report['seconds']['total'] / 60:.1f} |")
    lines += ["", "| method | Last | Avg | Forgetting |", "|---|---|---|---|"]
    untuned = zero_shot(next(iter(reports["DISCO"].values())))
    lines.append(f"| zero-shot | {untuned:.2f} | | |")
    for name, by_seed in reports.items():
        cells = []
        for key in ("last", "avg", "forgetting"):
            values = [report[key] for report in by_seed.values()]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.2f}{spread}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and write the tables between the marks in the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--saves", type=Path, default=Path("saves/fcit_mini"))
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"))
    args = parser.parse_args()
    reports = {
        name: {seed: report_of(recipe, folder, seed, args.saves) for seed in args.seeds[: 1 if name == BOUND else None]}
        for name, (recipe, folder) in RUNS.items()
    }
    text = args.out.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    args.out.write_text(f"{before}{START}\n{tables(reports)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    print(tables(reports))


if __name__ == "__main__":
    main()
