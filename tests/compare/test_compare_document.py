"""The document of a grid: what stands in which table, and what is told of runs that are not there."""

import csv
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from markdown_it import MarkdownIt
from reports import matrix_of, report_with

from fcit_plugin.cli import main
from fcit_plugin.compare import document as document_module
from fcit_plugin.compare.cell_state import prepare
from fcit_plugin.compare.document import last_in_labels
from fcit_plugin.compare.grid_file import GridFile
from fcit_plugin.state.progress import Traffic

pytestmark = pytest.mark.thorough

GRID = {
    "base": "base.yaml",
    "title": "Rivals",
    "about": "Why this was run.",
    "rows": {"zero": {"seeds": [1]}, "all": {"seeds": [1]}, "fedavg": {}, "disco": {}},
    "settings": {"task_hom": {}},
    "seeds": [1, 2, 3],
    "tables": {
        "methods": {"title": "Methods", "about": "Read it so.", "seeds": [1, 2]},
        "skew": {"title": "Skew", "rows": ["fedavg", "disco"], "betas": [1.0, 0.5], "plots": ["bars"], "seeds": [1, 2]},
    },
    "published": {
        "source": "A paper",
        "beta": 1.0,
        "scores": {"task_hom": {"fedavg": {"Last": 47.2}}},
    },
}
SCORES = {("fedavg", 1): (80, 10, 70), ("fedavg", 2): (90, 20, 60), ("disco", 1): (80, 70, 50)}


def report(row, seed, scores):
    """A run of two stages, or a bound."""
    reference = {"zero": "zero_shot", "all": "centralized"}.get(row)
    stages, evaluated, restricted = [["fcit_a"], ["fcit_b"]], [], []
    if reference == "centralized":
        stages, evaluated = [["fcit_a", "fcit_b"]], [{"fcit_a": 90, "fcit_b": 95}]
    elif reference is None:
        first, later, second = scores
        evaluated = [{"fcit_a": first}, {"fcit_a": later, "fcit_b": second}]
        restricted = [{"fcit_a": first}, {"fcit_a": later + 10, "fcit_b": None}]
    return report_with(
        matrix_of(*evaluated, datasets=["fcit_a", "fcit_b"]),
        stages,
        reference or row,
        reference=reference,
        setting="task_hom",
        seed=seed,
        restricted=restricted,
        zero_shot={"fcit_a": 1, "fcit_b": 3} if reference == "zero_shot" else None,
        traffic=Traffic() if reference else Traffic(2_000_000, 1_000_000),
        assignments=[{"stage": 0, "round": 0, "client": 0, "subspace": 0, "cosine": None, "task": "a"}],
        seconds={"total": 90, "evaluate": 30},
    )


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Calls ``fcit-cli compare`` on a grid of which five runs of ten have ended; gives exit code, output, document."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text("stage: fcit\n")
    keys = {**GRID, "output_dir": "out", "document": "docs/r.md"}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(keys, sort_keys=False))
    grid = GridFile(tmp_path / "grid.yaml")
    ended = {**SCORES, ("zero", 1): None, ("all", 1): None}
    for (row, seed), scores in ended.items():
        cell = grid.cell("task_hom", 1.0, row, seed)
        prepare(cell)
        report(row, seed, scores).write(cell.folder)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["fcit-cli", "compare", "grid.yaml", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        document = tmp_path / "docs" / "r.md"
        return ended.value.code, capsys.readouterr(), document.read_text() if document.exists() else None

    return run


def table_of(part):
    """The one table in a part of the document: header, and row -> cells."""
    lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in part.splitlines() if line.startswith("|")]
    header, _, *rows = lines
    return header[1:], {row[0]: row[1:] for row in rows}


