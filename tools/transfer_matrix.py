"""What a subspace that has learned one task is worth as the start for another one, beside a fresh start.

    python tools/transfer_matrix.py saves/compare/base/task_hom/beta1/disco/seed1/recipe.yaml [--steps 60] [--out PICTURE]

The argument is the recipe of a finished run. For each of its tasks one client, the one with most records, trains `--steps`
optimizer steps with the run's own keys: from a fresh subspace, and from each subspace of the run, always beside the projector
that the run ended with. What it has then answers the test records of the task alone, with all weight. Where a subspace of the
run was trained on the task itself, the start is no other task's; these cells are in brackets and no transfer.

Prints two Markdown tables, start (down) by task (across): how much less the negative log-likelihood of the right answers is
than from the fresh start, in nats a token, and how much higher the score; positive numbers are transfer. Writes the first as
a picture. If no cell says so with several seeds, there is nothing that a shared subspace could hold.
"""

import argparse
import copy
import dataclasses
from pathlib import Path

import numpy as np
from finished_run import Fixed, opened, png
from tqdm import tqdm

from fcit_plugin.adapters.lora import fresh_subspace
from fcit_plugin.engine.session import Session
from fcit_plugin.errors import FcitError, end_in_a_sentence
from fcit_plugin.evaluation.pictures import save_figure
from fcit_plugin.evaluation.plots import heat_map, short_name
from fcit_plugin.evaluation.tables import markdown
from fcit_plugin.federation.messages import ClientConfig
from fcit_plugin.serving.trained import TrainedRun
from fcit_plugin.state.server_state import ServerState


def main() -> None:
    """Look at one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps of each training (default: 60)")
    parser.add_argument("--out", type=Path, help="the picture's path, without .png (default: in the run's folder)")
    given = parser.parse_args()
    with opened(given.recipe) as (session, folder):
        state, tasks = TrainedRun.read(folder).state, [task.name for task in session.scenario.tasks]
        others = np.array([[task not in counts for task in tasks] for counts in state.tasks])
        if not others.any():
            raise FcitError(
                f"Each subspace of {folder} has learned every task; name the recipe of a run with a subspace for some."
            )
        losses, scores = matrices(session, state, given.steps)
    tasks = [*map(short_name, tasks)]
    starts = [f"{k}: {', '.join(map(short_name, counts))}" for k, counts in enumerate(state.tasks)]
    likelier = losses[0] - losses[1:]
    for title, fresh, above in (
        ("NLL less than from a fresh start", losses[0], likelier),
        ("score above that from a fresh start", scores[0], scores[1:] - scores[0]),
    ):
        rows = [[f"{title}: start", *tasks], ["(fresh)", *(f"{number:.2f}" for number in fresh)]]
        for k, row in enumerate(above):
            told = [f"{number:+.2f}" if others[k, j] else f"({number:+.2f})" for j, number in enumerate(row)]
            rows.append([starts[k], *told])
        print(markdown(rows))
        found = above[others & np.isfinite(above)]
        print(f"\nOf other tasks: mean {found.mean():+.2f}, best {found.max():+.2f}, ", end="")
        print(f"above 0 in {int((found > 0).sum())} of {found.size}.\n")
    path = png(given.out or folder / "transfer_matrix")
    draw(likelier, starts, tasks, path)
    print(f"The picture is {path}.")


def matrices(session: Session, state: ServerState, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Train from every start on every task.

    Args:
        session: Of the run, opened again.
        state: What it ended with.
        steps: Optimizer steps.

    Returns:
        The negative log-likelihood of the right answers and the score, float64 [1 + K, tasks]: a fresh start first.

    Raises:
        FcitError: The recipe measures no likelihood.
    """
    if not session.args.fcit_eval_likelihood:
        raise FcitError(
            "The recipe has `fcit_eval_likelihood: false`; take the key out, for the likelihood is what is compared."
        )
    starts = [fresh_subspace(state.subspaces[0], session.training_args.seed), *state.subspaces]
    evaluator, local = session.evaluator({}), session.local()
    local.pipeline.training_args = copy.copy(local.pipeline.training_args)
    local.pipeline.training_args.max_steps = steps
    found = np.full((2, len(starts), len(session.scenario.tasks)), np.nan)
    cells = [(number, task) for task in range(found.shape[2]) for number in range(len(starts))]
    for number, task in tqdm(cells, desc="Trainings", leave=False):
        records = [len(local.records(client, task)) for client in range(session.args.fcit_num_clients)]
        config = ClientConfig(run="transfer", stage=0, round=0, client=int(np.argmax(records)), task=task, subspace=0)
        result = local.train(config, starts[number], state.shared, {})
        alone = dataclasses.replace(state, subspaces=[result.subspace], shared=result.shared, projectors=[])
        names = list(session.scenario.tasks[task].datasets)
        answers = evaluator.evaluate(alone, names, restricted=False, router=Fixed(0, 1))
        likelihood = [answers.likelihood.get(name, np.nan) for name in names]  # none where it is no finite number
        found[:, number, task] = np.mean(likelihood), np.mean([answers.free[name] for name in names])
    return found[0], found[1]


def draw(gains: np.ndarray, starts: list[str], tasks: list[str], path: Path) -> None:
    """Draw the transfer, float64 [starts, tasks]."""
    most = float(np.nanmax(np.abs(gains)))
    figure, axes = heat_map(
        gains,
        starts,
        tasks,
        limits=(-most, most),
        form="{:+.2f}",
        label="nats a token",
        title="How much likelier the right answers are than from a fresh start",
    )
    axes.set_xlabel("trained on")
    axes.set_ylabel("start: subspace, and what it had learned")
    save_figure(figure, path)


if __name__ == "__main__":
    end_in_a_sentence()
    main()
