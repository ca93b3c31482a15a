"""Where a verb is to write what comes out is looked at before its work, which may take hours."""

import pytest
import yaml
from reports import matrix_of, report_with
from tiny import write_recipe

from fcit_plugin.cli import main
from fcit_plugin.samples.mini.build import mini_root


def compared(place, flag, folder):
    write_recipe(folder / "base.yaml", {"stage": "fcit"})
    keys = {"base": "base.yaml", "output_dir": str(folder / "runs"), "document": str(folder / "doc.md"), "rows": {"a": {}}}
    behind = [] if flag == "document" else [flag, place]
    (folder / "grid.yaml").write_text(yaml.safe_dump({**keys, **({flag: str(place)} if flag == "document" else {})}))
    return ["compare", folder / "grid.yaml", *behind]


def reported(place, flag, folder):
    report_with(matrix_of({"a": 60}), [["a"]]).write(folder / "run")
    return ["report", folder / "run", flag, place]


#: Flag or key -> whether it names a folder, and the words that have it.
FLAGS = {
    ("compare", "document"): (False, compared),
    ("compare", "--to"): (False, compared),
    ("compare", "--paper"): (True, compared),
    ("report", "--out"): (True, reported),
    ("data verify", "--json"): (False, lambda place, flag, _: ["data", "verify", "--root", mini_root(), flag, place]),
    **{
        ("data partition", name): (False, lambda place, flag, _: ["data", "partition", "fcit_num_clients=5", flag, place])
        for name in ("--plot", "--csv")
    },
}


@pytest.mark.parametrize("below", [False, True], ids=["in_its_place", "below_a_file"])
@pytest.mark.parametrize("named", FLAGS, ids=" ".join)
def test_a_place_that_cannot_be_written_is_said_before_the_work(named, below, tmp_path, monkeypatch, capsys):
    is_folder, words = FLAGS[named]
    (tmp_path / "a_file").write_text("mine")
    (tmp_path / "a_folder").mkdir()
    place = tmp_path / "a_file" / "x" / "y.md" if below else tmp_path / ("a_file" if is_folder else "a_folder")

    def work(*given, **more):
        raise AssertionError("the work has begun")

    for name in ("compare.runner.run_cells", "evaluation.side_by_side.compare", "fcit_benchmark.verify.verify"):
        monkeypatch.setattr(f"fcit_plugin.{name}", work)
    monkeypatch.setattr("fcit_plugin.commands.data_partition.partition_of", work)
    monkeypatch.setattr("sys.argv", ["fcit-cli", *map(str, words(place, named[1], tmp_path))])
    with pytest.raises(SystemExit) as ended:
        main()
    wrong = tmp_path / "a_file" if below or is_folder else place
    assert f"`{named[1]}`" in str(ended.value.code) and str(wrong) in str(ended.value.code)
    assert capsys.readouterr().out == "" and (tmp_path / "a_file").read_text() == "mine"
