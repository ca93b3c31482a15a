"""The grid file: which cells it stands for, in which order, with which keys."""

from pathlib import Path

import pytest
import yaml
from llamafactory.hparams.parser import _TRAIN_ARGS

from fcit_plugin.compare.grid_file import GridFile, choose_cells
from fcit_plugin.recipe.read import split
from fcit_plugin.scenario.settings import get_scenario

ROOT = Path(__file__).parents[2]

BASE = {"stage": "fcit", "learning_rate": 0.1, "output_dir": "elsewhere", "overwrite_output_dir": True, "seed": 42}
GRID = {
    "base": "base.yaml",
    "output_dir": "saves/grid",
    "document": "docs/grid.md",
    "rows": {"a": {"fcit_method": "sequential"}, "b": {}},
}


@pytest.fixture
def grid(tmp_path):
    """Makes the grid of a file with these keys; None takes one out."""

    def make(**changes):
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE, sort_keys=False))
        keys = {key: value for key, value in {**GRID, **changes}.items() if value is not None}
        (tmp_path / "grid.yaml").write_text(yaml.safe_dump(keys, sort_keys=False))
        return GridFile(tmp_path / "grid.yaml")

    return make


def names(cells):
    return [cell.name for cell in cells]


def test_axes_are_multiplied_seed_by_seed_and_each_cell_is_there_once(grid):
    tables = {
        "one": {"rows": ["b", "a"]},
        "two": {"rows": ["b"], "betas": [1.0, 0.5], "seeds": [1]},
    }
    made = grid(settings={"task_hom": {}, "cap_hom": {}}, seeds=[1, 2], tables=tables)
    first = ["task_hom/beta1/b", "task_hom/beta1/a", "cap_hom/beta1/b", "cap_hom/beta1/a"]
    assert names(made.cells) == [
        *(f"{name}/seed1" for name in first),
        *("task_hom/beta0.5/b/seed1", "cap_hom/beta0.5/b/seed1"),
        *(f"{name}/seed2" for name in first),
    ]


def test_later_overrides_win_and_the_axes_have_the_last_word(grid):
    made = grid(
        common={"learning_rate": 0.2, "fcit_num_rounds": 3, "fcit_num_clients": 7, "lora_rank": 2},
        settings={"cap_het": {"fcit_num_rounds": 4, "fcit_num_clients": 8}},
        rows={"x": {"fcit_num_clients": 9, "warmup_ratio": 0.2}},
        betas=[5.0],
        seeds=[3],
    )
    (cell,) = made.cells
    assert cell.keys == {
        "stage": "fcit",
        "learning_rate": 0.2,
        "lora_rank": 2,
        "fcit_setting": "cap_het",
        "fcit_num_rounds": 4,
        "fcit_num_clients": 9,
        "warmup_ratio": 0.2,
        "fcit_beta": 5.0,
        "seed": 3,
        "output_dir": "saves/grid/cap_het/beta5/x/seed3",
    }


def test_a_setting_of_its_own_has_a_name_of_its_own(grid):
    stages = [["p"], ["q"]]
    (cell, _) = grid(settings={"short": {"fcit_setting": "custom", "fcit_stages": stages}}).cells
    assert cell.name == "short/beta1/a/seed1"
    assert (cell.keys["fcit_setting"], cell.keys["fcit_stages"]) == ("custom", stages)


def test_a_row_may_have_fewer_seeds(grid):
    made = grid(rows={"a": {}, "b": {"seeds": [2]}}, seeds=[1, 2])
    assert [(cell.row, cell.seed) for cell in made.cells] == [("a", 1), ("a", 2), ("b", 2)]
    assert "seeds" not in made.cells[-1].keys


def test_what_is_evaluated_anew_comes_after_its_run_and_has_its_keys(grid):
    rows = {"again": {"evaluates": "run", "fcit_activation": "argmax"}, "run": {"lora_rank": 3}}
    again, run = grid(rows=rows).cells[::-1]
    assert (run.name, again.name) == ("task_hom/beta1/run/seed1", "task_hom/beta1/again/seed1")
    assert again.evaluates == run
    extra = {"do_train": False, "adapter_name_or_path": str(run.folder), "fcit_activation": "argmax"}
    assert again.keys == run.keys | extra | {"output_dir": str(again.folder)}
    assert names(choose_cells([run, again], ["again"])) == [run.name, again.name]


