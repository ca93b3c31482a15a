"""What ``benchmarks/routing.py`` and ``foreign.py`` ask and count: well-formed instructions, none trained, and statistics."""

import numpy as np
import pytest
from runs import ROOT
from scipy import stats

from fcit_plugin.knowledge.embedding import reference_instructions
from fcit_plugin.knowledge.public_lists import public_pairs, wrapped_kinds
from fcit_plugin.knowledge.sentences import sentences


@pytest.fixture
def data(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import instructions

    return instructions


def plain(text):
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def test_each_kind_has_its_counts(data):
    assert len(data.kinds()) == 42
    for name, texts in data.training().items():
        assert 14 <= len(texts) <= 40, name
        about = data.kinds()[name]
        assert len(about["development"]) == len(about["held_out"]) == 4, name
        assert not [t for t in [*texts, *about["development"], *about["held_out"]] if "{" in t or not t.strip()], name
    assert all(sum(language in about for about in data.kinds().values()) >= 30 for language in ("german", "chinese"))


def test_no_question_was_trained_and_none_is_asked_in_both_halves(data):
    trained = [plain(text) for texts in data.training().values() for text in texts]
    assert len(set(trained)) == len(trained)
    halves = [{plain(case.turns[-1]) for case in data.test_sets(half)["reworded"]} for half in data.HALVES]
    own = {plain(case.turns[-1]) for case in data.test_sets("held_out")["own"]}
    assert [len(half) for half in halves] == [168, 168]
    assert not halves[0] & halves[1] and not set(trained) & (halves[0] | halves[1] | own)
    wrappers = [data._read("wrappers")[half] for half in data.HALVES]
    assert not any(set(wrappers[0][name]) & set(wrappers[1][name]) for name in wrappers[0])


def test_no_question_has_a_sentence_that_ships_with_the_package(data):
    public = [text for part in (*wrapped_kinds(), *public_pairs(), reference_instructions()) for text in part]
    known = {plain(part) for text in public for part in (text, *sentences(text))}
    asked = [turn for half in data.HALVES for cases in data.test_sets(half).values() for case in cases for turn in case.turns]
    assert len(known) > 300 and not known & {plain(part) for text in asked for part in (text, *sentences(text))}


def test_every_set_asks_each_kind_and_changes_what_it_says(data):
    for half in data.HALVES:
        sets = data.test_sets(half)
        asked = {name: [case.turns[-1] for case in cases] for name, cases in sets.items()}
        for name in ("own", "reworded", "typos", "polite", "preamble", "follow-up", "upper"):
            assert {case.kind for case in sets[name]} == set(data.kinds()), name
        assert len(asked["polite"]) == len(asked["preamble"]) == 2 * 168
        for name, form in {"polite": "{}", "preamble": "{}"}.items():
            assert all(asked["reworded"][i // 2] in form.format(text) for i, text in enumerate(asked[name])), name
        changed = [new != old for new, old in zip(asked["typos"], asked["reworded"], strict=True)]
        assert sum(changed) > 0.5 * len(changed)
        assert all(sorted(new) == sorted(old) for new, old in zip(asked["typos"], asked["reworded"], strict=True))
        assert asked["typos"] == [case.turns[-1] for case in data.test_sets(half)["typos"]]
        assert {len(case.turns) for case in sets["follow-up"]} == {2}
    both = [{case.kind for case in data.test_sets(half)["german"]} for half in data.HALVES]
    assert not both[0] & both[1] and len(both[0] | both[1]) >= 30


@pytest.mark.parametrize(("right", "n"), [(0, 7), (8, 10), (168, 168), (147, 336)])
def test_intervals_of_shares_are_wilsons(data, right, n):
    from routed import wilson

    low, high = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(np.arange(n) < right) == f"{100 * right / n:.1f} ({100 * low:.0f}-{100 * high:.0f})"


def test_the_area_under_a_curve_is_mann_and_whitneys(data):
    from foreign import area

    draw = np.random.default_rng(1)
    known, foreign = draw.integers(0, 9, 60) / 10 + 0.2, draw.integers(0, 9, 45) / 10  # with ties
    assert area(known, foreign) == pytest.approx(stats.mannwhitneyu(known, foreign).statistic / 60 / 45)


def test_a_difference_counts_kinds_and_not_questions(data):
    """Questions of a kind that all go the same way are one observation: repeated, they make no interval smaller."""
    from routed import paired

    draw = np.random.default_rng(2)
    left, right = draw.integers(0, 2, (2, 40))
    once = paired(left, right, [str(i) for i in range(40)])
    often = paired(np.repeat(left, 8), np.repeat(right, 8), [str(i) for i in range(40) for _ in range(8)])
    expected = stats.bootstrap((left - right,), np.mean, n_resamples=10_000, method="percentile", rng=0).confidence_interval
    assert once == pytest.approx(often) and once[0] == (left - right).mean()
    assert once[1:] == pytest.approx((expected.low, expected.high), abs=0.03)


def test_questions_are_as_near_as_the_router_finds_them(data):
    """With an encoder that may tell a prompt by a sentence, and one that may not."""
    import routed

    from fcit_plugin.knowledge.nearness import PLAIN, WHITENED

    class Letters:
        def encode(self, texts):
            counts = np.array([[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts])
            return (counts + 0.1).astype(np.float32)

    for nearness in (PLAIN, WHITENED):
        Letters.nearness = nearness
        encoder, (kinds, sets) = routed.Remembering(Letters()), routed.questions("development", tiny=True)
        tokens = routed.subspaces(encoder, kinds)
        for part in ("own", "polite"):
            weights = routed.router(encoder, tokens).weights([case.turns for case in sets[part]])
            near = routed.nearest(encoder, tokens, sets[part])
            chosen = np.take_along_axis(near, weights.argmax(axis=1)[:, None], 1)[:, 0]
            assert chosen == pytest.approx(near.max(axis=1), abs=1e-6)
