"""Proof that a run killed at any moment ends in the same bits: kill real runs with SIGKILL, go on, compare.

    python tools/kill_proof.py --kills 40

The recipe is recipes/fcit_text_tiny.yaml on a few records, with FedAvgM, whose momentum is state as well. A process that
has done the imports forks one child per start. A child tells over a pipe when a phase begins and ends, and the parent
kills it at a random moment of a phase; or the child kills itself right before its n-th file operation on a commit or a
kept reply. The next child goes on with `resume_from_checkpoint: true`. A run is killed again and again until it comes to
its end, which is compared with that of a run nobody killed: all tensors, tokens, scores, logs, pictures, and
TensorBoard scalars; only times may differ.
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.update(
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    MPLBACKEND="Agg",
)

import flwr.serverapp.strategy  # all imports happen before the first fork  # noqa: F401
import torch
import wrapt
import yaml
from llamafactory.train.tuner import run_exp

import fcit_plugin.engine.stages  # noqa: F401
from fcit_plugin.samples.text import text_model_path, write_text_tasks

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from children import LIMIT, fork
from forked import warm
from runs import differences, outcome

torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]

SMALL = {
    "max_samples": 40,
    "fcit_min_client_samples": 8,
    "num_train_epochs": 1.0,
    "fcit_eval_samples": 8,
    "fcit_server_rule": "fedavgm",
}
#: The functions that are the phases of a run.
PHASES = {
    "start and resume": ("fcit_plugin.engine.open_session", "read_setup"),
    "local training": ("fcit_plugin.engine.client_training", "LocalTrainer.train"),
    "keeping a reply": ("fcit_plugin.federation.reply_cache", "seal"),
    "aggregation": ("fcit_plugin.federation.round", "Round.fold"),
    "evaluation": ("fcit_plugin.engine.evaluator", "Evaluator.evaluate"),
    "commit": ("fcit_plugin.state.checkpoints", "Checkpoints.commit"),
    "writing the results": ("fcit_plugin.engine.run", "write_results"),
}
ONCE = ("start and resume", "writing the results")
#: The child kills itself: right before a file operation of a commit or of keeping a reply.
FILE_OPERATION = "commit or keeping, before a file operation"
BETWEEN = "between these"


class Child:
    """One start of a run in a process of its own."""

    def __init__(self, keys: dict[str, Any], log: Path, file_operation: int = 0) -> None:
        reader, writer = os.pipe()
        sys.stdout.flush()
        self.pid = fork()
        if self.pid == 0:
            os.close(reader)
            _child(keys, log, writer, file_operation)
        os.close(writer)
        self._marks = os.fdopen(reader, "r")
        self.open: list[str] = []
        self.spent: dict[str, list[float]] = {}
        self.file_operations = 0
        self._since: list[float] = []

    def until(self, stop: str | None = None, times: int = 1) -> bool:
        """Read marks until a phase begins for the n-th time; False if the process ended before."""
        for line in self._marks:
            kind, phase = line[0], line[1:-1]
            if kind == "=":
                self.file_operations = int(phase)
            elif kind == ">":
                self.open.append(phase)
                self._since.append(time.monotonic())
                times -= phase == stop
                if times == 0:
                    return True
            else:
                self.open.pop()
                self.spent.setdefault(phase, []).append(time.monotonic() - self._since.pop())
        return False

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> bool:
        """Whether it came to its end; False if it was killed.

        Raises:
            RuntimeError: It failed by itself, or did not end within :data:`children.LIMIT` seconds.
        """
        self.until()  # what it told before it died
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if code == -signal.SIGALRM:
            raise RuntimeError(f"The run did not end within {LIMIT} seconds.")
        if code not in (0, -signal.SIGKILL):
            raise RuntimeError(f"The run failed by itself with exit code {code}.")
        return code == 0


def _child(keys: dict[str, Any], log: Path, writer: int, file_operation: int) -> None:
    """Run the recipe and tell the parent of its phases; never returns."""
    code = 1
    try:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        for phase, (module, name) in PHASES.items():
            wrapt.wrap_function_wrapper(module, name, _telling(phase, writer))
        count = _count_file_operations(file_operation)
        run_exp(dict(keys))
        os.write(writer, f"={count[0]}\n".encode())
        sys.stdout.flush()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _telling(phase: str, writer: int):
    def wrapper(wrapped, instance, args, kwargs):
        os.write(writer, f">{phase}\n".encode())
        try:
            return wrapped(*args, **kwargs)
        finally:
            os.write(writer, f"<{phase}\n".encode())

    return wrapper


def _count_file_operations(kill_at: int) -> list[int]:
    """Count operations on files and folders below ``checkpoints``, of which Python tells, and die right before one."""
    count = [0]

    def hook(event: str, args: tuple) -> None:
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir") and "checkpoints" in str(args):
            count[0] += 1
            if count[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return count


def proof(keys: dict[str, Any], folder: Path, kills: int, seed: int) -> tuple[Counter, list[list[str]]]:
    """Kill and go on until there were enough kills.

    Returns:
        Kills by phase; for each run what differs at its end from the run that nobody killed.
    """
    draw = random.Random(seed)
    log = folder / "log.txt"
    whole = Child({**keys, "output_dir": str(folder / "whole")}, log)
    assert whole.wait()
    expected = outcome(folder / "whole")
    durations = {phase: sum(spent) / len(spent) for phase, spent in whole.spent.items()}

    killed: Counter = Counter()
    ends: list[list[str]] = []
    while sum(killed.values()) < kills:
        run = {**keys, "output_dir": str(folder / f"run{len(ends)}")}
        starts = 0
        while True:
            starts += 1
            phase = min([*PHASES, FILE_OPERATION], key=lambda p: (killed[p], draw.random()))
            if sum(killed.values()) == kills:
                child = Child(run, log)
            elif phase == FILE_OPERATION:
                child = Child(run, log, file_operation=draw.randint(1, whole.file_operations // 2))
            else:
                child = Child(run, log)
                if child.until(phase, times=1 if phase in ONCE else draw.randint(1, 3)):
                    time.sleep(draw.random() * durations[phase])
                    child.kill()
            if child.wait():
                break
            hit = FILE_OPERATION if phase == FILE_OPERATION else (child.open or [BETWEEN])[-1]
            killed[hit] += 1
            print(f"run {len(ends)}, start {starts}: killed in {hit}", flush=True)
            run["resume_from_checkpoint"] = True
        ends.append(differences(outcome(Path(run["output_dir"])), expected))
        print(f"run {len(ends) - 1}: {starts} starts, {ends[-1] or 'identical'}", flush=True)
    return killed, ends


@contextlib.contextmanager
def workplace(given: Path | None) -> Iterator[Path]:
    """Within the block there is the folder that was given, else a temporary one."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def main() -> None:
    """Kill runs, start them again, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40, help="how many kills in all")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    args = parser.parse_args()
    with workplace(args.work) as folder:
        write_text_tasks(folder / "data", seed=0)
        keys = yaml.safe_load((ROOT / "recipes" / "fcit_text_tiny.yaml").read_text())
        text_model_path()  # made before the first fork
        warm()
        keys |= SMALL | {
            "dataset_dir": str(folder / "data"),
            "disable_tqdm": True,
            "logging_steps": 1,
            "report_to": "tensorboard",
            "fcit_keep_client_updates": True,
        }
        killed, ends = proof(keys, folder, args.kills, args.seed)
    print("\n| killed in | kills |\n| --- | ---: |")
    for phase in [*PHASES, FILE_OPERATION, BETWEEN]:
        print(f"| {phase} | {killed[phase]} |")
    same = sum(not names for names in ends)
    kills = sum(killed.values())
    print(f"\n{kills} kills over {len(ends)} runs; {same} of {len(ends)} ended bit for bit as the run nobody killed.")
    sys.exit(same != len(ends))


if __name__ == "__main__":
    main()
