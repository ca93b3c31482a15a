"""The report and all its forms."""

import json
from dataclasses import replace

import pytest
from reports import two_stages, unmeasured
from runs import ROOT

from fcit_plugin.errors import FcitError
from fcit_plugin.evaluation.report import Report, markdown_table, table

LEFT_OUT = {"stage": 1, "round": 0, "client": 7, "reason": "it gave no reply"}


@pytest.mark.parametrize("name", ["mini", "hard", "real"])
def test_the_reports_of_the_shipped_runs_come_back_as_the_same_json(name):
    lines = (ROOT / "results" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines
    for line in lines:
        values = json.loads(line)["report"]
        assert json.dumps(Report.from_dict(values).to_dict()) == json.dumps(values)


def test_a_mean_of_runs_comes_back_too():
    report = replace(two_stages(), spread={"last": 1.5, "avg": None}, clients={"4": {"last": 75.0}})
    values = json.loads(json.dumps(report.to_dict()))
    assert list(values)[-2:] == ["spread", "clients"]
    assert Report.from_dict(values) == report
    assert "Last 75.00 ± 1.50   Avg 82.50   " in table(report)


def test_a_report_needs_no_more_than_a_comparison_does():
    needed = "method setting seed stages datasets accuracy zero_shot last avg forgetting bwt fwt bytes_up bytes_down seconds"
    values = two_stages().to_dict()
    report = Report.from_dict({key: values[key] for key in needed.split()})
    assert (report.arguments, report.assignments, report.reference) == ({}, [], None)
    for key in needed.replace(" seed", "").split():  # a published report has none
        with pytest.raises(FcitError, match=f"at `{key}`: Field required"):
            Report.from_dict({name: value for name, value in values.items() if name != key})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": "3"}, "at `seed`: Input should be a valid integer"),
        ({"seed": True}, "at `seed`: Input should be a valid integer"),
        ({"last": "75"}, "at `last`: Input should be a valid number"),
        ({"accuracy": [[90, "x"]], "stages": None}, "at `stages`: Input should be a valid list"),
        ({"accuracy": [[90.0]]}, "After stage 0 there are 1 scores, but 2 datasets"),
        ({"accuracy": [[90.0, float("nan")]]}, "at `accuracy.0.1`: Input should be"),
        ({"accuracy_restricted": [[None] * 3]}, "After stage 0 there are 3 scores, but 2 datasets"),
        ({"seconds": {"total": 1.0}}, "at `seconds.train`: Field required"),
        ({"assignments": [{"stage": 0}]}, "at `assignments.0.round`"),
        ({"partition": [{"task": "a", "dataset": "b", "records": [0.5]}]}, "at `partition.0.records.0`"),
        ({"mood": "good"}, "knows: mood;"),
    ],
)
def test_what_is_no_report_is_told_by_its_key(changes, message):
    with pytest.raises(FcitError, match=message):
        Report.from_dict(two_stages().to_dict() | changes)


def test_scores_by_data_set():
    report = two_stages()
    assert [report.scores_after(stage) for stage in range(3)] == [{"fcit_a": 90}, {"fcit_a": 70, "fcit_b": 80}, {}]
    assert report.final_scores == report.scores_after(1)


def test_the_table_says_what_privacy_was_spent_where_noise_was_added():
    spent = {"delta": 1e-5, "total": {"epsilon": 3.25}}
    report = two_stages(privacy=spent)
    assert report.privacy == spent
    assert "Privacy spent: epsilon 3.25 at delta 1e-05" in table(report)
    assert "Privacy" not in table(two_stages())
    assert "Privacy spent: epsilon 3.25" in table(two_stages(privacy=spent | {"noise": "secret"}))
    simulated = table(two_stages(privacy=spent | {"noise": "simulated"}))
    assert "Epsilon if the noise were secret: 3.25 at delta 1e-05 (simulated noise" in simulated
    assert "protects nobody" in simulated and "Privacy spent" not in simulated


def test_the_table_says_how_often_clients_were_left_out_if_any_was():
    assert "1 times a client was left out" in table(two_stages(dropped=[LEFT_OUT]))
    assert "left out" not in table(two_stages())


def test_records_that_are_left_out_are_in_the_report_if_any_is(tmp_path):
    counts = {"fcit_a": 3, "fcit_b_test": 1}
    report = two_stages(left_out=counts)
    assert "left out, as LLaMA-Factory leaves them out: 3 of fcit_a, 1 of fcit_b_test" in table(report)
    report.write(tmp_path)
    assert Report.read(tmp_path).left_out == counts
    assert "left_out" not in two_stages().to_dict()


def test_files(tmp_path):
    report = two_stages()
    for folder in ("one", "two"):
        report.write(tmp_path / folder)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["accuracy_matrix.csv", "accuracy_matrix.png", "fcit_report.json", "partition.png", "subspaces.png"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    text = (tmp_path / "one" / "fcit_report.json").read_text()
    assert json.loads(text) == report.to_dict()
    assert text.startswith('{\n  "method": "disco",\n')
    assert Report.read(tmp_path / "one") == Report.read(tmp_path / "one" / "fcit_report.json") == report
    assert (tmp_path / "one" / "accuracy_matrix.csv").read_text() == "stage,fcit_a,fcit_b\n0,90.0,\n1,70.0,80.0\n"


def test_files_without_evaluation(tmp_path):
    unmeasured().write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["accuracy_matrix.csv", "fcit_report.json"]


def test_table():
    assert table(two_stages()).splitlines() == [
        "FCIT: disco, custom, seed 3",
        "",
        "Score:",
        "             a      b",
        "---------------------",
        "untuned  10.00  20.00",
        "stage 0  90.00      -",
        "stage 1  70.00  80.00",
        "",
        "Score with answers restricted to the dataset's own labels:",
        "         a      b",
        "-----------------",
        "stage 1  -  85.00",
        "",
        "Last 75.00   Avg 82.50   Forgetting 20.00   BWT -20.00   FWT 70.00",
        "",
        "Unconfirmed, for one client alone has trained it (`fcit_route_unconfirmed`): subspace 0.",
    ]


def test_table_without_evaluation():
    expected = ["FCIT: disco, custom, seed 3", "", "Last -   Avg -   Forgetting -   BWT -   FWT -"]
    assert table(unmeasured()).splitlines() == expected


def test_markdown_table():
    lines = markdown_table(two_stages()).splitlines()
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