def test_patterns_choose_cells_by_a_part_of_their_name(grid):
    cells = grid(seeds=[1, 2], settings={"task_hom": {}, "task_het": {}}).cells
    assert choose_cells(cells, []) == list(cells)
    assert names(choose_cells(cells, ["het/*/b/seed2", "hom/beta1/a/seed1"])) == [
        *("task_hom/beta1/a/seed1", "task_het/beta1/b/seed2"),
    ]
    with pytest.raises(ValueError, match="`--only disco` fits no cell"):
        choose_cells(cells, ["disco"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row": {}}, "unknown key `row`; did you mean `rows`"),
        ({"rows": None}, "has no `rows`"),
        ({"rows": {"a": 3}}, "'a' in `rows` must be keys and values"),
        ({"rows": ["a"]}, "`rows` must be keys and values"),
        ({"base": "none.yaml"}, "none.yaml cannot be read"),
        ({"base": "grid.yaml"}, "is not a recipe with `stage: fcit`"),
        ({"betas": ["x"]}, "at `betas.0`: Input should be a valid number"),
        ({"seeds": 3}, "at `seeds`: Input should be a valid list"),
        ({"seeds": [True]}, "at `seeds.0`: Input should be a valid integer"),
        ({"jobs": 0}, "`jobs` is a number of processes"),
        ({"plots": ["curve"]}, "'curve' is none of the `plots`; did you mean `curves`"),
        ({"tables": {"t": {"rows": ["c"]}}}, "table 't': 'c' is none of the `rows`"),
        ({"tables": {"t": {"seed": [1]}}}, "table 't' has an unknown key `seed`; did you mean `seeds`"),
        ({"rows": {"a": {"evaluates": "b"}}}, "row 'a' evaluates 'b', which is not a row that is trained"),
        ({"rows": {"a": {"seed": 5}}}, "row 'a' has `seed`, which the grid sets for each run; give it in `seeds`"),
        ({"rows": {"a": {"fcit_setting": "cap_hom"}}}, "row 'a' has `fcit_setting`, .* give it in `settings`"),
        ({"common": {"fcit_beta": 5.0}}, "common has `fcit_beta`, .* give it in `betas`"),
        ({"settings": {"task_hom": {"output_dir": "x"}}}, "setting 'task_hom' has `output_dir`"),
        ({"seeds": [1, 2, 1]}, "1 stands in `seeds` twice"),
        ({"rows": {"a": {"seeds": [7]}}}, r"row 'a' asks for seed 7, but the tables that show it have \[1\]"),
        *(
            ({key: {name: {}}, **more}, f"{name!r} in `{key}` is to be the name of one file or folder")
            for name in ("a/b", "..", ".", "", "/", "/etc")
            for key, more in (("rows", {}), ("settings", {}), ("tables", {}))
        ),
        (
            {"settings": {"b_c": {}, "c": {}}, "tables": {"a": {"settings": ["b_c"]}, "a_b": {"settings": ["c"]}}},
            r"table 'a_b' in the setting 'c' has the same files, a_b_c.\*, as table 'a' in the setting 'b_c'; name",
        ),
        ({"betas": [0.12345671, 0.12345672]}, "the betas 0.12345671 and 0.12345672 have one folder, task_hom/beta0.123457/a"),
        *(({key: {}}, f"`{key}`") for key in ("rows", "settings")),
        *(({"tables": {"t": {key: []}}}, f"table 't': `{key}`") for key in ("rows", "settings", "betas", "seeds")),
        ({"rows": {"a": {}, "b": {"seeds": []}}}, "row 'b': `seeds` has none, so it is never run"),
        ({"published": {"source": "x"}}, "at `published.beta`: Field required"),
        *(
            ({"published": {"source": "x", "beta": beta, "scores": {setting: {row: {"Last": 1.0}}}}}, message)
            for beta, setting, row, message in (
                (0.5, "task_hom", "a", r"`published`: no table has the beta 0.5 that it names; they have \[1.0\]"),
                (1.0, "task_home", "a", "`published`: 'task_home' is none of the `settings`; did you mean `task_hom`"),
                (1.0, "task_hom", "aa", "`published`: 'aa' is none of the `rows`; did you mean `a`"),
            )
        ),
    ],
)
def test_a_grid_file_that_cannot_work_is_one_sentence_that_names_it(grid, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as refused:
        grid(**changes)
    assert str(tmp_path) in str(refused.value) and "\n" not in str(refused.value)


def shipped(name):
    return GridFile(ROOT / name)


GRIDS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "recipes" / "compare").glob("*.yaml"))


@pytest.mark.parametrize("name", GRIDS)
def test_every_row_and_setting_of_the_shipped_grids_stands_in_a_table(name):
    given, tables = yaml.safe_load((ROOT / name).read_text()), shipped(name).tables
    for what, shown in (("rows", [t.rows for t in tables]), ("settings", [t.settings for t in tables])):
        assert [one for one in given.get(what, {}) if one not in {name for names in shown for name in names}] == [], what


@pytest.mark.parametrize("name", GRIDS)
def test_every_cell_of_the_shipped_grids_is_a_recipe(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    known = {key for part in _TRAIN_ARGS for key in part.__dataclass_fields__}
    for cell in shipped(name).cells:
        rest, stage, fcit = split(cell.keys)
        assert stage == "fcit" and set(rest) <= known
        scenario = get_scenario(fcit.fcit_setting, fcit.fcit_stages, fcit.fcit_schedule)
        assert max(map(len, scenario.schedule)) in (1, fcit.fcit_clients_per_round), cell.name


def test_the_ablations_begin_from_the_runs_of_the_grid_of_methods():
    methods = {cell.folder: cell.keys for cell in shipped("recipes/compare/mini.yaml").cells}
    shared = {cell.folder: cell.keys for cell in shipped("recipes/compare/ablations.yaml").cells if cell.folder in methods}
    assert {folder.parts[-2] for folder in shared} == {"disco", "oracle"} and len(shared) == 4
    assert all(methods[folder] == keys for folder, keys in shared.items())
