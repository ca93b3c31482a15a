"""The report and all its forms."""

import json

import numpy as np

from fcit_plugin.evaluation.matrix import AccuracyMatrix
from fcit_plugin.evaluation.report import build_report, markdown_table, read_report, table, write_report


def arguments():
    matrix = AccuracyMatrix()
    matrix.add(0, {"fcit_a": 90.0})
    matrix.add(1, {"fcit_a": np.float32(70), "fcit_b": 80.0})
    entry = {"task": "a", "cosine": 0.5, "subspace": np.int64(0), "round": 0, "client": 4, "stage": 0}
    return {
        "method": "disco",
        "setting": "custom",
        "seed": 3,
        "arguments": {"learning_rate": 0.1},
        "stages": [("fcit_a",), ("fcit_b", "fcit_a")],
        "matrix": matrix,
        "restricted": [{"fcit_a": None}, {"fcit_a": None, "fcit_b": 85.0}],
        "other": [{"fcit_a": {"substring": 95.0}}, {}],
        "zero_shot": {"fcit_b": 20.0, "fcit_a": 10.0},
        "bytes_up": np.int64(2_500_000),
        "bytes_down": 4_000_000,
        "assignments": [entry, entry | {"stage": 1, "client": 5, "subspace": 1, "cosine": float("nan"), "task": "b"}],
        "seconds": {"evaluate": 1, "total": 3.5, "train": 2.5},
        "partition": [{"records": np.array([5, 7]), "dataset": "fcit_a", "task": "a"}],
    }


DROPPED = {"stage": 1, "round": np.int64(0), "client": 7, "reason": "it gave no reply"}


def empty():
    nothing = {"matrix": AccuracyMatrix(), "restricted": [], "zero_shot": None, "assignments": [], "partition": []}
    return build_report(**arguments() | nothing)


def test_report_is_plain_json_with_the_numbers_of_the_matrix():
    report = build_report(**arguments(), dropped=[DROPPED])
    assert report == {
        "method": "disco",
        "reference": None,
        "setting": "custom",
        "seed": 3,
        "arguments": {"learning_rate": 0.1},
        "earlier": [],
        "stages": [["fcit_a"], ["fcit_b", "fcit_a"]],
        "datasets": ["fcit_a", "fcit_b"],
        "accuracy": [[90.0, None], [70.0, 80.0]],
        "accuracy_restricted": [[None, None], [None, 85.0]],
        "scores_other": [{"fcit_a": {"substring": 95.0}}, {}],
        "zero_shot": {"fcit_a": 10.0, "fcit_b": 20.0},
        "last": 75.0,
        "avg": 82.5,
        "forgetting": 20.0,
        "bwt": -20.0,
        "fwt": 70.0,
        "bytes_up": 2_500_000,
        "bytes_down": 4_000_000,
        "assignments": [
            {"stage": 0, "round": 0, "client": 4, "subspace": 0, "cosine": 0.5, "task": "a"},
            {"stage": 1, "round": 0, "client": 5, "subspace": 1, "cosine": None, "task": "b"},
        ],
        "dropped": [{"stage": 1, "round": 0, "client": 7, "reason": "it gave no reply"}],
        "product_errors": [],
        "privacy": None,
        "partition": [{"task": "a", "dataset": "fcit_a", "records": [5, 7]}],
        "seconds": {"total": 3.5, "train": 2.5, "evaluate": 1.0},
    }
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_the_table_says_what_privacy_was_spent_where_noise_was_added():
    spent = {"delta": 1e-5, "total": {"epsilon": 3.25}}
    report = build_report(**arguments(), privacy=spent)
    assert report["privacy"] == spent
    assert "Privacy spent: epsilon 3.25 at delta 1e-05" in table(report)
    assert "Privacy" not in table(build_report(**arguments()))


def test_the_table_says_how_often_clients_were_left_out_if_any_was():
    assert "1 times a client was left out" in table(build_report(**arguments(), dropped=[DROPPED]))
    assert "left out" not in table(build_report(**arguments()))


def test_key_order_is_fixed():
    report = build_report(**dict(reversed(arguments().items())))
    assert json.dumps(report) == json.dumps(build_report(**arguments()))
    assert list(report)[:5] == ["method", "reference", "setting", "seed", "arguments"]
    assert list(report["zero_shot"]) == ["fcit_a", "fcit_b"]


def test_without_evaluation_there_are_no_summaries():
    report = empty()
    assert report["datasets"] == ["fcit_a", "fcit_b"]
    assert (report["accuracy"], report["zero_shot"]) == ([], {})
    assert [report[key] for key in ("last", "avg", "forgetting", "bwt", "fwt")] == [None] * 5


def test_last_of_the_untuned_model_is_its_mean_where_it_is_the_run():
    nothing = {"matrix": AccuracyMatrix(), "restricted": [], "assignments": [], "partition": []}
    report = build_report(**arguments() | nothing, reference="zero_shot")
    assert (report["reference"], report["last"], report["avg"]) == ("zero_shot", 15.0, None)


def test_data_sets_of_stages_that_were_not_reached_are_empty_columns():
    given = arguments()
    given["stages"] = [*given["stages"], ["fcit_c"]]
    report = build_report(**given)
    assert report["datasets"] == ["fcit_a", "fcit_b", "fcit_c"]
    assert report["accuracy"] == [[90.0, None, None], [70.0, 80.0, None]]


def test_files(tmp_path):
    report = build_report(**arguments())
    for folder in ("one", "two"):
        write_report(report, tmp_path / folder)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["accuracy_matrix.csv", "accuracy_matrix.png", "fcit_report.json", "partition.png", "subspaces.png"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    text = (tmp_path / "one" / "fcit_report.json").read_text()
    assert json.loads(text) == report
    assert text.startswith('{\n  "method": "disco",\n')
    assert read_report(tmp_path / "one") == read_report(tmp_path / "one" / "fcit_report.json") == report
    assert (tmp_path / "one" / "accuracy_matrix.csv").read_text() == "stage,fcit_a,fcit_b\n0,90.0,\n1,70.0,80.0\n"


def test_files_without_evaluation(tmp_path):
    write_report(empty(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["accuracy_matrix.csv", "fcit_report.json"]


def test_table():
    assert table(build_report(**arguments())).splitlines() == [
        "FCIT: disco, custom, seed 3",
        "",
        "Score:",
        "             a      b",
        "---------------------",
        "untuned  10.00  20.00",
        "stage 0  90.00      -",
        "stage 1  70.00  80.00",
        "",
        "Score with answers restricted to the data set's own labels:",
        "         a      b",
        "-----------------",
        "stage 1  -  85.00",
        "",
        "Last 75.00   Avg 82.50   Forgetting 20.00   BWT -20.00   FWT 70.00",
    ]


def test_table_without_evaluation():
    expected = ["FCIT: disco, custom, seed 3", "", "Last -   Avg -   Forgetting -   BWT -   FWT -"]
    assert table(empty()).splitlines() == expected


def test_markdown_table():
    lines = markdown_table(build_report(**arguments())).splitlines()
    assert lines[:7] == [
        "Score:",
        "",
        "|  | a | b |",
        "| --- | ---: | ---: |",
        "| untuned | 10.00 | 20.00 |",
        "| stage 0 | 90.00 | - |",
        "| stage 1 | 70.00 | 80.00 |",
    ]
    assert lines[-1] == "| 75.00 | 82.50 | 20.00 | -20.00 | 70.00 |"
