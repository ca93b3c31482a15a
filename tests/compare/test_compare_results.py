"""Results files: a line a run, read in place of folders, and written from them."""

import json
import re
from pathlib import Path

import pytest
import yaml
from matplotlib.figure import Figure
from reports import matrix_of, report_with
from runs import ROOT

from fcit_plugin.cli import main
from fcit_plugin.compare.cell_state import CellStatus, prepare
from fcit_plugin.compare.grid_file import GridFile
from fcit_plugin.compare.results import Results, write_runs
from fcit_plugin.compare.runner import Runner, run_cells
from fcit_plugin.evaluation.report import REPORT_JSON, Report

GRID = {
    "base": "base.yaml",
    "output_dir": "out",
    "document": "docs/r.md",
    "rows": {"disco": {}, "argmax": {"evaluates": "disco", "fcit_activation": "argmax"}, "ewc": {"learning_rate": 0.1}},
    "settings": {"task_hom": {"fcit_setting": "custom"}},
    "seeds": [1, 2],
    "plots": [],
}
OTHER = {**GRID, "rows": {"disco": {}, "lwf": {}}, "document": "docs/other.md"}
#: The cells of GRID that have ended, with their Last.
ENDED = {"task_hom/beta1/disco/seed2": 62.5, "task_hom/beta1/disco/seed1": 50.0, "task_hom/beta1/argmax/seed1": 12.5}


def make_grid(name="grid", **changes):
    file = Path(f"{name}.yaml")
    file.write_text(yaml.safe_dump({**(OTHER if name == "other" else GRID), **changes}, sort_keys=False))
    return GridFile(file)


