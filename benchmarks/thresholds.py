"""Which cosine tells kinds of instructions apart, for each encoder: clients come one after the other and are assigned.

    python benchmarks/thresholds.py --model SmolLM2-135M

The kinds are public (:mod:`fcit_plugin.knowledge.public_lists`) and none is of a benchmark. Tokens of `prompt` are whitened by
ten kinds and tried on the other ten, and the other way round; the twenty pairs of rewordings are tried with both. Four clients
a kind have 30 records each, their wordings drawn from Dirichlet(beta). A threshold is good where clients whose wordings are
evenly spread make at most 5 % more subspaces than there are kinds, with nobody in one that another kind has opened; chosen is
the highest that is good with every encoder, for these kinds lie far apart, and those of a federation may lie nearer.

Beside it stands how near two wordings of one kind and of two are, which `Nearness.of_a_client` and `Nearness.turn` go by, and
the means of ten records of two clients, for `Nearness.of_one_kind`.
"""

from collections.abc import Callable, Sequence

import numpy as np
from measure import arguments, show
from transformers import AutoModelForCausalLM, AutoTokenizer

from fcit_plugin.knowledge.encoders import make_encoder
from fcit_plugin.knowledge.framed import FramedStates
from fcit_plugin.knowledge.identity_tokens import ClientToken, SubspaceTokens
from fcit_plugin.knowledge.organizer import Organizer
from fcit_plugin.knowledge.public_lists import public_kinds, public_pairs, wrapped_kinds
from fcit_plugin.knowledge.vectors import on_grid, unit
from fcit_plugin.knowledge.whitening import Whitening
from fcit_plugin.samples.text import text_model_path

THRESHOLDS = (0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
CLIENTS, RECORDS = 4, 30

#: The vectors of each kind's wordings, [wordings, D].
Kinds = Sequence[np.ndarray]


def halves(states: FramedStates) -> list[Kinds]:
    """The kinds as `prompt` sees them, by whitening with kinds that are not among them."""
    wrapped = [states(texts) for texts in wrapped_kinds()]
    pairs = [states(texts) for texts in public_pairs()]
    found = []
    for kept in (slice(0, None, 2), slice(1, None, 2)):
        fitted = np.stack([rows for i, rows in enumerate(wrapped) if i not in range(20)[kept]])
        sides = [Whitening.of(fitted[:, :, side]) for side in (0, 1)]
        plain = [rows[:5] for rows in wrapped[kept]] + pairs
        found.append([np.concatenate([w(rows[:, i]) for i, w in enumerate(sides)], axis=1) / np.sqrt(2) for rows in plain])
    return found


def assign(kinds: Kinds, threshold: float, beta: float, seed: int) -> tuple[int, float]:
    """How many subspaces there are in the end, and the share of clients in one that another kind has opened."""
    generator, organizer = np.random.default_rng(seed), Organizer(threshold, None)
    state, opened_by, foreign = SubspaceTokens.empty(kinds[0].shape[1]), {}, 0
    order = generator.permutation(np.repeat(np.arange(len(kinds)), CLIENTS))
    for client, kind in enumerate(order.tolist()):
        mean = client_mean(kinds[kind], beta, RECORDS, generator)
        token = ClientToken(client, on_grid(mean), RECORDS, RECORDS)
        assignment = organizer.assign([token], state)
        state = organizer.update(state, [token], assignment)
        foreign += opened_by.setdefault(assignment.subspace[client], kind) != kind
    return state.num_subspaces, foreign / len(order)


def client_mean(rows: np.ndarray, beta: float, records: int, generator: np.random.Generator) -> np.ndarray:
    """The mean token of one client."""
    share = generator.dirichlet(np.full(len(rows), beta))
    counts = generator.multinomial(records, share)
    return counts @ rows / records


def cosines(kinds: Kinds) -> list[str]:
    """Quantiles of cosines: of two wordings of a kind, of two of different ones, and of two clients' means likewise."""
    generator = np.random.default_rng(0)
    rows, owner = unit(np.concatenate(kinds)), np.repeat(np.arange(len(kinds)), list(map(len, kinds)))
    means = unit(np.stack([client_mean(k, 1.0, 10, generator) for k in kinds for _ in range(CLIENTS)]))
    found = []
    for vectors, whose in ((rows, owner), (means, np.repeat(np.arange(len(kinds)), CLIENTS))):
        products, same = vectors @ vectors.T, whose[:, None] == whose
        np.fill_diagonal(same, False)
        other = products[whose[:, None] != whose]
        found += [f"{np.quantile(products[same], q):.2f}" for q in (0.1, 0.5)] + [
            f"{np.quantile(other, q):.2f}" for q in (0.5, 0.99)
        ]
    return found


def main() -> None:
    """Print the tables."""
    args = arguments(__doc__, model="", seeds=3)
    seeds = 1 if args.tiny else args.seeds
    path = args.model or str(text_model_path())
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path, dtype="auto").eval(), AutoTokenizer.from_pretrained(path)
    plain = [*public_kinds(), *public_pairs()]
    encoders: dict[str, Callable[[], list[Kinds]]] = {"prompt": lambda: halves(FramedStates(model, tokenizer))}
    for name in ("embedding",) if args.tiny else ("embedding", "minilm"):
        encoders[name] = (
            lambda name=name: [  # type: ignore[misc]
                [unit(make_encoder(name, "mean", True, model, tokenizer).encode(texts)) for texts in plain[part] + plain[20:]]
                for part in (slice(0, 20, 2), slice(1, 20, 2))
            ]
        )
    found = {name: make() for name, make in encoders.items()}
    for beta in (0.3, 1.0, 5.0):
        show(
            [f"beta {beta:g}: subspaces of 30, % foreign at", *map(str, THRESHOLDS)],
            [[name, *(_cell(parts, threshold, beta, seeds) for threshold in THRESHOLDS)] for name, parts in found.items()],
        )
    show(
        ["two wordings", "same kind 10 %", "50 %", "other 50 %", "99 %", "two means: same 10 %", "50 %", "other 50 %", "99 %"],
        [[name, *cosines(parts[0])] for name, parts in found.items()],
    )


def _cell(parts: Sequence[Kinds], threshold: float, beta: float, seeds: int) -> str:
    subspaces, foreign = np.mean([assign(kinds, threshold, beta, seed) for kinds in parts for seed in range(seeds)], axis=0)
    return f"{subspaces:.0f}, {100 * foreign:.0f} %"


if __name__ == "__main__":
    main()
