"""What one client of five that means harm does to the others, and what bounds on it cost: ``python benchmarks/poisoning.py``.

Small real runs (the embedded text model, two tasks in two stages, five clients, all in every round) of which client 4 is
the attacker, with each kind of bound in turn; then the same bounds on honest runs with records spread more or less evenly.
A finished run goes into ``results/poisoning.jsonl`` at once, and is not run again. With ``--document`` nothing is run:
docs/research/poisoning.md is written from what is there.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from fcit_plugin.evaluation.paired import Difference
from fcit_plugin.machine import processor

ROOT = Path(__file__).parents[1]
RESULTS, DOCUMENT = ROOT / "results" / "poisoning.jsonl", ROOT / "docs" / "research" / "poisoning.md"
ATTACKER, HUGE = 4, 2**31 - 1

OFF = {"fcit_identity_unit": False, "fcit_max_count_ratio": None, "fcit_max_new_subspaces": None, "fcit_max_norm_ratio": 100.0}
UNIT = {"fcit_identity_unit": True}
BOUNDS: dict[str, dict[str, Any]] = {
    "none (keys of 0.1)": {},
    "length 1": UNIT,
    **{f"length 1, count ratio {ratio}": {**UNIT, "fcit_max_count_ratio": float(ratio)} for ratio in (1, 2, 3, 10)},
    **{f"norm ratio {ratio}": {"fcit_max_norm_ratio": float(ratio)} for ratio in (2, 5)},
    "length 1, count ratio 1, norm ratio 2": {**UNIT, "fcit_max_count_ratio": 1.0, "fcit_max_norm_ratio": 2.0},
    "length 1, count ratio 3, norm ratio 2": {**UNIT, "fcit_max_count_ratio": 3.0, "fcit_max_norm_ratio": 2.0},
    "length 1, count ratio 3, norm ratio 5": {**UNIT, "fcit_max_count_ratio": 3.0, "fcit_max_norm_ratio": 5.0},
    "length 1, count ratio 10, norm ratio 2": {**UNIT, "fcit_max_count_ratio": 10.0, "fcit_max_norm_ratio": 2.0},
    "length 1, count ratio 10, norm ratio 5": {**UNIT, "fcit_max_count_ratio": 10.0, "fcit_max_norm_ratio": 5.0},
    **{
        f"length 1, count ratio 3, {rule}": {**UNIT, "fcit_max_count_ratio": 3.0, "fcit_server_rule": rule}
        for rule in ("fedmedian", "trimmed_mean", "krum", "multi_krum")
    },
}
#: Those that may become the default: on each of them honest runs have all seeds.
LIKELY = ("none (keys of 0.1)", "length 1, count ratio 10", "length 1, count ratio 10, norm ratio 5")
#: Rounds of a stage; and how many there are where the question is what a bound costs once there are rounds enough.
ROUNDS, MORE_ROUNDS = 2, 6
#: Those that have every attack tried on them there.
HOLDING = ("none (keys of 0.1)", "length 1, count ratio 1, norm ratio 2")
#: Bounds that are tried with more rounds, too.
TRIED_LONGER = (
    "none (keys of 0.1)",
    "length 1, count ratio 10",
    "length 1, count ratio 1",
    "length 1, count ratio 1, norm ratio 2",
    "length 1, count ratio 3, norm ratio 2",
    "length 1, count ratio 3, fedmedian",
    "length 1, count ratio 3, trimmed_mean",
    "length 1, count ratio 3, multi_krum",
)


@dataclass
class Attacker:
    """How client 4 answers; by default as it should.

    Attributes:
        count: What it names as its number of examples, None for the truth.
        token: Gives its token from its own, the tokens of public instructions of both tasks, and stage and round.
        step: What its update is multiplied by.
    """

    count: int | None = None
    token: Callable[[np.ndarray, list[np.ndarray], int, int], np.ndarray] = lambda own, tasks, stage, round: own
    step: float = 1.0


def _at_cosine(own: np.ndarray, cosine: float, seed: int = 0) -> np.ndarray:
    """A direction at a cosine to another one, otherwise drawn."""
    unit = own / np.linalg.norm(own)
    drawn = np.random.default_rng(seed).standard_normal(len(own))
    across = drawn - drawn @ unit * unit
    return cosine * unit + np.sqrt(1 - cosine**2) * across / np.linalg.norm(across)


#: An update that undoes: three times the step that its own records ask for, backward.
UNDO = -3.0
ATTACKS = {
    "domination": Attacker(HUGE, step=UNDO),
    "displacement": Attacker(HUGE, lambda own, tasks, stage, round: _at_cosine(own, 0.01), UNDO),
    "dragging by count": Attacker(HUGE, lambda own, tasks, stage, round: _at_cosine(own, 0.905, 10 * stage + round), 1.0),
    "dragging by length": Attacker(None, lambda own, tasks, stage, round: 90 * _at_cosine(own, 0.905, 10 * stage + round), 1.0),
    "flooding": Attacker(None, lambda own, tasks, stage, round: _at_cosine(own, 0.0, 1 + 10 * stage + round), UNDO),
    "squatting": Attacker(None, lambda own, tasks, stage, round: tasks[1], UNDO),
}
#: One that keeps below a bound on norms: a step backward that is as long as its honest one.
CAUTIOUS = "cautious domination"
CAREFUL = {CAUTIOUS: Attacker(HUGE, step=-1.0)}


@contextmanager
def attacked(attacker: Attacker | None) -> Iterator[None]:
    """Within the block client 4 of each run answers as the attacker does."""
    from fcit_plugin.engine.client_training import LocalTrainer

    token, train = LocalTrainer.token, LocalTrainer.train

    def told(self, config):
        honest = token(self, config)
        if attacker is None or config.client != ATTACKER:
            return honest
        tasks = [self.tokens._learned_by(0, task)[0] for task in range(2)]
        moved = attacker.token(honest.mean, tasks, config.stage, config.round)
        count = attacker.count or honest.count
        return replace(
            honest, mean=np.asarray(moved, np.float32), count=count, num_examples=attacker.count or honest.num_examples
        )

    def trained(self, config, subspace, shared, extras):
        result = train(self, config, subspace, shared, extras)
        if attacker is None or config.client != ATTACKER:
            return result
        return result._replace(
            subspace={k: subspace[k] + attacker.step * (v - subspace[k]) for k, v in result.subspace.items()}
        )

    LocalTrainer.token, LocalTrainer.train = told, trained
    try:
        yield
    finally:
        LocalTrainer.token, LocalTrainer.train = token, train


#: Beside the others with ``--tiny``.
TINY = {"fcit_num_rounds": 1, "max_samples": 100, "fcit_eval_samples": 2, "max_steps": 1}


def run(
    data: Path, attack: str | None, bounds: Mapping[str, Any], beta: float, seed: int, rounds: int = ROUNDS
) -> dict[str, Any]:
    """One run, of a cell and what else its recipe has; what is kept of it."""
    from llamafactory.train.tuner import run_exp

    with tempfile.TemporaryDirectory() as folder, attacked((ATTACKS | CAREFUL)[attack] if attack else None):
        run_exp(
            {
                "model_name_or_path": "fcit-mini-text", "stage": "fcit", "do_train": True, "finetuning_type": "lora",
                "lora_rank": 8, "lora_alpha": 16, "fcit_method": "disco", "fcit_identity_encoder": "embedding",
                "lora_target": "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj", "fcit_similarity_threshold": 0.9,
                "fcit_setting": "custom", "fcit_stages": [["text_last"], ["text_sum"]], "fcit_num_clients": 5,
                "fcit_clients_per_round": 5, "fcit_num_rounds": rounds, "max_samples": 250, "fcit_eval_samples": 50,
                "fcit_partition": "quantity", "fcit_beta": beta,
                "fcit_min_client_samples": 20, "fcit_eval_every": "stage", "fcit_zero_shot": False, "dataset_dir": str(data),
                "template": "vicuna", "default_system": "", "cutoff_len": 128, "output_dir": folder, "report_to": "none",
                "fcit_batch_size": 8, "per_device_train_batch_size": 8, "learning_rate": 2e-3, "num_train_epochs": 2.0,
                "lr_scheduler_type": "cosine", "disable_gradient_checkpointing": True, "disable_tqdm": True, "plot_loss": False,
                "per_device_eval_batch_size": 100, "max_new_tokens": 8, "seed": seed, "logging_steps": 1000,
                "save_total_limit": 1,
                **OFF, **bounds,
            }
        )  # fmt: skip
        report = json.loads((Path(folder) / "fcit_report.json").read_text())
    places = [row["subspace"] for row in report["assignments"]]
    return {"score": report["last"], "subspaces": max(places) + 1, "seconds": report["seconds"]["total"]}


def cells() -> Iterator[tuple[str | None, str, float, int, int]]:
    """What is run, the most telling first: attack, bounds, beta, seed, rounds."""
    for name in LIKELY:
        for attack in (None, *ATTACKS):
            yield attack, name, 1.0, 1, ROUNDS
    for beta in (0.5, 1.0, 5.0):
        for seed in range(1, 9):
            for name in LIKELY:
                yield None, name, beta, seed, ROUNDS
    for name in TRIED_LONGER:
        for attack in (None, *ATTACKS, CAUTIOUS) if name in HOLDING else (None, "domination", CAUTIOUS):
            yield attack, name, 1.0, 1, MORE_ROUNDS
    for name in BOUNDS:
        for attack in (None, *ATTACKS):
            yield attack, name, 1.0, 1, ROUNDS
        for beta in (0.5, 5.0):
            yield None, name, beta, 1, ROUNDS


def known() -> dict[tuple, dict[str, Any]]:
    """What has been run."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return {tuple(row[key] for key in ("attack", "bounds", "beta", "seed", "rounds")): row for row in map(json.loads, lines)}


