"""Runs side by side: what belongs together, and numbers worked by hand."""

import csv
import re
import statistics
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt
from reports import matrix_of, report_with
from runs import ROOT

from fcit_plugin.compare.grid_file import GridFile
from fcit_plugin.compare.results import read_runs
from fcit_plugin.evaluation.latex import latex
from fcit_plugin.evaluation.report import ALIKE
from fcit_plugin.evaluation.side_by_side import (
    MEASURES,
    compare,
    difference_rows,
    difference_title,
    final_rows,
    paired_seeds,
    render,
    summary_rows,
    write_csv,
)
from fcit_plugin.evaluation.side_by_side_plots import plot_curves, plot_finals, plot_matrices, plot_traffic
from fcit_plugin.evaluation.tables import markdown, plain
from fcit_plugin.state.progress import Traffic


def report(method="disco", seed=1, a=(90.0, 70.0), b=80.0, setting="custom", zero_shot=(10.0, 20.0), **arguments):
    """A run of two stages: a after both, b after the second."""
    return report_with(
        matrix_of({"fcit_a": a[0]}, {"fcit_a": a[1], "fcit_b": b}),
        [["fcit_a"], ["fcit_b"]],
        method,
        setting=setting,
        seed=seed,
        arguments=arguments,
        zero_shot=dict(zip(("fcit_a", "fcit_b"), zero_shot, strict=True)) if zero_shot else None,
        traffic=Traffic(2_500_000, 1_000_000),
        seconds={"total": 90.0, "evaluate": 30.0},
    )


def unevaluated(report):
    """The same run, of which only traffic and time are known."""
    return replace(report, accuracy=[], **dict.fromkeys(("last", "avg", "forgetting", "bwt", "fwt")))


def runs():
    """Two methods; disco over three seeds."""
    return {
        "d1": report(seed=1, a=(90, 70), b=80),
        "f1": report("fedavg", seed=1, a=(90, 10), b=70),
        "d3": report(seed=3, a=(86, 64), b=76),
        "d2": report(seed=2, a=(94, 66), b=94),
    }


def labels(comparison):
    return [group.label for group in comparison.groups]


def test_mean_and_sample_deviation_over_seeds_by_hand():
    (comparison,) = compare(runs())
    # disco: Last 75, 80, 70; Avg 82.5, 87, 78; forgetting 20, 28, 22; FWT 70, 79, 66
    assert summary_rows(comparison) == [
        ["", "runs", "Last", "Avg", "Forgetting", "BWT", "FWT", "MB sent", "MB received", "minutes"],
        ["zero-shot", "", "15.00", *[""] * 7],
        ["fedavg", "1", "40.00", "65.00", "80.00", "-80.00", "65.00", "2.50", "1.00", "1.50"],
        [
            *("disco", "3", "75.00 ± 5.00", "82.50 ± 4.50", "23.33 ± 4.16", "-23.33 ± 4.16", "71.67 ± 6.66"),
            *("2.50 ± 0.00", "1.00 ± 0.00", "1.50 ± 0.00"),
        ],
    ]
    assert final_rows(comparison) == [
        ["", "a", "b"],
        ["zero-shot", "10.00", "20.00"],
        ["fedavg", "10.00", "70.00"],
        ["disco", "66.67 ± 3.06", "83.33 ± 9.45"],
    ]


def test_curves_over_stages():
    disco = compare(runs())[0].groups[1]
    assert [run.seed for run in disco.reports] == [1, 2, 3]
    first, last = disco.curve()
    assert (first.mean, first.deviation) == (90, statistics.stdev([90, 94, 86]))
    assert (last.mean, last.deviation) == (75, statistics.stdev([75, 80, 70]))


def test_a_stage_that_was_not_evaluated_is_a_gap():
    gap = report()
    gap.accuracy.insert(1, [None, None])
    curve = compare({"x": gap})[0].groups[0].curve()
    assert [spread and spread.mean for spread in curve] == [90, None, 75]


def test_groups_are_told_apart_by_the_arguments_that_differ():
    shared = {"learning_rate": 0.1, "fcit_num_clients": 10}
    (comparison,) = compare(
        {
            "1": report(seed=1, **shared, fcit_zero_shot=False),
            "2": report(seed=2, **shared, fcit_eval_every="round"),
            "3": report(seed=1, a=(90, 60), **shared, fcit_server_rule="fedadam", seed_of_data=3),
            "4": report(seed=1, a=(90, 50), learning_rate=0.2, fcit_num_clients=10, fcit_stages=[["a"]]),
        }
    )
    assert labels(comparison) == [
        'disco, learning_rate=0.2, stages=[["a"]]',
        "disco, learning_rate=0.1, server_rule=fedadam, seed_of_data=3",
        "disco, learning_rate=0.1",
    ]
    assert [len(group.reports) for group in comparison.groups] == [1, 1, 2]


