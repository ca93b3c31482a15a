"""Clients in parallel, and a machine that is not alone: ``python benchmarks/parallel.py``.

The training phase of FCIT-mini (``recipes/fcit_mini_disco.yaml``, one round a stage, no evaluation), by the clock, in
fresh processes: with one process of one and of two threads, and with two processes of one thread each that train clients
of their own. Then the same beside a process that does nothing but compute, where threads that spin while they wait take
the time of those that they wait for. All take the same steps; ratios are of runs that followed each other.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median

import psutil

RECIPE = Path(__file__).parents[1] / "recipes" / "fcit_mini_disco.yaml"
SHORT = ("fcit_num_rounds=1", "fcit_eval_every=never", "save_total_limit=1", "plot_loss=false", "disable_tqdm=true")
#: Waiting threads of OpenMP's sleep at once.
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}


def run(processes: int, threads: int, more: list[str], env: dict[str, str]) -> tuple[float, float]:
    """Seconds of the training phase, and the part of the rounds in which the least busy process had work."""
    with tempfile.TemporaryDirectory() as folder:
        keys = [*SHORT, f"output_dir={folder}", f"fcit_threads={threads}", f"fcit_clients_per_device={processes}", *more]
        command = [sys.executable, "-m", "llamafactory.cli", "train", str(RECIPE), *keys]
        given = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
        given |= {"OMP_NUM_THREADS": str(threads), "LLAMAFACTORY_VERBOSITY": "DEBUG", **env}
        done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
        report = json.loads((Path(folder) / "fcit_report.json").read_text())
    busy = [json.loads(line.partition("Busy: ")[2]) for line in done.stdout.splitlines() if "Busy: " in line]
    whole = sum(one["whole"] for one in busy)
    shares = [sum(one["processes"][rank] for one in busy) / whole for rank in range(processes)] if whole else [1.0]
    return report["seconds"]["train"], min(shares)


@contextmanager
def busy_process() -> Iterator[None]:
    """Within the block another process computes without a pause."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            yield
        finally:
            other.kill()


def main() -> None:
    """Print the seconds and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind")
    parser.add_argument("--only", nargs="+", default=[], metavar="KIND", help="kinds by the beginnings of their names")
    parser.add_argument("keys", nargs="*", help="further keys of the recipe, such as num_train_epochs=1")
    args = parser.parse_args()
    kinds = {
        "one process, one thread": (1, 1, {}, nullcontext),
        "one process, two threads": (1, 2, {}, nullcontext),
        "two processes, one thread each": (2, 1, {}, nullcontext),
        "two threads that do not spin": (1, 2, PASSIVE, nullcontext),
        "two threads, beside a busy process": (1, 2, {}, busy_process),
        "two that do not spin, beside it": (1, 2, PASSIVE, busy_process),
        "one thread, beside it": (1, 1, {}, busy_process),
        "two processes, beside it": (2, 1, {}, busy_process),
    }
    kinds = {name: kind for name, kind in kinds.items() if not args.only or name.startswith(tuple(args.only))}
    if not kinds:
        sys.exit(f"No kind begins with {' or '.join(args.only)}.")
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    shares: dict[str, list[float]] = {name: [] for name in kinds}
    print(f"{psutil.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for _ in range(args.repeats):
        for name, (processes, threads, env, beside) in kinds.items():
            with beside():
                took, share = run(processes, threads, args.keys, env)
            seconds[name].append(took)
            shares[name].append(share)
            print(f"  {took:7.1f} s  {name}", flush=True)
    for name, found in seconds.items():
        print(f"{median(found):7.1f} s  {name} (busy {min(shares[name]):.2f})")
    for one, other, goal in (
        ("two processes, one thread each", "one process, two threads", "<= 0.75"),
        ("two processes, one thread each", "one process, one thread", "<= 0.53"),
        ("two threads that do not spin", "one process, two threads", ""),
        ("two threads, beside a busy process", "one process, two threads", ""),
        ("two that do not spin, beside it", "one process, two threads", ""),
        ("one thread, beside it", "one process, two threads", ""),
        ("two processes, beside it", "one process, two threads", ""),
    ):
        if one in kinds and other in kinds:
            found = median(mine / theirs for mine, theirs in zip(seconds[one], seconds[other], strict=True))
            print(f"{found:7.2f}  {one} : {other}  {goal}")


if __name__ == "__main__":
    main()