def leave(cell, last):
    """Leave in a cell's folder what its run would."""
    report = report_with(matrix_of({"fcit_ä": last}), [["fcit_ä"]], setting="task_hom", seed=cell.seed)
    prepare(cell)
    (cell.folder / REPORT_JSON).write_text(json.dumps(report.to_dict()))


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Calls ``fcit-cli compare``, beside folders of a grid and of another one on the same runs; gives code and output."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text("stage: fcit\nfcit_stages: [[ä]]\n")
    for cell in make_grid().cells:
        if cell.name in ENDED:
            leave(cell, ENDED[cell.name])
    leave(make_grid("other").cell("task_hom", 1.0, "lwf", 1), 30.0)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["fcit-cli", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().out

    return run


@pytest.fixture
def lines(call, tmp_path):
    """The lines of ``r.jsonl``, which holds the grid's finished runs; the folders are away."""
    call("grid.yaml", "--report-only", "--to", "r.jsonl")
    (tmp_path / "out").rename(tmp_path / "away")
    return (tmp_path / "r.jsonl").read_text().splitlines()


def test_a_line_is_the_recipe_and_the_report_of_a_run_and_lines_are_sorted(call, lines):
    found = [json.loads(line) for line in lines]
    assert [run["run"] for run in found] == sorted(ENDED)
    for run in found:
        (folder,) = [cell.folder for cell in make_grid().cells if cell.name == run["run"]]
        folder = "away" / folder.relative_to("out")
        assert run["recipe"] == yaml.safe_load((folder / "recipe.yaml").read_text())
        assert run["report"] == json.loads((folder / "fcit_report.json").read_text())
    assert lines[0].startswith('{"run":"task_hom/beta1/argmax/seed1","recipe":{"stage":"fcit","fcit_stages":[["ä"]],')


def test_the_document_and_its_pictures_are_those_of_the_folders(call, tmp_path):
    make_grid(plots=["bars"])
    call("grid.yaml", "--report-only", "--to", "r.jsonl")
    (tmp_path / "docs").rename(tmp_path / "expected")
    (tmp_path / "out").rename(tmp_path / "away")
    assert call("grid.yaml", "--report-only", "--from", "r.jsonl") == (0, "3 of 6 cells are in docs/r.md.\n")
    expected = contents(tmp_path / "expected")
    assert len(expected) == 2 and contents(tmp_path / "docs") == expected


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_several_files_count_together_and_folders_fill_up_what_they_lack(call, lines, tmp_path):
    for number, line in enumerate(lines[:2]):
        (tmp_path / f"{number}.jsonl").write_text(line + "\n")
    leave(make_grid().cell("task_hom", 1.0, "ewc", 2), 20.0)
    assert call("grid.yaml", "--report-only", "--from", "0.jsonl", "1.jsonl")[1].startswith("3 of 6 cells")
    shown = call("grid.yaml", "--dry-run", "--from", "0.jsonl", "1.jsonl")[1]
    assert [line.split(maxsplit=1)[1] for line in shown.splitlines()[:-1]] == [
        *("finished", "finished", "to run", "to run", "to run", "finished")
    ]


def test_grids_of_one_output_dir_share_a_file_and_leave_each_others_lines_alone(call, tmp_path):
    call("grid.yaml", "--report-only", "--to", "r.jsonl")
    assert call("other.yaml", "--report-only", "--to", "r.jsonl")[1].splitlines()[-1] == "r.jsonl has 4 runs."
    (tmp_path / "out").rename(tmp_path / "away")
    before = (tmp_path / "r.jsonl").read_bytes()
    assert call("other.yaml", "--report-only", "--from", "r.jsonl")[1].startswith("3 of 4 cells")
    call("grid.yaml", "--report-only", "--from", "r.jsonl", "--to", "r.jsonl")
    call("grid.yaml", "--report-only", "--to", "r.jsonl")  # nothing has ended here: all lines stay
    assert (tmp_path / "r.jsonl").read_bytes() == before


def test_a_run_in_a_folder_takes_the_place_of_its_older_line(call, lines, tmp_path):
    leave(make_grid().cell("task_hom", 1.0, "disco", 2), 99.0)
    call("grid.yaml", "--report-only", "--to", "r.jsonl")
    assert [json.loads(line)["report"]["last"] for line in (tmp_path / "r.jsonl").open()] == [12.5, 50.0, 99.0]


def test_a_line_from_other_keys_is_told_until_the_cell_is_run_anew(call, lines, tmp_path):
    grid = make_grid(rows={**GRID["rows"], "disco": {"fcit_temperature": 0.1}}, tables={"a": {"rows": ["disco"]}})
    results = Results(grid, [tmp_path / "r.jsonl"])
    assert {results.state_of(cell).status for cell in grid.cells} == {CellStatus.CHANGED} and results.reports() == {}
    failures = Runner(1, command="unused", look=results.state_of)(grid.cells)
    assert {failure.reason for failure in failures} == {
        "is made from other keys (`fcit_temperature` was None and is 0.1); --overwrite runs it again."
    }
    leave(grid.cells[0], 70.0)
    assert results.state_of(grid.cells[0]).status is CellStatus.FINISHED
    assert {name: report.last for name, report in results.reports().items()} == {grid.cells[0].name: 70.0}


def test_only_what_the_file_lacks_is_run(call, lines, tmp_path):
    grid = make_grid()
    results = Results(grid, [tmp_path / "r.jsonl"])
    failures = Runner(1, command="false", look=results.state_of)(grid.cells)
    assert {failure.cell.name: failure.reason.partition(":")[0] for failure in failures} == {
        "task_hom/beta1/ewc/seed1": "ended with 1",
        "task_hom/beta1/ewc/seed2": "ended with 1",
        # its run has a line, but the weights that it needs are in no file
        "task_hom/beta1/argmax/seed2": "was not started, for there is no finished run in out/task_hom/beta1/disco/seed2.",
    }


def test_with_all_runs_in_the_file_nothing_is_started_or_left_behind(call, lines, tmp_path):
    grid = make_grid(rows={"disco": {}})
    assert run_cells(grid, grid.cells, look=Results(grid, [tmp_path / "r.jsonl"]).state_of) == []
    assert not (tmp_path / "out").exists()


def with_keys(line, **keys):
    return json.dumps({**json.loads(line), **keys})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one, two: [one, two[:-9]], r"r\.jsonl, line 2 is not valid JSON \(.*\); restore the file"),
        (lambda one, two: [one, "[]"], r"line 2 is not of its form: Input should be a valid dict"),
        (lambda one, two: [with_keys(one, more=1)], r"line 1 has other keys than a run's, more;"),
        (lambda one, two: [with_keys(one, recipe=[])], r"line 1 is not of its form, at `recipe`"),
        (lambda one, two: [with_keys(one, report={})], r"line 1, `report`, is not of its form, at `method`: Field required"),
        (lambda one, two: [one, two, one], r"line 3: \S*argmax/seed1 stands in r\.jsonl, line 1 already; keep one"),
        (lambda one, two: [one, with_keys(two, recipe={})], r"line 2: \S*disco/seed1 is a run of another grid, made in None; "),
        (
            lambda one, two: [two.replace("out/task_hom", "saves/task_hom")],
            r"line 1: \S*disco/seed1 is a run of another grid, made in saves/\S*/seed1; grid\.yaml has its runs in out, so",
        ),
    ],
)
@pytest.mark.parametrize("arguments", [("--report-only", "--from", "r.jsonl"), ("--to", "r.jsonl")], ids=["from", "to"])
def test_a_file_that_cannot_be_used_is_one_sentence_that_names_it_and_the_line(
    call, lines, change, message, arguments, tmp_path
):
    file = tmp_path / "r.jsonl"
    file.write_text("".join(f"{line}\n" for line in change(*lines[:2])))
    before = file.read_bytes()
    told, _ = call("grid.yaml", *arguments)
    assert told.startswith("fcit-cli: r.jsonl, line ") and "\n" not in told
    assert re.search(message, told), told
    assert file.read_bytes() == before