def test_runs_of_one_seed_that_nothing_tells_apart_stand_alone_under_their_names():
    (comparison,) = compare({"x/one": report(a=(90, 70)), "x/two": report(a=(90, 60)), "x/three": report(seed=2)})
    assert labels(comparison) == ["disco (x/two)", "disco (x/one)", "disco (x/three)"]
    assert all(len(group.reports) == 1 for group in comparison.groups)


def test_settings_and_data_sets_have_tables_of_their_own():
    other = replace(report(seed=3), datasets=["fcit_a", "fcit_c"])
    comparisons = compare({"1": report(), "2": report(setting="task_hom"), "3": other, "4": report(seed=2)})
    assert [(c.setting, c.datasets, len(c.groups[0].reports)) for c in comparisons] == [
        ("custom", ("fcit_a", "fcit_b"), 2),
        ("task_hom", ("fcit_a", "fcit_b"), 1),
        ("custom", ("fcit_a", "fcit_c"), 1),
    ]
    assert [c.title for c in comparisons][:2] == ["custom: 2 stages, 2 datasets", "task_hom: 2 stages, 2 datasets"]


def test_columns_follow_the_first_run_whatever_the_order_in_another():
    turned = report("fedavg")
    turned = replace(turned, datasets=turned.datasets[::-1], accuracy=[row[::-1] for row in turned.accuracy])
    (comparison,) = compare({"1": report(), "2": turned})
    assert final_rows(comparison)[2][1:] == final_rows(comparison)[3][1:] == ["70.00", "80.00"]


def test_different_untuned_models_have_a_row_each_and_incomplete_ones_none():
    (comparison,) = compare({"1": report(), "2": report("fedavg", zero_shot=(0, 10)), "3": report("ewc", zero_shot=None)})
    assert {label: list(scores.values()) for label, scores in comparison.zero_shot.items()} == {
        "zero-shot (disco)": [10, 20],
        "zero-shot (fedavg)": [0, 10],
    }


def test_a_run_without_evaluation_has_only_bytes_and_minutes():
    (comparison,) = compare({"x": unevaluated(report("fedavg", zero_shot=None)), "y": report()})
    assert labels(comparison) == ["fedavg", "disco"]
    assert summary_rows(comparison)[2] == ["fedavg", "1", *["-"] * 5, "2.50", "1.00", "1.50"]
    assert final_rows(comparison)[2] == ["fedavg", "-", "-"]


def test_tables_for_terminal_and_markdown():
    comparisons = compare({"1": report(), "2": report(setting="task_hom")})
    shown = render(comparisons, plain).splitlines()
    assert shown[0] == "custom: 2 stages, 2 datasets. Mean ± standard deviation over the runs:"
    assert shown[2].split() == ["runs", "Last", "Avg", "Forgetting", "BWT", "FWT", "MB", "sent", "MB", "received", "minutes"]
    assert len({len(line) for line in shown[2:6]}) == 1
    assert shown[shown.index("Score after the last stage:") + 2].split() == ["a", "b"]
    text = render(comparisons, markdown)
    assert "\n| zero-shot |  | 15.00 |" in text and "\n| disco | 70.00 | 80.00 |" in text
    assert text.count("| --- |") == 4


def test_csv_has_all_numbers_in_full(tmp_path):
    comparisons = compare(runs() | {"t": report(setting="task_hom")})
    write_csv(comparisons, tmp_path / "t.csv")
    rows = list(csv.DictReader((tmp_path / "t.csv").open(newline="")))
    assert [(row["setting"], row["method"], row["runs"], row["seeds"]) for row in rows] == [
        ("custom", "zero-shot", "", ""),
        ("custom", "fedavg", "1", "1"),
        ("custom", "disco", "3", "1 2 3"),
        ("task_hom", "zero-shot", "", ""),
        ("task_hom", "disco", "1", "1"),
    ]
    assert (rows[0]["Last"], rows[0]["fcit_b"], rows[0]["Avg"]) == ("15.0", "20.0", "")
    assert float(rows[2]["Last"]) == 75
    assert float(rows[2]["Forgetting deviation"]) == pytest.approx(statistics.stdev([20, 28, 22]))
    assert float(rows[2]["fcit_a deviation"]) == pytest.approx(statistics.stdev([70, 66, 64]))
    assert rows[1]["Last deviation"] == ""
    assert float(rows[2]["minutes"]) == 1.5


