"""tools/better_than_disco.py: rules against intervals worked out by hand; the page says what the shipped runs say."""

import json
import re
import runpy
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from reports import matrix_of, report_with
from runs import ROOT

from fcit_plugin.errors import FcitError

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


@pytest.fixture
def checkout(tmp_path):
    """The grids of the checkout, with no results."""
    (tmp_path / "results").mkdir()
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    return tmp_path


@pytest.mark.parametrize("text", [None, "", "\n\n"])
def test_without_runs_the_tables_say_so(checkout, text):
    if text is not None:
        for name in ("base", "mini", "real"):
            (checkout / "results" / f"{name}.jsonl").write_text(text)
    shown = TOOL.tables(checkout)
    assert "`: 0 of " in shown and "None" not in shown
    assert "no setting and seed has a run of disco_plus and one of disco" in shown
    told = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TOOL.headline(checkout).splitlines()]
    assert len(told) == 11 and all(row[1:] == [""] * 4 for row in told[2:])


def test_readme_has_of_the_base_the_seeds_that_all_of_its_rows_have(checkout):
    lines = [json.loads(line) for line in (ROOT / "results" / "base.jsonl").read_text().splitlines()]
    base = ["fedavg", "o_lora", "disco", "disco_plus", "centralized_equal"]
    kept = [line for line in lines if line["run"].split("/")[2] in base and line["run"].split("/")[3] in ("seed1", "seed2")]
    lost = next(line for line in kept if line["run"] == "task_hom/beta1/o_lora/seed2")

    def row(of):
        (checkout / "results" / "base.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in of))
        rows = [line.split("|") for line in TOOL.headline(checkout).splitlines()]
        return next(cells for cells in rows if cells[1].strip() == "fedavg")

    both, one = row(kept), row([line for line in kept if line is not lost])
    assert "2 seeds" in both[2] and "1 seed)" in one[2], "nobody's second seed counts in task_hom"
    assert both[3:] == one[3:]


def test_a_run_without_its_pair_and_one_without_a_score_are_no_pair(checkout):
    lines = [json.loads(line) for line in (ROOT / "results" / "mini.jsonl").read_text().splitlines()]
    kept = [line for line in lines if line["run"].split("/")[2] in ("disco", "disco_plus")]
    first = next(line for line in kept if "/disco/" in line["run"])
    (checkout / "results" / "mini.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in kept if line is not first))
    whole, less = TOOL.pooled("mini", "disco_plus", "disco"), TOOL.pooled("mini", "disco_plus", "disco", checkout)
    pairs = [int(re.search(r"over (\d+) pairs", text)[1]) for text in (whole, less)]
    assert pairs[1] == pairs[0] - 1


@pytest.mark.parametrize("text", ["no json\n", '{"a": 1}\n', "[]\n", '{"run": "x", "recipe": {}, "report": {}}\n'])
def test_a_file_of_something_else_is_named(checkout, text):
    (checkout / "results" / "base.jsonl").write_text(text)
    with pytest.raises(FcitError, match=r"base\.jsonl, line 1"):
        TOOL.tables(checkout)


def test_a_page_without_a_place_for_the_tables_stays_as_it_is(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(f"one\n{TOOL.START}\ntwo\n")
    monkeypatch.setitem(TOOL.main.__globals__, "PAGE", page)
    with pytest.raises(FcitError, match=r"page\.md has no"):
        TOOL.main(["--write"])
    assert page.read_text() == f"one\n{TOOL.START}\ntwo\n"


def test_permuted_answers_are_those_of_the_dataset_and_all_else_is_as_it_was(tmp_path, monkeypatch):
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
