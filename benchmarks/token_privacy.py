"""What each form of identity tokens costs in routing, and what an attacker reads from it.

    python benchmarks/token_privacy.py --model SmolLM2-135M

For each encoder and `fcit_identity_form`, over the forty public kinds (none is FCIT-mini's):

* routing: a kind's token is the mean of its wordings but one; asked is that one, bare and (twenty kinds) in three public
  frames. `prompt` is whitened by kinds that are not asked;
* words read back from clients' tokens: by non-negative matching pursuit over the rows of the vocabulary (`embedding`), and by
  ridge regression from tokens to words, trained on clients of other templates; as many guesses as there are true words, so the
  share that is right is precision and recall; beside guessing the most frequent words of the attacker's text;
* a dictionary attack: 1,000 candidates, the true ones among them, ranked by their cosine to the token: how often a true one is
  first, and of many distinct ones which share is among the first as many.

`--grids` says instead whether FCIT-mini's four settings assign their clients as with full tokens, `--epsilon` what randomized
response and the exponential mechanism leave of routing and assignments.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from measure import arguments, session, show
from thresholds import Kinds, halves
from transformers import AutoModelForCausalLM, AutoTokenizer

from fcit_plugin.knowledge.encoders import make_encoder
from fcit_plugin.knowledge.framed import FramedStates
from fcit_plugin.knowledge.public_lists import public_kinds, public_pairs, wrapped_kinds
from fcit_plugin.knowledge.token_forms import FORMS, TokenForm, sign_cosine
from fcit_plugin.knowledge.vectors import unit
from fcit_plugin.samples.text import text_model_path

SIZES = (1, 5, 10, 20, 200)
_THINGS = (
    "the old lighthouse", "a broken bicycle", "our quarterly budget", "the kidney transplant", "my landlord", "volcanic soil",
    "the missing invoice", "a vegan wedding cake", "night trains", "the divorce papers", "solar panels", "my knee surgery",
    "a leaking roof", "the school board", "honey bees", "an overdue loan", "the choir rehearsal", "a stolen passport",
    "the diabetes diet", "wind turbines", "an angry customer", "the harbor festival", "a rescue dog", "the tax audit",
    "my grandmother's letters", "a flooded cellar", "the chess club", "peanut allergies", "a used tractor", "the power cut",
    "an insulin pump", "the bankruptcy filing", "a piano teacher", "the salary dispute", "sea turtles", "a marathon plan",
    "the burglary report", "an orchard in spring", "the asylum hearing", "a coffee roastery",
)  # fmt: skip
_TEMPLATES = (
    "Write a short poem about {}.", "Summarize this report on {} in two lines.",
    "Translate the following note about {} to Spanish.",
    "Is this review of {} positive or negative?", "List five questions to ask about {}.",
    "Correct the spelling in my text on {}.",
    "Draft a polite email concerning {}.", "Explain {} to a ten-year-old.", "Which laws apply to {}?",
    "Give me a shopping list for {}.", "Estimate the yearly cost of {}.", "Who should I call about {}?",
    "Invent a slogan for {}.", "Turn my notes on {} into a table.", "What went wrong with {}?",
    "Compare two opinions on {}.", "Suggest a title for an article about {}.", "Rate the risk of {} from one to ten.",
    "Plan a weekend around {}.", "Find the dates in this message about {}.", "Tell a joke about {}.",
    "Make a quiz about {}.", "Rewrite this complaint about {} more formally.", "What do experts say about {}?",
    "Name three causes of {}.",
)  # fmt: skip

_HEAD = (
    *("encoder", "form", "bare %", "framed %", "distinct", "records", "first %", "found %"),
    *("ridge %", "guess %", "pursuit %"),
)


def instructions() -> list[list[str]]:
    """1,000 candidates: 25 templates with 40 things each."""
    return [[template.format(thing) for thing in _THINGS] for template in _TEMPLATES]


def words_of(texts: Sequence[str]) -> set[str]:
    """Words of four letters and more."""
    return {word for text in texts for word in re.findall(r"[a-z]{4,}", text.lower())}


def told(form: TokenForm, mean: np.ndarray) -> np.ndarray:
    """What clients tell of means [n, D]."""
    return form.told(form.mixed(mean.astype(np.float32)))


def routing(form: TokenForm, kinds: Sequence[tuple[Kinds, Kinds]]) -> tuple[float, float]:
    """Share that finds its kind, bare and framed; of each half the kinds' wordings and what is said in frames."""
    right: dict[str, list[bool]] = {"bare": [], "framed": []}
    for wordings, framed in kinds:
        means = np.stack([rows.mean(axis=0) for rows in wordings])
        for k, rows in enumerate(wordings):
            for i in range(len(rows)):
                others = means.copy()
                others[k] = np.delete(rows, i, axis=0).mean(axis=0)
                tokens = unit(told(form, others))
                asked = {"bare": rows[i : i + 1], "framed": framed[k][3 * i : 3 * i + 3] if k < len(framed) else rows[:0]}
                for name, queries in asked.items():
                    right[name] += ((unit(form.mixed(queries)) @ tokens.T).argmax(axis=1) == k).tolist()
    return float(np.mean(right["bare"])), float(np.mean(right["framed"]))


