"""What a finished DISCO run loses against one that is told the task of each question, and where.

    python tools/where_disco_loses.py saves/compare/mini/task_hom/beta1/disco/seed1/recipe.yaml [--out PICTURE]

The argument is the recipe that the run was made with. All test records are answered three times with the run's own weights:
as the run does; with all weight on the subspace of the largest cosine; with all weight on the subspace that trained on the
record's task. The first pair of answers differs by interference of other subspaces, the second by wrong routing. What remains
is no matter of which subspace answers: what was forgotten since the task was learned last (by the shared projector, for a
subspace is not touched by others), and what was never learned. A fourth time the weights come from several tokens for each
subspace (:mod:`fcit_plugin.knowledge.prototypes`), made of each client's own records, as `disco_plus` does.

Prints a Markdown table, by dataset, and how far training moved the projector; writes a picture of the cosines between the
instructions of the datasets and the subspaces' identity tokens. For a run of `disco_plus`, which trains as `disco` does, a
second table has what each of its two parts makes of the same weights: routing by kinds of instructions, and projectors of the
subspaces.
"""

import argparse
import dataclasses
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from finished_run import Fixed, opened, png

from fcit_plugin.data.pixels import LazyPixels
from fcit_plugin.engine.evaluator import Evaluator
from fcit_plugin.engine.session import Session
from fcit_plugin.evaluation.pictures import save_figure
from fcit_plugin.evaluation.plots import heat_map, short_name
from fcit_plugin.evaluation.report import Report
from fcit_plugin.knowledge.activation import Router, cosine_matrix
from fcit_plugin.knowledge.prototypes import Prototypes, kinds_of, merged
from fcit_plugin.knowledge.turns import learned_tokens
from fcit_plugin.serving.trained import TrainedRun
from fcit_plugin.state.server_state import ServerState


