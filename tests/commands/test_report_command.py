"""``fcit-cli report`` as it is called."""

import json

import pytest
from reports import matrix_of, report_with

from fcit_plugin.cli import main


@pytest.fixture
def call(monkeypatch, capsys):
    """Calls ``fcit-cli report`` and gives its exit code and output."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["fcit-cli", "report", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().out

    return run


@pytest.fixture
def outputs(tmp_path):
    """Output folders of two seeds of one method and of one run in another setting."""
    folders = []
    for name, setting, seed, last in (("one", "custom", 1, 60), ("two", "custom", 2, 80), ("het", "task_het", 1, 50)):
        folders.append(tmp_path / name)
        report_with(matrix_of({"a": last}), [["a"]], setting=setting, seed=seed, zero_shot={"a": 5}).write(folders[-1])
    return folders


def test_tables_are_shown_and_nothing_is_written(call, outputs, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, shown = call(*outputs)
    assert code is None
    assert "custom: 1 stage, 1 dataset." in shown and "task_het: 1 stage, 1 dataset." in shown
    assert "disco         2  70.00 ± 14.14" in shown
    assert sorted(tmp_path.rglob("*")) == before


def test_out_gets_markdown_csv_and_pictures(call, outputs, tmp_path):
    call(*outputs[:2], "--out", tmp_path / "one_table")
    assert sorted(path.name for path in (tmp_path / "one_table").iterdir()) == [
        *("curves.pdf", "curves.png", "final_scores.pdf", "final_scores.png", "table.csv", "table.md", "table.tex"),
    ]
    assert "| disco | 2 | 70.00 ± 14.14 |" in (tmp_path / "one_table" / "table.md").read_text()
    call(*outputs, "--out", tmp_path / "two_tables")
    assert {path.name for path in (tmp_path / "two_tables").glob("*.png")} == {
        *("curves_1.png", "final_scores_1.png", "curves_2.png", "final_scores_2.png"),
    }


def test_a_file_is_as_good_as_its_folder_and_counts_once(call, outputs):
    _, shown = call(outputs[0], outputs[0] / "fcit_report.json", f"{outputs[0]}/")
    assert "disco         1  60.00" in shown


def test_reports_without_evaluation_have_no_pictures(call, outputs, tmp_path):
    path = outputs[0] / "fcit_report.json"
    report = json.loads(path.read_text())
    report |= {"accuracy": [], **dict.fromkeys(("last", "avg", "forgetting", "bwt", "fwt"))}
    path.write_text(json.dumps(report))
    call(outputs[0], "--out", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["table.csv", "table.md", "table.tex"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist; name the output_dir of a finished fcit run"),
        ("", "is not valid JSON (Expecting value"),
        ('{"method": "disco"', "is not valid JSON (Expecting"),
        ("[1, 2]", "is not of its form: Input should be a valid dictionary"),
        ('{"method": "disco"}', "is not of its form, at `setting`: Field required"),
        ("\udcff", "is not valid JSON ('utf-8' codec"),
    ],
)
def test_a_missing_or_damaged_report_is_one_sentence_that_names_it(call, outputs, text, message):
    path = outputs[1] / "fcit_report.json"
    path.unlink() if text is None else path.write_bytes(text.encode("utf-8", "surrogateescape"))
    code, _ = call(*outputs)
    assert code.startswith(f"fcit-cli: {path} ") and message in code
    assert "\n" not in code


@pytest.mark.parametrize("damage", [{"accuracy": [[1.0, 2.0]]}, {"accuracy": None}, {"datasets": 3}, {"zero_shot": []}])
def test_a_report_whose_numbers_do_not_fit_together_is_refused(call, outputs, damage):
    path = outputs[0] / "fcit_report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    code, _ = call(*outputs)
    assert code.startswith(f"fcit-cli: {path} is not of its form, at `{next(iter(damage))}")


def test_the_report_of_a_run_can_be_read(call, text_run):
    _, shown = call(text_run)
    assert "custom: 2 stages, 2 datasets." in shown


def test_html_of_one_run_lies_beside_its_report(call, outputs):
    for given in (outputs[0], outputs[0] / "fcit_report.json"):
        _, shown = call(given, "--html")
        page = outputs[0] / "fcit_report.html"
        assert f"Open {page} in a browser." in shown and "60.0" in page.read_text()
        page.unlink()


def test_html_of_several_runs_lies_here_or_where_it_is_told_to(call, outputs, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    call(*outputs, "--html")
    call(*outputs, "--html", "--out", tmp_path / "there")
    here, there = ((tmp_path / name / "fcit_report.html").read_text() for name in ("here", "there"))
    assert here == there and "3 runs side by side" in here and "70.00 \u00b1 14.14" in here
    assert not (outputs[0] / "fcit_report.html").exists()


def test_a_run_leaves_its_page_with_its_answers(call, text_run):
    written = (text_run / "fcit_report.html").read_text()
    assert "Answers side by side" in written and "Loss in stage 1" in written and "fcit-plugin 0." in written
    call(text_run, "--html")
    assert (text_run / "fcit_report.html").read_text() == written


def test_damaged_answers_are_one_sentence_that_names_them(call, outputs):
    (outputs[0] / "predictions").mkdir()
    (outputs[0] / "predictions" / "stage-0.jsonl").write_text("{}")
    code, _ = call(outputs[0], "--html")
    assert "stage-0.jsonl, line 1 is not of its form" in code
