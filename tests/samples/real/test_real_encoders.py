"""With a real base model: what `auto` becomes, where the thresholds come from, and that kinds do not make rewordings worse."""

import sys
from collections.abc import Sequence

import numpy as np
import pytest
from runs import ROOT

from fcit_plugin.engine.settling import choose
from fcit_plugin.knowledge.encoders import make_encoder
from fcit_plugin.knowledge.framed import FramedStates
from fcit_plugin.knowledge.nearness import SENTENCES, WHITENED
from fcit_plugin.knowledge.prototypes import Prototypes, merged, nearest_cosines, prototypes_of
from fcit_plugin.knowledge.public_lists import public_kinds, public_pairs, wrapped_kinds
from fcit_plugin.knowledge.vectors import unit
from fcit_plugin.knowledge.whitening import Whitening
from fcit_plugin.samples.real.packages import MissingPackage
from fcit_plugin.samples.real.smollm2 import load_text_model

sys.path.insert(0, str(ROOT / "benchmarks"))
from thresholds import THRESHOLDS, assign, halves

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def base():
    """SmolLM2-135M and its tokenizer."""
    try:
        model, tokenizer = load_text_model()
    except MissingPackage as error:
        pytest.skip(str(error))
    return model.eval(), tokenizer


@pytest.fixture(scope="module")
def states(base):
    """What it makes of instructions."""
    return FramedStates(*base)


def test_auto_is_prompt(base):
    name, reason = choose(*base)
    assert name == "prompt"
    assert int(reason.split()[4]) >= 18  # far above the 15 that are wanted


def good(parts: Sequence[Sequence[np.ndarray]]) -> list[float]:
    """Thresholds at which evenly spread clients make at most 5 % more subspaces than there are kinds, all of them right."""
    found = []
    for threshold in THRESHOLDS:
        results = [assign(kinds, threshold, 5.0, seed) for kinds in parts for seed in range(4)]
        subspaces, foreign = np.mean(results, axis=0)
        if len(parts[0]) <= subspaces <= 1.05 * len(parts[0]) and foreign == 0:
            found.append(threshold)
    return found


def test_the_threshold_is_the_highest_that_is_good_for_both_on_public_kinds(base, states):
    minilm = make_encoder("minilm", "mean", True, *base)
    vectors = [unit(minilm.encode(texts)) for texts in (*public_kinds(), *public_pairs())]
    by_minilm = good([vectors[part] + vectors[20:] for part in (slice(0, 20, 2), slice(1, 20, 2))])
    by_prompt = good(halves(states))
    assert max({*by_prompt} & {*by_minilm}) == WHITENED.threshold == SENTENCES.threshold
    assert max(by_prompt + by_minilm) < 0.9


def told(kinds: Sequence[np.ndarray], plain: bool, per_subspace: int) -> float:
    """The share of wordings, plain and wrapped, that find the subspace of their kind without having been in it.

    Args:
        kinds: Of each kind its five wordings, and four wrapped forms of each.
        plain: By the subspaces' means alone, or by the kinds that two clients tell, as `disco_plus` has it.
        per_subspace: How many kinds a subspace serves.
    """
    right, generator = [], np.random.default_rng(0)
    for kind in range(len(kinds)):
        for wording in range(5):
            subspaces = []
            for first in range(0, len(kinds), per_subspace):
                mine = range(first, first + per_subspace)
                rows = np.array([kinds[k][i] for k in mine for i in range(5) if (k, i) != (kind, wording)])
                mean = Prototypes(rows.mean(axis=0, keepdims=True), np.array([1]))
                if plain:
                    subspaces.append(mean)
                    continue
                order = generator.permutation(len(rows))
                clients = np.array_split(order, 2)
                found = merged([prototypes_of(rows[part], WHITENED.of_a_client) for part in clients], WHITENED.of_one_kind)
                means = [found.means, mean.means] if WHITENED.mean_too else [found.means]
                subspaces.append(Prototypes(np.concatenate(means), np.ones(sum(map(len, means)), np.int64)))
            asked = kinds[kind][[wording, *range(5 + 4 * wording, 9 + 4 * wording)]]
            right += (nearest_cosines(asked, subspaces).argmax(axis=1) == kind // per_subspace).tolist()
    return float(np.mean(right))


def test_kinds_make_rewordings_no_worse_and_mixed_subspaces_better(states):
    wrapped = [states(texts) for texts in wrapped_kinds()]
    gains: dict[int, list[float]] = {1: [], 2: []}
    for kept in (slice(0, 20, 2), slice(1, 20, 2)):
        fitted = np.stack([rows for i, rows in enumerate(wrapped) if i not in range(20)[kept]])
        sides = [Whitening.of(fitted[:, :, side]) for side in (0, 1)]
        kinds = [np.concatenate([w(rows[:, i]) for i, w in enumerate(sides)], axis=1) for rows in wrapped[kept]]
        for per_subspace, found in gains.items():
            found.append(
                told(kinds, plain=False, per_subspace=per_subspace) - told(kinds, plain=True, per_subspace=per_subspace)
            )
    assert np.mean(gains[1]) > -0.02  # 5 of 250 asked in each half
    assert np.mean(gains[2]) > 0.05