def test_a_file_that_is_not_there_is_told(call):
    told, _ = call("grid.yaml", "--report-only", "--from", "gone.jsonl")
    assert told == "fcit-cli: gone.jsonl does not exist; name a file that `fcit-cli compare GRID --to FILE` has written."


def test_a_dry_run_refuses_to_write(call, tmp_path):
    assert call("grid.yaml", "--dry-run", "--to", "r.jsonl")[0].startswith("fcit-cli: `--dry-run` writes nothing")
    assert not (tmp_path / "r.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "evidence"),
    [
        ("mini", "mini"),
        ("ablations", "mini"),
        ("hard", "hard"),
        ("real", "real"),
        ("base", "base"),
        ("confirm_real", "confirm_real"),
        ("confirm_real_refactor", "confirm_real"),
    ],
    ids=lambda name: name,
)
def test_the_documents_of_the_shipped_grids_come_out_of_the_shipped_runs(name, evidence, call, tmp_path, monkeypatch):
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **how: file.write(b""))  # drawing takes most of the time
    grid = f"recipes/compare/{name}.yaml"
    told, _ = call(grid, "--report-only", "--from", ROOT / "results" / f"{evidence}.jsonl")
    assert told == 0
    document = GridFile(Path(grid)).document
    assert document.read_text() == (ROOT / document).read_text()
    pictures = sorted(path.relative_to(tmp_path) for path in (tmp_path / "docs").rglob("*.png"))
    assert pictures == sorted(path.relative_to(ROOT) for path in (ROOT / document.parent / "images" / document.stem).glob("*"))


@pytest.mark.parametrize("name", ["mini", "hard", "real", "base", "confirm_real"])
def test_the_shipped_runs_are_as_they_would_be_written(name, call, tmp_path):
    """Each of them is there once, in its place, and spelled in one way."""
    file = ROOT / "results" / f"{name}.jsonl"
    (tmp_path / "copy.jsonl").write_bytes(file.read_bytes())
    write_runs(GridFile(ROOT / "recipes" / "compare" / f"{name}.yaml"), {}, tmp_path / "copy.jsonl")
    assert (tmp_path / "copy.jsonl").read_bytes() == file.read_bytes()


def test_runs_tested_with_other_numbers_of_records_are_taken_and_the_document_names_them(call, lines, tmp_path):
    """A grid that asks for more test records by now; anything else that differs still makes a run another one."""
    file = tmp_path / "r.jsonl"
    (tmp_path / "base.yaml").write_text("stage: fcit\nfcit_stages: [[ä]]\nfcit_eval_samples: 100\n")
    call("grid.yaml", "--report-only", "--from", file)
    told = "Tested on the first records of each dataset's test set:"
    assert f"{told} 3 runs with" not in Path("docs/r.md").read_text(), "all were tested with all of them"
    found = [json.loads(line) for line in lines]
    for run in found[1:]:
        run["recipe"]["fcit_eval_samples"] = 40
    file.write_text("".join(f"{json.dumps(run)}\n" for run in found))
    before = file.read_text()
    call("grid.yaml", "--report-only", "--from", file, "--to", "again.jsonl")
    document = Path("docs/r.md").read_text()
    assert f"{told} 2 runs with 40; 1 with all of them (`{found[0]['run']}`)." in document
    again = {run["run"]: run["recipe"] for run in map(json.loads, Path("again.jsonl").read_text().splitlines())}
    assert again == {run["run"]: run["recipe"] for run in found}, "what they were tested with stays with them"
    assert file.read_text() == before
    found[2]["recipe"]["learning_rate"] = 0.3
    file.write_text("".join(f"{json.dumps(run)}\n" for run in found))
    grid = make_grid()
    results = Results(grid, [file])
    states = {cell.name: results.state_of(cell).status for cell in grid.cells}
    assert states[found[1]["run"]] is CellStatus.FINISHED and states[found[2]["run"]] is CellStatus.CHANGED


def test_each_report_is_read_a_fixed_number_of_times(call, monkeypatch):
    """However many cells a grid has: a look at one is no look at all others."""
    read, reports = Report.read, []
    monkeypatch.setattr(Report, "read", lambda path: reports.append(path) or read(path))
    call("grid.yaml", "--report-only", "--to", "r.jsonl")
    assert max(map(reports.count, reports)) <= 2