def test_differences_are_taken_from_the_run_named_first_seed_by_seed():
    """Last of disco 75 and 80, of fedavg 40 and 55: 35 and 25, so 30 +- 12.706 x 5; the third seed of disco has no pair."""
    few = {"f1": report("fedavg", seed=1, a=(90, 10), b=70), "f2": report("fedavg", seed=2, a=(90, 40), b=70)}
    text = render(compare({"d1": runs()["d1"], **few, "d2": runs()["d2"], "d3": runs()["d3"]}), markdown)
    assert "Above disco, seed by seed" in text
    assert "| fedavg | 2 | -30.00 (-93.53 to +33.53) |" in text
    text = render(compare({**few, **runs()}), markdown)
    assert "Above fedavg, seed by seed" in text and "| disco | 2 | +30.00 (-33.53 to +93.53) |" in text
    alone = render(compare({"a": report(seed=1), "b": report("fedavg", seed=1, a=(90, 10))}), markdown)
    assert "| fedavg | 1 | -30.00 |" in alone, "one seed has a difference and no interval"
    assert "Above" not in render(compare({"a": report(seed=1), "b": report("fedavg", seed=2)}), markdown), "no seed in common"


def test_whether_likelihood_was_measured_tells_no_runs_apart():
    with_it = replace(report(seed=2), likelihood=[[1.0, None], [0.5, 0.25]])
    (comparison,) = compare({"a": report(seed=1, fcit_eval_likelihood=False), "b": with_it})
    assert labels(comparison) == ["disco"]
    header, _, row = summary_rows(comparison)
    assert row[header.index("NLL")] == "0.38 (1 run)", "0.375, of the one run that has it"


@pytest.mark.parametrize("form", [plain, markdown, None])
def test_a_mean_or_difference_of_fewer_runs_than_its_row_has_says_of_how_many(form):
    """Of three seeds a measure is known of two, or of one; scores of single datasets likewise."""

    def without(report, known):
        lacking = {} if known else {"avg": None, "bwt": None}
        likelihood = [[1.0, None], [0.5, 0.25]] if known or report.seed == 2 else None
        return replace(report, likelihood=likelihood, **lacking)

    ours = [without(report(seed=seed, a=(90, 70 + seed)), seed == 1) for seed in (1, 2, 3)]
    theirs = [without(report("ewc", seed=seed), True) for seed in (1, 2, 3)]
    ours[2] = replace(ours[2], accuracy=[[90.0, None], [70.0, None]])
    (comparison,) = compare({f"{one.method}{one.seed}": one for one in [*theirs, *ours]})
    text = latex([comparison]) if form is None else render([comparison], form)
    lines = [line for line in text.replace("&", "|").splitlines() if "disco" in line and ("|" in line or form is plain)]
    summary, finals, differences = (re.sub(r"[${}]|\\mathbf|\\\\", "", line) for line in lines)
    assert summary.count("(1 run)") == 2 and summary.count("(2 runs)") == 1, "Avg, BWT; NLL"
    assert finals.count("(2 runs)") == 1 and "(1 run)" not in finals
    assert differences.count("(1 pair)") == 2 and differences.count("(2 pairs)") == 1
    others = [line for line in text.splitlines() if "ewc" in line]
    assert others and not any("run)" in line or "runs)" in line or "pair" in line for line in others if "Above" not in line)


def test_a_likelihood_of_fewer_datasets_than_scores_is_no_mean():
    assert replace(report(), likelihood=[[1.0, None], [0.5, None]]).final_likelihood is None
    assert replace(report(), likelihood=[[1.0, None]]).final_likelihood is None
    assert report().final_likelihood is None


def test_a_bound_that_trains_nothing_has_the_untuned_model_s_likelihood():
    untuned = replace(report(), accuracy=[], likelihood_untuned={"fcit_a": 2.0, "fcit_b": 4.0})
    assert untuned.final_likelihood is None, "a run that was not evaluated"
    assert replace(untuned, reference="zero_shot").final_likelihood == 3.0


@pytest.mark.parametrize("draw", [plot_curves, plot_matrices, plot_finals, plot_traffic])
def test_pictures_of_runs_that_were_evaluated_after_the_last_stage_alone(draw, tmp_path):
    last = report_with(matrix_of({}, {"fcit_a": 70.0, "fcit_b": 80.0}), [["fcit_a"], ["fcit_b"]], seed=1)
    (comparison,) = compare({"last": last})
    (group,) = comparison.groups
    assert group.curve()[0] is None and group.matrix(["fcit_a"])[0] == [None]
    draw(comparison, tmp_path / "x.png")


