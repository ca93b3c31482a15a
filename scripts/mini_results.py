"""DISCO and sequential FedAvg on FCIT-mini over several seeds, and the centralized bound; then ``fcit-cli report`` of them.

    python scripts/mini_results.py --seeds 1 2 3

A run whose report is there already is not run again.
"""

import argparse
import subprocess
from pathlib import Path

BOUND = "centralized"  # one seed of it is enough to show where the bound lies
RUNS = {
    "fedavg": ["recipes/fcit_mini_fedavg.yaml"],
    "disco": ["recipes/fcit_mini_disco.yaml"],
    # its one LoRA of rank 64 diverges at the rate of a subspace
    BOUND: ["recipes/fcit_mini_disco.yaml", "fcit_reference=centralized", "learning_rate=1.0e-3"],
}


def main() -> None:
    """Run what is missing and put all runs side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--saves", type=Path, default=Path("saves/fcit_mini"))
    args = parser.parse_args()
    folders = []
    for name, recipe in RUNS.items():
        for seed in args.seeds[: 1 if name == BOUND else None]:
            folders.append(args.saves / f"{name}-seed{seed}")
            if not (folders[-1] / "fcit_report.json").exists():
                _call("llamafactory-cli", "train", *recipe, f"seed={seed}", f"output_dir={folders[-1]}")
    _call("fcit-cli", "report", *folders, "--out", args.saves / "report")


def _call(*command: object) -> None:
    print("$", *command, flush=True)
    subprocess.run([str(part) for part in command], check=True)


if __name__ == "__main__":
    main()