def clients(vectors: np.ndarray, size: int, distinct: int, count: int, seed: int) -> list[np.ndarray]:
    """For each of some clients which candidates its records are; all of a client are of one template."""
    generator, per = np.random.default_rng(seed), len(_THINGS)
    found = []
    for client in range(count):
        kinds = generator.choice(per, min(distinct, per, size), replace=False)
        found.append((client % len(_TEMPLATES)) * per + np.resize(kinds, size))
    return found


def dictionary(form: TokenForm, vectors: np.ndarray, records: Sequence[np.ndarray]) -> tuple[float, float]:
    """How often a true candidate is ranked first, and the share of the true ones among the first as many."""
    guesses = unit(form.mixed(vectors))
    first, share = [], []
    for own in records:
        token, true = told(form, vectors[own].mean(axis=0, keepdims=True)), set(own.tolist())
        ranked = np.argsort(-(guesses @ unit(token)[0]), kind="stable")
        first.append(ranked[0] in true)
        share.append(len(true & set(ranked[: len(true)].tolist())) / len(true))
    return float(np.mean(first)), float(np.mean(share))


def ridge(
    form: TokenForm, vectors: np.ndarray, texts: Sequence[str], records: Sequence[np.ndarray], size: int
) -> tuple[float, float]:
    """R-precision of words by a decoder of clients' tokens, trained on other templates; and by the most frequent words."""
    shadow_templates, generator = range(1, len(_TEMPLATES), 2), np.random.default_rng(5)
    shadow = [
        t * len(_THINGS) + np.resize(generator.choice(len(_THINGS), min(size, d), replace=False), size)
        for t in shadow_templates for d in (1, 2, 5, 20) for _ in range(12)
    ]  # fmt: skip
    bags = [words_of([texts[i] for i in own]) for own in shadow]
    frequent = Counter(word for bag in bags for word in bag)
    vocabulary = sorted(frequent)
    target = np.array([[word in bag for word in vocabulary] for bag in bags], float)
    given = unit(told(form, np.stack([vectors[own].mean(axis=0) for own in shadow])))
    center, base = given.mean(axis=0), target.mean(axis=0)
    x = given - center
    solved = np.linalg.solve(x.T @ x + 1.0 * np.trace(x.T @ x) / len(x.T) * np.eye(x.shape[1]), x.T @ (target - base))
    common = [word for word, _ in frequent.most_common()]
    found, guessed = [], []
    for own in records:
        true = words_of([texts[i] for i in own])
        score = base + (unit(told(form, vectors[own].mean(axis=0, keepdims=True)))[0] - center) @ solved
        best = [vocabulary[j] for j in np.argsort(-score, kind="stable")[: len(true)]]
        found.append(len(true & set(best)) / len(true))
        guessed.append(len(true & set(common[: len(true)])) / len(true))
    return float(np.mean(found)), float(np.mean(guessed))