class Losses:
    """What the runs lost against honest ones without bounds.

    Args:
        rows: what has been run, by its cell.
    """

    def __init__(self, rows: Mapping[tuple, Mapping[str, Any]]) -> None:
        self._rows = rows

    def run(self, attack: str | None, name: str, beta: float = 1.0, seed: int = 1, rounds: int = ROUNDS):
        """A run; None if it has not been made."""
        return self._rows.get((attack, name, beta, seed, rounds))

    def scores(self, attack: str | None, name: str, beta: float, rounds: int = ROUNDS) -> dict[int, float]:
        """Last by seed."""
        return {seed: row["score"] for seed in range(1, 9) if (row := self.run(attack, name, beta, seed, rounds))}

    def shown(self, attack: str | None, name: str, beta: float, rounds: int = ROUNDS) -> str:
        """Mean of the points that were lost, in brackets of how many seeds; empty without any."""
        mine, theirs = self.scores(attack, name, beta, rounds), self.scores(None, LIKELY[0], beta, rounds)
        lost = [theirs[seed] - mine[seed] for seed in mine.keys() & theirs.keys()]
        return f"{mean(lost):.1f}" + (f" ({len(lost)})" if len(lost) > 1 else "") if lost else ""

    def paired(self, name: str, beta: float) -> Difference | None:
        """What honest runs have above those without bounds, of the seeds whose two runs are of one processor."""
        both = [(self.run(None, name, beta, seed), self.run(None, LIKELY[0], beta, seed)) for seed in range(1, 9)]
        pairs = dict(enumerate((a, b) for a, b in both if a and b and a["processor"] == b["processor"]))
        return Difference.of(*({seed: pair[which]["score"] for seed, pair in pairs.items()} for which in (0, 1)))

    def table(self, names: Sequence[str], columns: Sequence[tuple[str, str | None, float]], rounds: int = ROUNDS) -> list[str]:
        """Lines of a table with the columns (title, attack, beta) and the bounds of which there is a run."""
        columns = [
            (title, *which) for title, *which in columns if any(self.shown(which[0], n, which[1], rounds) for n in names)
        ]
        lines = ["| bounds | " + " | ".join(title for title, *_ in columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for name in names:
            cells = [self.shown(attack, name, beta, rounds) for _, attack, beta in columns]
            lines += [f"| {name} | " + " | ".join(cells) + " |"] if any(cells) else []
        return lines


def document(rows: Mapping[tuple, Mapping[str, Any]]) -> str:
    """The tables, of what has been run."""
    losses, attacks = Losses(rows), [(attack, attack, 1.0) for attack in ATTACKS]
    betas = (0.5, 1.0, 5.0)
    lines = losses.table(list(BOUNDS), [*attacks, *((f"honest, beta {beta:g}", None, beta) for beta in betas)])
    if honest := losses.run(None, LIKELY[0]):
        found = {attack: row for attack in ATTACKS if (row := losses.run(attack, LIKELY[0]))}
        under = [f"{attack} {row['score']:.1f} ({row['subspaces']} subspaces)" for attack, row in found.items()]
        told = ", ".join([f"honest {honest['score']:.1f} ({honest['subspaces']} subspaces)", *under])
        lines += ["", f"Last without bounds, seed 1: {told}."]
    costs = []
    for name in LIKELY[1:]:
        apart = {beta: losses.paired(name, beta) for beta in betas}
        said = [f"{one} at beta {beta:g} ({one.pairs} paired seeds)" for beta, one in apart.items() if one]
        costs += [f"- {name}: {', '.join(said)}"] if said else []
    if costs:
        lines += ["", "Honest runs, Last above that without bounds, mean and 95 % interval over paired seeds:", "", *costs]
    longer = losses.table(TRIED_LONGER, [("honest", None, 1.0), *attacks, (CAUTIOUS, CAUTIOUS, 1.0)], MORE_ROUNDS)
    if len(longer) > 2:
        lines += ["", f"With {MORE_ROUNDS} rounds a stage, seed 1:", "", *longer]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is missing, then write the document's tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder that `fcit-cli data text --out` has written")
    parser.add_argument("--document", action="store_true", help="run nothing, write the tables")
    parser.add_argument("--tiny", action="store_true", help="a few steps of two attacks, which are not kept")
    args = parser.parse_args()
    if args.tiny:
        from fcit_plugin.samples.text import write_text_tasks

        with tempfile.TemporaryDirectory() as folder:
            write_text_tasks(Path(folder), train=100, test=2)
            for attack in ("domination", "squatting"):
                print(attack, run(Path(folder), attack, {**BOUNDS["length 1, count ratio 3"], **TINY}, 1.0, 1), flush=True)
        return
    done = known()
    if not args.document:
        if args.data is None:
            sys.exit("--data is needed: fcit-cli data text --out data/text")
        for cell in cells():
            if cell in done:
                continue
            attack, name, beta, seed, rounds = cell
            row = {
                "attack": attack,
                "bounds": name,
                "beta": beta,
                "seed": seed,
                "rounds": rounds,
                "processor": processor(),
                **run(args.data, attack, BOUNDS[name], beta, seed, rounds),
            }
            done[cell] = row
            with RESULTS.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)
    begin, end = "<!-- tables -->\n", "<!-- end of tables -->"
    text = DOCUMENT.read_text()
    before, after = text.partition(begin)[0], text.partition(end)[2]
    DOCUMENT.write_text(f"{before}{begin}\n{document(done)}\n{end}{after}")


if __name__ == "__main__":
    main()
