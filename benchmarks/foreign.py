"""Can an instruction that is of none of a run's kinds be told by how near it is to the run's subspaces?

    python benchmarks/foreign.py --model SmolLM2-135M --half development --picture roc.png

Again and again ten of 42 kinds (``benchmarks/routing/``) are foreign, and the others have a subspace each. The score of a
question is its largest cosine to a subspace, by the best of the whole prompt and, where the encoder allows it, its sentences.
Printed are the area under the curve of known against foreign questions, own templates and rewordings apart, and for some
cosines how many of the known ones stay and how many of the foreign ones are caught below. The last table has the cosine at
which 95 % of this half's known rewordings stay and the one that was chosen so by the development half, beside the cosines of a
subspace's own training instructions.
"""

import argparse
from pathlib import Path

import numpy as np
from instructions import Case
from measure import arguments
from routed import encoder_of, label, load, markdown, nearest, questions, subspaces

SETS = ("own", "reworded", "polite", "preamble")
DRAWS, FOREIGN, KEPT = 200, 10, 0.95
#: Cosines in the tables.
CUTS = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7)

#: By encoder: the cosine that keeps so many of the known rewordings of the development half with SmolLM2-135M.
CHOSEN = {"embedding": 0.293, "minilm": 0.256, "prompt": 0.206}

#: Largest cosines of known and of foreign questions, of all draws.
Scores = tuple[np.ndarray, np.ndarray]


def scores(near: np.ndarray, cases: list[Case], names: list[str], foreign: np.ndarray) -> Scores:
    """Largest cosines of the questions.

    Args:
        near: How near each question is to the subspace of each kind, [n, K].
        cases: The questions.
        names: The kinds.
        foreign: bool [draws, K], the kinds that have no subspace.
    """
    own = np.array([names.index(case.kind) for case in cases])
    top = np.stack([near[:, ~drawn].max(axis=1) for drawn in foreign])
    is_foreign = foreign[:, own]
    return top[~is_foreign], top[is_foreign]


def area(known: np.ndarray, foreign: np.ndarray) -> float:
    """The chance that a known question is nearer than a foreign one, a tie counted as half."""
    order = np.sort(foreign)
    below, up_to = (np.searchsorted(order, known, side=side) for side in ("left", "right"))
    return float((below + up_to).mean() / 2 / len(foreign))


def below(values: np.ndarray, cut: float) -> float:
    """The share of values below a cosine."""
    return float((values < cut).mean())


def _kept_and_caught(found: dict[str, Scores], cut: float) -> list[str]:
    return [f"{100 - 100 * below(known, cut):.1f}, {100 * below(foreign, cut):.0f}" for known, foreign in found.values()]


def draw(curves: dict[str, dict[str, Scores]], path: Path) -> None:
    """Save the curves of own templates and of rewordings."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True)
    for axis, part, title in zip(axes, ("own", "reworded"), ("own templates", "rewordings"), strict=True):
        for name, found in curves.items():
            known, foreign = found[part]
            cuts = np.quantile(np.concatenate([known, foreign]), np.linspace(0, 1, 400))
            lost, caught = ([100 * below(side, cut) for cut in cuts] for side in (known, foreign))
            axis.plot(lost, caught, label=f"{name} ({area(known, foreign):.2f})")
        axis.axvline(100 * (1 - KEPT), color="gray", linewidth=0.8, linestyle=":")
        axis.set(title=title, xlabel="known questions below the cosine, %")
        axis.legend(loc="lower right", title="area under the curve")
    axes[0].set_ylabel("foreign questions below the cosine, %")
    figure.tight_layout()
    figure.savefig(path, format="png", dpi=80, metadata={"Software": None})


def main(args: argparse.Namespace) -> None:
    """Print the tables."""
    model, tokenizer = load(args.model)
    kinds, sets = questions(args.half, args.tiny)
    names, generator = list(kinds), np.random.default_rng(0)
    few = 2 if args.tiny else FOREIGN
    foreign = np.stack([np.isin(np.arange(len(names)), generator.permutation(len(names))[:few]) for _ in range(DRAWS)])
    found: dict[str, dict[str, Scores]] = {}
    points = []
    for encoder_name in ("embedding", "prompt") if args.tiny else args.encoders:
        name, encoder = label(encoder_name), encoder_of(encoder_name, model, tokenizer)
        tokens = subspaces(encoder, kinds)
        near = {part: nearest(encoder, tokens, sets[part]) for part in SETS}
        found[name] = {part: scores(near[part], sets[part], names, foreign) for part in SETS}
        trained = [Case(kind, (text,)) for kind, texts in kinds.items() for text in texts]
        own = nearest(encoder, tokens, trained)[np.arange(len(trained)), [names.index(case.kind) for case in trained]]
        cuts = {"keeps 95 %": float(np.quantile(found[name]["reworded"][0], 1 - KEPT))}
        if name in CHOSEN:
            cuts["chosen"] = CHOSEN[name]
        spread = [f"{np.quantile(own, q):.2f}" for q in (0.01, 0.05, 0.5)]
        points += [[name, why, f"{cut:.3f}", *_kept_and_caught(found[name], cut), *spread] for why, cut in cuts.items()]
    print(f"\n{args.half}: {few} of {len(names)} kinds foreign, {DRAWS} draws\n")
    markdown(["area", *SETS], [[name, *(f"{area(*of[part]):.3f}" for part in SETS)] for name, of in found.items()])
    for part in ("own", "reworded"):
        rows = [
            [name, *(f"{100 - 100 * below(of[part][0], cut):.0f}, {100 * below(of[part][1], cut):.0f}" for cut in CUTS)]
            for name, of in found.items()
        ]
        markdown([f"{part}: % known kept, % foreign caught at", *CUTS], rows)
    markdown(
        ["% known kept, % foreign caught", "", "cosine", *SETS, *(f"own training, {q} %" for q in (1, 5, 50))],
        points,
    )
    if args.picture:
        draw(found, Path(args.picture))


if __name__ == "__main__":
    main(arguments(__doc__, model="", half="development", encoders=["embedding", "minilm", "prompt"], picture=""))
