"""Readers of reports, results, grids and single files."""

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from reader import Reader
from reports import two_stages

from fcit_plugin.commands.data_partition import _read_keys
from fcit_plugin.compare.cell_state import RECIPE as CELL_RECIPE
from fcit_plugin.compare.cell_state import prepare, state_of
from fcit_plugin.compare.grid_file import GridFile
from fcit_plugin.compare.results import Results, write_runs
from fcit_plugin.engine.one_run import _who
from fcit_plugin.evaluation.card import model_card
from fcit_plugin.evaluation.report import REPORT_JSON, Report, markdown_table, table
from fcit_plugin.evaluation.side_by_side import compare, render, write_csv
from fcit_plugin.evaluation.tables import plain
from fcit_plugin.recipe.devices import set_aside, zero_stage
from fcit_plugin.recipe.read import split
from fcit_plugin.recipe.watch import watch
from fcit_plugin.scenario.settings import get_scenario


def _report(folder: Path) -> None:
    privacy = {"delta": 1e-5, "noise": "simulated", "total": {"epsilon": 3.0}}
    absent = [{"stage": 0, "round": 0, "client": 2, "reason": "it failed"}]
    report = two_stages(
        privacy=privacy, dropped=absent, idle=absent, product_errors=[{"stage": 0, "round": 0, "subspace": 0, "error": 0.1}]
    )
    (folder / REPORT_JSON).write_text(json.dumps(report.to_dict()))


def _reported(folder: Path) -> Iterator[str]:
    report = Report.read(folder)
    comparisons = compare({"a": report, "b": report})
    for text in (render(comparisons, plain), table(report), markdown_table(report)):
        assert "\x1b" not in text
    model_card(report, "tiny", "llama3", metrics={}, pipeline_tag="text-generation", shared=None)
    write_csv(comparisons, folder / "table.csv")
    return iter(())


_GRID = {
    "title": "A grid",
    "about": "Lines.",
    "base": "base.yaml",
    "output_dir": "saves",
    "document": "work/grid.md",
    "common": {"learning_rate": 0.1},
    "rows": {"a": {"fcit_method": "disco"}, "b": {"seeds": [1]}},
    "settings": {"task_hom": {"fcit_num_rounds": 1}},
    "betas": [1.0, 0.5],
    "reference": "a",
    "seeds": [1, 2],
    "plots": ["curves"],
    "tables": {"one": {"title": "One", "rows": ["a", "b"], "seeds": [1]}},
    "published": {"source": "a paper", "beta": 1.0, "scores": {"task_hom": {"a": {"Last": 50.0}}}},
    "jobs": 1,
}


def _grid(folder: Path) -> None:
    (folder / "grid.yaml").write_text(json.dumps({**_GRID, "output_dir": str(folder / "saves")}))
    (folder / "base.yaml").write_text(json.dumps({"stage": "fcit", "learning_rate": 0.2}))


def _grid_read(folder: Path) -> Iterator[str]:
    grid = GridFile(folder / "grid.yaml")
    for cell in grid.cells[:50]:
        assert cell.name and cell.keys
    if grid.published:
        grid.published.scores_of("task_hom", 1.0, "a")
    return iter(())


def _small_grid(folder: Path) -> None:
    """A grid of two cells."""
    grid = {key: _GRID[key] for key in ("title", "base", "document", "common")} | {
        "rows": {"a": {"fcit_method": "disco"}, "b": {}}
    }
    (folder / "grid.yaml").write_text(json.dumps({**grid, "output_dir": str(folder / "saves")}))
    (folder / "base.yaml").write_text(json.dumps({"stage": "fcit", "learning_rate": 0.2}))


@cache
def _grid_in(folder: Path) -> GridFile:
    """That one: it is good, and read once."""
    return GridFile(folder / "grid.yaml")


def _cell(folder: Path) -> None:
    _small_grid(folder)
    cell = _grid_in(folder).cells[0]
    prepare(cell)
    path = cell.folder / CELL_RECIPE
    path.write_text(json.dumps(cell.keys))
    _report(cell.folder)


