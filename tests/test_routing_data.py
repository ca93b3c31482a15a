"""The instructions of ``benchmarks/routing.py`` are well formed; nothing that is asked was trained."""

import pytest
from runs import ROOT


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