def test_the_tables_have_mean_deviation_bounds_and_what_was_published(call):
    code, shown, document = call("--report-only")
    assert code == 0
    assert "5 of 10 cells are in docs/r.md" in shown.out
    assert document.startswith("# Rivals\n") and "Why this was run." in document and "Read it so." in document
    part = document[document.index("## Methods") : document.index("## Skew")]
    header, rows = table_of(part)
    assert header == [
        *("runs", "Last", "Last in labels", "Avg", "Forgetting", "BWT", "subspaces", "MB up", "MB down"),
        *("s training", "s evaluation", "paper: Last"),
    ]
    assert list(rows) == ["zero", "all", "fedavg", "disco"]
    assert rows["zero"][:3] == ["1", "2.00", "-"]
    assert rows["all"] == ["1", "92.50", *["-"] * 5, "0.00", "0.00", "60.00", "30.00", ""]
    # fedavg: Last 40 and 40, in labels 45 and 45, Avg 60 and 65, forgetting 70 and 70
    assert rows["fedavg"] == [
        *("2", "40.00 ± 0.00", "45.00 ± 0.00", "62.50 ± 3.54", "70.00 ± 0.00", "-70.00 ± 0.00", "1.00 ± 0.00"),
        *("2.00", "1.00", "60.00", "30.00", "47.20"),
    ]
    assert rows["disco"][:2] == ["1", "60.00"] and rows["disco"][-1] == ""
    assert "paper: A paper." in part


def test_what_has_not_ended_is_named(call):
    _, _, document = call("--report-only")
    missing = document[document.index("## Not in the tables yet") :]
    assert "5 of 10 runs" in missing
    for name in ("task_hom/beta1/disco/seed2", "task_hom/beta0.5/fedavg/seed1", "task_hom/beta0.5/disco/seed2"):
        assert f"`{name}`" in missing
    assert "`task_hom/beta1/disco/seed1`" not in missing


def test_pictures_are_those_that_the_document_shows(call, tmp_path):
    _, _, document = call("--report-only")
    names = sorted(path.name for path in (tmp_path / "docs" / "images" / "r").iterdir())
    assert names == [
        *("methods_task_hom_curves.png", "methods_task_hom_forgetting.png", "methods_task_hom_traffic.png"),
        "skew_task_hom_bars.png",
    ]
    assert all(f"(images/r/{name})" in document for name in names)


def test_several_betas_are_rows_of_one_table(call):
    _, _, document = call("--report-only")
    part = document[document.index("## Skew") : document.index("## Not in")]
    assert "| fedavg, beta 1 | 2 |" in part and "| disco, beta 1 | 1 |" in part and "beta 0.5" not in part


def test_the_document_is_the_same_each_time(call):
    assert call("--report-only")[2] == call("--report-only")[2]