def pursuit(form: TokenForm, rows: np.ndarray, names: Sequence[str], tokens: np.ndarray, bags: Sequence[set[str]]) -> float:
    """R-precision of words by non-negative matching pursuit over the vocabulary's rows, mixed as tokens are."""
    atoms = unit(form.mixed(rows.astype(np.float32))).astype(np.float32)
    shares = []
    for token, true in zip(unit(tokens), bags, strict=True):
        rest, chosen = token.copy(), []
        guessed: list[str] = []
        while len(guessed) < len(true) and len(chosen) < 2 * len(true):
            scores = atoms @ rest.astype(np.float32)
            scores[chosen] = -np.inf
            chosen.append(int(scores.argmax()))
            basis = atoms[chosen].T.astype(np.float64)
            weights = np.maximum(np.linalg.lstsq(basis, token, rcond=None)[0], 0)
            rest = token - basis @ weights
            piece = names[chosen[-1]]
            if len(piece) >= 4 and piece not in guessed:
                guessed.append(piece)
        hit = sum(any(word.startswith(piece) for piece in guessed) for word in true)
        shares.append(hit / len(true))
    return float(np.mean(shares))


def assignments(setting: str, encoder: str, form: str) -> list[tuple[int, int, int, int]]:
    """Who trains what in FCIT-mini's setting at seed 1, without training."""
    from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
    from fcit_plugin.knowledge.image_tokens import token_width

    keys = {"fcit_setting": setting, "fcit_identity_encoder": encoder, "fcit_identity_form": form, "seed": 1}
    if setting.endswith("het"):
        keys |= {"fcit_clients_per_round": 5, "fcit_num_rounds": 1}
    with tempfile.TemporaryDirectory() as folder:
        run = session(Path(folder), **keys)
        local, program, found = run.local(), run.program, []
        state = SubspaceTokens.empty(program.form.width(token_width(run.encoder)))
        for stage in range(program.num_stages):
            organizer = program.method.organizer(stage)
            for round in range(run.args.fcit_num_rounds):
                tokens = [local.token(config) for config in program.work(stage, round).values()]
                assignment = organizer.assign(tokens, state)
                state = organizer.update(state, tokens, assignment)
                found += [(stage, round, client, k) for client, k in sorted(assignment.subspace.items())]
    return found


def grids(forms: Sequence[str], encoders: Sequence[str]) -> None:
    """The table of assignments."""
    rows = []
    for encoder in encoders:
        for setting in ("task_hom", "task_het", "cap_hom", "cap_het"):
            full = assignments(setting, encoder, "full")
            cells = []
            for form in forms:
                own = full if form == "full" else assignments(setting, encoder, form)
                alike = sum(a == b for a, b in zip(own, full, strict=True))
                cells.append(f"{alike}/{len(full)}, {1 + max(k for *_, k in own)} subspaces")
            rows.append([encoder, setting, *cells])
            show(["encoder", "setting", *forms], rows[-1:])


def epsilon(kinds: Sequence[tuple[Kinds, Kinds]], name: str) -> None:
    """Randomized response on signs: all signs of a client together cost `epsilon`; and a choice of a subspace."""
    rows = []
    generator = np.random.default_rng(3)
    for total in (1.0, 2.0, 5.0, 10.0, 50.0, 200.0):
        for form in (FORMS["signs_64"], FORMS["signs_256"]):
            assert form.count is not None
            flip = 1 / (1 + np.exp(total / form.count))
            right, same, chosen = [], [], []
            for wordings, _ in kinds:
                means = np.stack([part.mean(axis=0) for part in wordings])
                exact = told(form, means)
                for _ in range(20):
                    noisy = exact * np.where(generator.random(exact.shape) < flip, -1, 1)
                    asked = unit(form.mixed(np.concatenate(wordings)))
                    owner = np.repeat(np.arange(len(wordings)), list(map(len, wordings)))
                    right += ((asked @ unit(noisy).T).argmax(axis=1) == owner).tolist()
                    again = exact * np.where(generator.random(exact.shape) < flip, -1, 1)
                    corrected = (unit(noisy) * unit(again)).sum(axis=1) / (1 - 2 * flip) ** 2
                    same += (corrected >= sign_cosine(0.75)).tolist()
                    utility = unit(told(form, means)) @ unit(exact).T  # sensitivity 2: a client's cosine moves from -1 to 1
                    odds = np.exp(total * utility / 4)
                    odds /= odds.sum(axis=1, keepdims=True)
                    chosen += np.diag(odds).tolist()
            rows.append([f"{total:g}", form.name, f"{flip:.3f}", *(f"{100 * np.mean(v):.0f}" for v in (right, same, chosen))])
    show(
        [f"{name}: epsilon", "form", "flipped", "wordings %", "client finds itself again %", "exponential: own subspace %"],
        rows,
    )