def on(machine, threads=1):
    """How a run was computed."""
    return {"name": "process", "processes": 1, "threads": threads, "machine": machine, "versions": "torch 2"}


ZEN4, ZEN5, INTEL = (
    f"Linux x86_64, 2 processors ({kind}, AVX512), cpu"
    for kind in ("AMD EPYC, family 25, model 17", "AMD EPYC, family 26, model 2", "Intel(R) Xeon(R), family 6, model 143")
)


@pytest.mark.parametrize(
    ("ours", "theirs", "alike"),
    [
        (on(ZEN4), on(ZEN5), True),
        (on(ZEN4, threads=2), on(ZEN5, threads=2), False),  # no such runs were held against each other
        (on(ZEN4, threads=2), on(ZEN4, threads=2), True),
        (on(ZEN4), on(INTEL), False),
        (on(ZEN4), on(ZEN5.replace("2 processors", "8 processors")), False),
        (on(ZEN4), on(ZEN5.replace("AVX512", "AVX2")), False),
        (on(ZEN4.replace("cpu", "NVIDIA H200")), on(ZEN5.replace("cpu", "NVIDIA H200")), False),
    ],
)
def test_kinds_of_processors_that_were_seen_to_compute_alike_are_one_with_one_thread(ours, theirs, alike):
    one, other = (replace(report(seed=1), engine=engine) for engine in (ours, theirs))
    assert (one.where == other.where) is alike
    assert paired_seeds({1: one}, {1: other}) == ({1} if alike else set())


def test_they_were_seen_to():
    """The runs of results/two_processors.jsonl are those of results/base.jsonl, on another kind of processor."""
    grid = GridFile(ROOT / "recipes" / "compare" / "base.yaml")
    ours, theirs = (read_runs(grid, [ROOT / "results" / f"{name}.jsonl"]) for name in ("two_processors", "base"))
    assert len(ours) >= 5 and {name.split("/")[2] for name in ours} >= {"disco", "fedavg", "o_lora", "centralized_equal"}
    for name, run in ours.items():
        kinds = [re.search(r"\((.*)\)", other.report.engine["machine"])[1] for other in (run, theirs[name])]
        assert ALIKE[kinds[0]] == kinds[1]
        measured = [dict(other.report.to_dict(), engine=None, seconds=None) for other in (run, theirs[name])]
        assert measured[0] == measured[1], name


@pytest.mark.parametrize(
    ("theirs", "pairs"),
    [
        ((on("one"), on("one"), on("one")), [1, 2, 3]),
        ((on("one"), on("other"), on("one")), [1, 3]),
        ((on("one", threads=2), on("other"), None), []),
    ],
)
def test_runs_of_a_seed_are_a_pair_on_one_machine_with_as_many_threads(theirs, pairs):
    ours = {f"d{seed}": replace(report(seed=seed, b=80.0 + seed), engine=on("one")) for seed in (1, 2, 3)}
    others = {
        f"f{seed}": replace(report("fedavg", seed=seed, b=70.0), engine=engine) for seed, engine in enumerate(theirs, start=1)
    }
    (comparison,) = compare({**others, **ours})
    header, row = difference_rows(comparison, {"Last": MEASURES["Last"]})
    # Last of two datasets: half of what b differs by
    wanted = statistics.fmean([(10 + seed) / 2 for seed in pairs]) if pairs else None
    assert row[:2] == ["disco", str(len(pairs))]
    assert header == (["", "paired seeds", "Last"] if pairs else ["", "paired seeds"])
    if wanted is not None:
        assert row[2].startswith(f"{wanted:+.2f}")
    apart = [str(seed) for seed in (1, 2, 3) if seed not in pairs]
    title = difference_title(comparison)
    assert title.startswith("Above fedavg, seed by seed: ")
    assert title.endswith(f"or one names none: disco seeds {', '.join(apart)}" if apart else "which says little")
    assert f"{title}:" in render([comparison], plain)


def test_a_setting_stands_over_its_tables_as_it_is():
    comparisons = [replace(compare(runs())[0], setting="a*b* <i>\x1b[31m")]
    in_markdown, on_a_terminal = render(comparisons, markdown), render(comparisons, plain)
    (shown, *_) = [token.content for token in MarkdownIt("commonmark").parse(in_markdown) if token.type == "inline"]
    children = MarkdownIt("commonmark").parseInline(shown)[0].children
    assert "".join(part.content for part in children).startswith("a*b* <i>\\x1b[31m: 2 stages")
    assert on_a_terminal.startswith("a*b* <i>\\x1b[31m: 2 stages") and "\x1b" not in in_markdown + on_a_terminal