def main() -> None:
    """Look at one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, help="the picture's path, without .png (default: in the run's folder)")
    given = parser.parse_args()
    with opened(given.recipe) as (session, folder):
        look(session, folder, given.out)


def look(session: Session, folder: Path, picture: Path | None) -> None:
    """Answer, compare, print."""
    state, args, names = TrainedRun.read(folder).state, session.args, session.scenario.all_datasets()
    report = Report.read(folder)
    untuned = {key: value.clone() for key, value in session.first_state().shared.items()}
    evaluator = session.evaluator({})
    own = {name: own_subspace(session.scenario, state.tasks, name) for name in names}
    turns = args.fcit_identity_turns
    as_run = Router(session.encoder, state.tokens, args.fcit_activation, args.fcit_temperature, turns)
    nearest = Router(session.encoder, state.tokens, "argmax", 1.0, turns)
    soft = evaluator.evaluate(state, names, restricted=False, router=as_run).free
    hard = evaluator.evaluate(state, names, restricted=False, router=nearest).free
    with_kinds = dataclasses.replace(state.tokens, kinds=tuple(all_prototypes(session, report)))
    by_kind = Router(session.encoder, with_kinds, "softmax", args.fcit_temperature, turns)
    kinds = evaluator.evaluate(state, names, restricted=False, router=by_kind).free
    told, weight, kind_weight, cosines = {}, {}, {}, []
    for name in names:
        told_router = Fixed(own[name], len(state.subspaces))
        told |= evaluator.evaluate(state, [name], restricted=False, router=told_router).free
        split = session.pipeline.test(name).head(args.fcit_eval_samples)
        embedded, _ = as_run.listen(split.instructions, partial(LazyPixels, split.images, session.pipeline.pixels))
        weight[name] = as_run.weights_of(embedded)[:, own[name]]
        kind_weight[name] = by_kind.weights_of(embedded)[:, own[name]]
        cosines.append(cosine_matrix(embedded, state.tokens.tokens).mean(axis=0))
    learned = best_after_learning(session.scenario, report)
    heads = ["as run", "interference", "wrong routing", "told the task", "forgotten", "prototypes", "their weight (least)"]
    print(f"| dataset | subspace | its weight (least) | {' | '.join(heads)} |")
    print(f"| --- |{' ---: |' * (len(heads) + 2)}")
    for name in names:
        figures = row_of(*(part[name] for part in (soft, hard, told, learned, kinds)))
        weights = mean_and_least(weight[name]), mean_and_least(kind_weight[name])
        print(f"| {short_name(name)} | {own[name]} | {weights[0]} | {figures} | {weights[1]} |")
    figures = row_of(*(np.mean([part[name] for name in names]) for part in (soft, hard, told, learned, kinds)))
    both = [np.mean([part.mean() for part in weights.values()]) for weights in (weight, kind_weight)]
    print(f"| **mean** | | {both[0]:.3f} | {figures} | {both[1]:.3f} |\n")
    if state.tokens.kinds is not None:
        print(parts(evaluator, state, names), "\n")
    for key, tuned in state.shared.items():
        moved = torch.linalg.vector_norm(tuned - untuned[key]) / torch.linalg.vector_norm(untuned[key])
        print(f"{key} moved by {moved:.2f} of its norm")
    path = png(picture or folder / "where_disco_loses")
    plot_cosines(np.array(cosines), [short_name(name) for name in names], path)
    print(f"The cosines are in {path}.")


def plot_cosines(cosines: np.ndarray, names: list[str], path: Path) -> None:
    """Draw how near the instructions of each dataset (down) are to each subspace (across), [datasets, subspaces]."""
    figure, axes = heat_map(
        cosines,
        names,
        [str(k) for k in range(cosines.shape[1])],
        limits=(min(0.0, float(cosines.min())), 1.0),
        form="{:.2f}",
        label="cosine",
        title="Cosine of instructions (mean) to identity tokens",
        slanted=False,
    )
    axes.set_xlabel("subspace")
    save_figure(figure, path)


def parts(evaluator: Evaluator, state: ServerState, names: list[str]) -> str:
    """What kinds of instructions and projectors of their own do, each alone and both, to the answers of one set of weights."""
    by_mean = dataclasses.replace(state.tokens, kinds=None)
    states = {
        "disco": dataclasses.replace(state, tokens=by_mean, projectors=[]),
        "with kinds": dataclasses.replace(state, projectors=[]),
        "with projectors": dataclasses.replace(state, tokens=by_mean),
        "disco_plus": state,
    }
    scores = {name: evaluator.evaluate(state, names, restricted=False).free for name, state in states.items()}
    lines = [f"| dataset | {' | '.join(scores)} |", f"| --- |{' ---: |' * len(scores)}"]
    for name in names:
        lines.append(f"| {short_name(name)} | {' | '.join(f'{part[name]:.2f}' for part in scores.values())} |")
    means = (np.mean(list(part.values())) for part in scores.values())
    return "\n".join([*lines, f"| **mean** | {' | '.join(f'{mean:.2f}' for mean in means)} |"])


def row_of(soft: float, hard: float, told: float, learned: float, kinds: float) -> str:
    """The figures of one row."""
    return " | ".join(f"{x:.2f}" for x in (soft, hard - soft, told - hard, told, learned - soft, kinds))


def mean_and_least(weights: np.ndarray) -> str:
    """How much of the weight the own subspace gets."""
    return f"{weights.mean():.3f} ({weights.min():.3f})"


def all_prototypes(session: Session, report) -> list[Prototypes]:
    """The prototypes of each subspace, made of those of all clients that have trained it."""
    local, number = session.local(), {task.name: i for i, task in enumerate(session.scenario.tasks)}
    sent: dict[int, list[Prototypes]] = {}

    @cache
    def embedded(task: int) -> np.ndarray:
        data = local.task(task)
        pixels = partial(LazyPixels, data.images, session.pipeline.pixels)
        return learned_tokens(session.encoder, data.instructions, session.args.fcit_identity_turns, pixels)

    for row in report.assignments:
        task = number[row["task"]]
        sent.setdefault(row["subspace"], []).append(kinds_of(embedded(task)[local.records(row["client"], task)]))
    return [merged(sent[k]) for k in range(len(sent))]


def own_subspace(scenario, tasks, name: str) -> int:
    """The subspace in which most clients have trained on a dataset's task."""
    wanted = {task.name for task in scenario.tasks if name in task.datasets}
    return int(np.argmax([sum(count for task, count in counts.items() if task in wanted) for counts in tasks]))


def best_after_learning(scenario, report) -> dict[str, float]:
    """The score of each dataset after the last stage that had it."""
    found = {}
    for stage in range(len(report.accuracy)):
        scores = report.scores_after(stage)
        found |= {name: scores[name] for name in scenario.datasets_of_stage(stage) if name in scores}
    return found


if __name__ == "__main__":
    main()
