"""tools/better_than_disco.py: rules against intervals worked out by hand; the page says what the shipped runs say."""

import runpy
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from reports import matrix_of, report_with
from runs import ROOT

# both by their names in the tool, as it is run
TOOL = SimpleNamespace(**runpy.run_path(str(ROOT / "tools" / "better_than_disco.py")))
CHOOSING, CONFIRMING = [1, 2, 3], list(range(11, 19))


def runs(lasts, seeds, likelihoods=None):
    """A row's runs by seed, with one dataset of the given scores."""
    likelihoods = likelihoods or [1.0] * len(lasts)
    return {
        seed: report_with(matrix_of({"a": last}), [["a"]], seed=seed, likelihood=[{"a": likelihood}])
        for seed, last, likelihood in zip(seeds, lasts, likelihoods, strict=True)
    }


def told(gains, seeds, likelihoods=None):
    """The verdict on these gains over a row that has 50 and 1.0 with all seeds."""
    ours = runs([50 + gain for gain in gains], seeds, likelihoods)
    return TOOL.verdict(ours, runs([50] * len(gains), seeds))


# Eight values m - d, m + d in turn: s = d sqrt(8 / 7), so half of the interval is t(0.975, 7) s / sqrt(8) = 2.3646 d / sqrt(7),
# 0.8937 d.
@pytest.mark.parametrize(
    ("mean", "spread", "expected"),
    [
        (2.0, 2.2, "won"),  # from 0.03
        (2.0, 2.3, "not lost"),  # from -0.06
        (1.9, 0.1, "not lost"),  # surely above 0, but under 2 points
        (0.0, 3.3, "not lost"),  # from -2.95
        (0.0, 3.4, "lost"),  # from -3.04
        (-4.0, 0.0, "lost"),
    ],
)
def test_eight_confirming_seeds_decide_by_their_interval(mean, spread, expected):
    assert told([mean - spread, mean + spread] * 4, CONFIRMING) == expected


@pytest.mark.parametrize(
    ("gains", "likelihoods", "expected"),
    [
        ([0, 1, 2], None, "pursued"),
        ([0, 1, 1.9], None, "dropped"),
        ([-5, -5, -5], [0.9, 0.9, 1.1], "pursued"),  # the right answers are likelier
        ([0, 1, 1.9], [1.1, 1.1, 0.9], "dropped"),
    ],
)
def test_three_choosing_seeds_decide_by_the_mean_or_the_likelihood(gains, likelihoods, expected):
    assert told(gains, CHOOSING, likelihoods) == expected


@pytest.mark.parametrize("seeds", [CHOOSING[:2], [1], CONFIRMING[:7], [2, 3, 4], [*CHOOSING, 11]])
def test_other_seeds_decide_nothing_however_large_the_gain(seeds):
    assert told([30] * len(seeds), seeds).startswith("open: ")


def test_what_was_not_run_is_told():
    assert TOOL.verdict(runs([50], [1]), {}) == TOOL.verdict(runs([50], [1]), runs([40], [2])) == "not run"


def test_runs_with_another_number_of_threads_are_no_pair():
    ours, theirs = runs([50, 60, 70], CHOOSING), runs([40, 40, 40], CHOOSING)
    ours = {seed: replace(report, engine={"machine": "one", "threads": 1 + (seed + 1) % 2}) for seed, report in ours.items()}
    theirs = {seed: replace(report, engine={"machine": "one", "threads": 1}) for seed, report in theirs.items()}
    pairs = TOOL.Pairs.of(ours, theirs)
    assert (pairs.last.mean, pairs.last.pairs) == (20.0, 2), "seeds 1 and 3"
    assert TOOL.verdict(ours, theirs) == "open: 2 of 3 choosing seeds"


def test_what_it_was_chosen_on_does_not_count_when_it_is_confirmed():
    assert told([-40, -40, -40, *[3] * 8], [*CHOOSING, *CONFIRMING]) == "won"
    assert told([40, 40, 40, *[0] * 8], [*CHOOSING, *CONFIRMING]) == "not lost"


@pytest.mark.parametrize(("page", "made"), [("docs/research/better-than-disco.md", "tables"), ("README.md", "headline")])
def test_the_pages_have_the_tables_of_the_shipped_runs(page, made):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text.partition(TOOL.START)[2].partition(TOOL.END)[0].strip() == getattr(TOOL, made)().strip()


def test_permuted_answers_are_those_of_the_dataset_and_all_else_is_as_it_was(tmp_path, monkeypatch):
    import json

    from fcit_plugin.samples.mini.build import mini_root

    tool, out = ROOT / "tools" / "permute_answers.py", tmp_path / "out"
    monkeypatch.setattr(sys, "argv", [str(tool), "--out", str(out)])
    runpy.run_path(str(tool), run_name="__main__")
    changed = 0
    for file in mini_root().rglob("*"):
        other = out / file.relative_to(mini_root())
        if not file.is_file() or file.read_bytes() == other.read_bytes():
            continue
        changed += 1
        before, after = (json.loads(path.read_text(encoding="utf-8")) for path in (file, other))
        assert all("train" in path.name for path in (file, other))
        asked = [[{**row, "conversations": row["conversations"][:-1]} for row in rows] for rows in (before, after)]
        answers = [[row["conversations"][-1]["value"] for row in rows] for rows in (before, after)]
        assert asked[0] == asked[1] and sorted(answers[0]) == sorted(answers[1]) and answers[0] != answers[1]
    assert changed == 12