def main() -> None:
    """Print the tables."""
    args = arguments(__doc__, model="", forms=list(FORMS), encoders=["embedding", "minilm", "prompt"], what="frontier")
    if args.what == "grids":
        grids(args.forms, [name for name in args.encoders if name != "prompt"])
        return
    path = args.model or str(text_model_path())
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path, dtype="auto").eval(), AutoTokenizer.from_pretrained(path)
    plain, candidates = [*public_kinds(), *public_pairs()], instructions()
    texts = [text for row in candidates for text in row]
    for name in args.encoders:
        encoder = make_encoder(name, "mean", True, model, tokenizer)
        encode: Callable[[Sequence[str]], np.ndarray] = lambda said: encoder.encode(said)  # noqa: B023, E731
        framed_of = [[text for i in range(5) for text in rows[5 + 4 * i : 8 + 4 * i]] for rows in wrapped_kinds()]
        if name == "prompt":
            states = FramedStates(model, tokenizer)
            parts = halves(states)
            kinds = [(part, []) for part in parts]
            framed = _framed_halves(states, framed_of)
            kinds = [(part, rows) for (part, _), rows in zip(kinds, framed, strict=True)]
        else:
            made = [unit(encode(rows)) for rows in plain]
            framed = [unit(encode(rows)) for rows in framed_of]
            kinds = [(made[part] + made[20:], framed[part]) for part in (slice(0, 20, 2), slice(1, 20, 2))]
        if args.what == "epsilon":
            epsilon(kinds, name)
            continue
        vectors = np.asarray(encode(texts), np.float32)
        rows = []
        for form in (FORMS[name] for name in args.forms):
            bare, in_frame = routing(form, kinds)
            cells = [name, form.name, f"{100 * bare:.1f}", f"{100 * in_frame:.1f}"]
            for distinct in (1, 40):
                for size in SIZES:
                    if distinct > 1 and size == 1:
                        continue
                    records = clients(vectors, size, distinct, 24 if args.tiny else 100, 1)
                    first, share = dictionary(form, vectors, records)
                    attacked = [own for own in records if (own[0] // len(_THINGS)) % 2 == 0]
                    read, guess = ridge(form, vectors, texts, attacked, min(size, 40))
                    chased = ""
                    if name == "embedding":
                        few = attacked[: 12 if size < 200 else 3]
                        chased = _chased(form, model, tokenizer, encoder, vectors, texts, few)
                    rows.append(
                        [*cells, min(distinct, size), size, *(f"{100 * v:.0f}" for v in (first, share, read, guess)), chased]
                    )
            show(_HEAD, rows)
            rows = []


def _framed_halves(states: FramedStates, texts: Sequence[Sequence[str]]) -> list[Kinds]:
    """Frames as `prompt` sees them, by the whitening of :func:`thresholds.halves`."""
    from fcit_plugin.knowledge.whitening import Whitening

    wrapped = [states(rows) for rows in wrapped_kinds()]
    found = []
    for kept in (slice(0, None, 2), slice(1, None, 2)):
        fitted = np.stack([rows for i, rows in enumerate(wrapped) if i not in range(20)[kept]])
        sides = [Whitening.of(fitted[:, :, side]) for side in (0, 1)]
        asked = [states(rows) for rows in texts[kept]]
        found.append([np.concatenate([w(rows[:, i]) for i, w in enumerate(sides)], axis=1) / np.sqrt(2) for rows in asked])
    return found


def _chased(form: TokenForm, model, tokenizer, encoder, vectors, texts, records) -> str:
    inner = encoder.encoder
    with torch.no_grad():
        table, rarity = inner.table()
    rows = (table.float() * rarity.float()[:, None]).numpy() if rarity.ndim == 1 else table.float().numpy()
    names = [tokenizer.decode([i]).strip().lower() for i in range(len(rows))]
    bags = [words_of([texts[i] for i in own]) for own in records]
    tokens = told(form, np.stack([vectors[own].mean(axis=0) for own in records]))
    return f"{100 * pursuit(form, rows, names, tokens, bags):.0f}"


if __name__ == "__main__":
    main()