def test_a_dry_run_lists_the_cells_and_leaves_everything_alone(call, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, shown, document = call("--dry-run", "--only", "disco")
    assert (code, document) == (0, None)
    lines = [line.split(maxsplit=1) for line in shown.out.splitlines()]
    assert lines[:2] == [["task_hom/beta1/disco/seed1", "finished"], ["task_hom/beta0.5/disco/seed1", "to run"]]
    assert lines[-1] == ["4", "cells."]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_refuses_keys_that_no_run_could_take(call, tmp_path):
    grid = yaml.safe_load((tmp_path / "grid.yaml").read_text())
    grid["rows"]["disco"] = {"fcit_temprature": 0.1}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
    code, shown, _ = call("--dry-run")
    assert code.startswith("fcit-cli: task_hom/beta1/disco/seed1: ") and "fcit_temprature" in code
    assert shown.out == ""
    assert call("--dry-run", "--only", "fedavg")[0] == 0, "cells that are not asked for were looked at"


def test_a_report_made_from_other_keys_is_not_in_the_table(call, tmp_path):
    (tmp_path / "base.yaml").write_text("stage: fcit\nlearning_rate: 0.5\n")
    _, shown, document = call("--report-only")
    assert "0 of 10 cells" in shown.out
    assert "No run of it has ended yet." in document


def test_open_answers_count_as_they_are_among_restricted_scores():
    assert last_in_labels(report("disco", 1, (80, 70, 50))) == (80 + 50) / 2
    assert last_in_labels(report("all", 1, None)) is None
    assert last_in_labels(report("zero", 1, None)) is None


#: Names with what means something in a file's name, in an address, in Markdown or to matplotlib.
TABLES = ("beta 0.5", "beta 0.7", "v1.csv", "v1", "a(b)c", "100% #1?", "ä", "<img>", "`x` [y](z)", "$a_b$", "..x", "&amp;")


def images_of(document):
    """The images of a Markdown text as a reader of CommonMark takes it: address and text."""
    tokens = [part for token in MarkdownIt("commonmark").parse(document) for part in token.children or ()]
    return [(token.attrs["src"], token.content) for token in tokens if token.type == "image"]


def test_tables_of_any_names_have_files_of_their_own_and_their_links_lead_there(call, tmp_path):
    """One row each, so that one table's numbers would be seen in place of another's."""
    rows = ("fedavg", "disco")
    tables = {name: {"rows": [rows[i % 2]], "plots": ["bars"]} for i, name in enumerate(TABLES)}
    keys = yaml.safe_load((tmp_path / "grid.yaml").read_text())
    (tmp_path / "grid.yaml").write_text(
        yaml.safe_dump(keys | {"tables": tables, "document": "my docs/v 1.md"}, sort_keys=False)
    )
    code, _, _ = call("--report-only", "--paper", "for paper")
    assert code == 0
    for i, name in enumerate(TABLES):
        lines = (tmp_path / "for paper" / f"{name}_task_hom.csv").read_text().splitlines()
        (group,) = [line["method"] for line in csv.DictReader(lines) if line["runs"]]
        assert group == rows[i % 2]
    assert len(list((tmp_path / "for paper").iterdir())) == 3 * len(TABLES)
    images = images_of((tmp_path / "my docs" / "v 1.md").read_text())
    pictures = [Path(unquote(address)) for address, _ in images]
    assert [path.name for path in pictures] == [f"{name}_task_hom_bars.png" for name in TABLES]
    assert all((tmp_path / "my docs" / path).is_file() for path in pictures)
    assert {text for _, text in images} == {"task_hom: Last and forgetting"}


def test_a_setting_with_signs_of_markdown_stands_there_as_it_is(call, tmp_path):
    """And none of it makes an image, a link or a comment."""
    setting = "a*b* <i> ![x](y) -->"
    keys = yaml.safe_load((tmp_path / "grid.yaml").read_text())
    keys |= {"settings": {setting: {"fcit_setting": "task_hom"}}, "tables": {}, "published": None}
    grid_file = tmp_path / "g --> *.yaml"
    grid_file.write_text(yaml.safe_dump(keys, sort_keys=False))
    grid = GridFile(Path(grid_file.name))
    cell = grid.cell(setting, 1.0, "disco", 1)
    prepare(cell)
    report("disco", 1, (80, 70, 50)).write(cell.folder)
    document_module.write_document(grid, {cell.name: report("disco", 1, (80, 70, 50))})
    tokens = MarkdownIt("commonmark").parse(grid.document.read_text())
    headings = [tokens[i + 1] for i, token in enumerate(tokens) if token.type == "heading_open"]
    texts = ["".join(part.content for part in token.children) for token in headings]
    assert f"{setting}: 2 stages, 2 datasets, beta 1" in texts
    assert len(images_of(grid.document.read_text())) == 3


def test_a_picture_that_cannot_be_drawn_is_told_and_the_document_is_written(call, monkeypatch, caplog):
    def fail(*args):
        raise ValueError("a bad font")

    monkeypatch.setitem(document_module._PLOTS, "curves", ("score after each stage", fail))
    code, _, document = call("--report-only")
    assert code == 0 and "methods_task_hom_forgetting.png" in document and "curves.png" not in document
    assert "methods_task_hom_curves.png could not be drawn (ValueError: a bad font" in caplog.text


def test_what_there_is_nothing_to_draw_of_is_no_fault(call, tmp_path, caplog):
    keys = yaml.safe_load((tmp_path / "grid.yaml").read_text())
    keys["tables"] = {"bounds": {"rows": ["all"], "plots": ["traffic", "forgetting"]}}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(keys, sort_keys=False))
    code, _, document = call("--report-only")
    assert code == 0 and not images_of(document) and not caplog.records