def _cell_read(folder: Path) -> Iterator[str]:
    grid = _grid_in(folder)
    [str(state_of(cell)) for cell in grid.cells]
    Results(grid).reports()
    return iter(())


def _results(folder: Path) -> None:
    _small_grid(folder)
    grid = _grid_in(folder)
    write_runs(grid, {cell.name: two_stages() for cell in grid.cells[:2]}, folder / "results.jsonl")


def _results_read(folder: Path) -> Iterator[str]:
    grid = _grid_in(folder)
    results = Results(grid, [folder / "results.jsonl"])
    reports = results.reports()
    write_runs(grid, reports, folder / "results.jsonl")
    return iter(())


def _deepspeed(folder: Path) -> None:
    (folder / "ds.json").write_text(json.dumps({"train_batch_size": "auto", "zero_optimization": {"stage": 2, "x": [1]}}))


def _deepspeed_read(folder: Path) -> Iterator[str]:
    zero_stage(set_aside({"deepspeed": str(folder / "ds.json")}))
    return iter(())


def _owner(folder: Path) -> None:
    (folder / ".run.owner.json").write_text(json.dumps({"process": 1, "machine": "here", "since": "now"}))


def _owner_read(folder: Path) -> Iterable[str]:
    said = _who(folder / ".run.owner.json")
    return () if said else [".run.owner.json is passed over: process, machine, since"]


#: Keys that are LLaMA-Factory's to judge.
_SAYS_NOTHING = tuple(
    ("recipe.yaml", way) for way in ("an empty object", "null", "NaN", "empty", "noise", "a date that is none")
)


def _recipe(folder: Path) -> None:
    keys = {
        "model_name_or_path": "tiny",
        "stage": "fcit",
        "fcit_setting": "custom",
        "fcit_stages": [["a"], ["b"]],
        "fcit_schedule": [[0], [1]],
        "fcit_num_clients": 4,
        "fcit_clients_per_round": 2,
        "fcit_beta": 0.5,
        "fcit_method": "disco",
        "fcit_similarity_threshold": 0.7,
        "lora_rank": 4,
        "seed": 1,
    }
    (folder / "recipe.yaml").write_text(json.dumps(keys))


def _recipe_read(folder: Path) -> Iterator[str]:
    """As far as the plugin reads a recipe, before LLaMA-Factory takes its part."""
    path = str(folder / "recipe.yaml")
    watch([path])
    _, stage, args = split(_read_keys([path]))
    if args is not None and stage is not None:
        get_scenario(args.fcit_setting, args.fcit_stages, args.fcit_schedule)
    return iter(())


READERS = [
    Reader("a recipe", _recipe, _recipe_read, own=("*",), free=("*:?*",), names={"*": "fcit_"}, takes=_SAYS_NOTHING),
    Reader("a report", _report, _reported, free=("*:arguments.*",)),
    Reader(
        "a grid",
        _grid,
        _grid_read,
        own=("*",),
        free=("base.yaml:?*", "*:tables.*.title", "*:common.*", "*:rows.*.fcit_*", "*:settings.*.fcit_*"),
    ),
    Reader("a grid's cell", _cell, _cell_read, spoil=("saves/*",), free=("*/recipe.yaml:?*", "*:arguments.*"), optional=("*",)),
    Reader(
        "results of a grid",
        _results,
        _results_read,
        share=2,
        spoil=("results.jsonl",),
        own=("*",),
        free=("*:*.recipe.*", "*:*.report.arguments.*"),
        takes=(("results.jsonl", "empty"),),
    ),
    Reader(
        "DeepSpeed's file",
        _deepspeed,
        _deepspeed_read,
        own=("*",),
        free=("*:train_batch_size", "*:zero_optimization.x*"),
        takes=(("ds.json", "an empty object"),),
    ),
    Reader("an output folder's owner", _owner, _owner_read, own=("*",)),
]
