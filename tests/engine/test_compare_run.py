"""``fcit-cli compare`` as it is called, with LLaMA-Factory's own command: a run, and its evaluation again."""

import json

import yaml
from runs import report_of


def test_a_grid_is_run_once_and_its_document_written(text_recipe, process, tmp_path):
    base = text_recipe(fcit_num_rounds=1, fcit_eval_restricted="last", overwrite_output_dir=True, seed=7)
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    grid = {
        "base": "base.yaml",
        "output_dir": str(tmp_path / "cells"),
        "document": str(tmp_path / "docs" / "grid.md"),
        "settings": {"tiny": {"fcit_setting": "custom"}},
        "rows": {"argmax": {"evaluates": "disco", "fcit_activation": "argmax"}, "disco": {"fcit_zero_shot": False}},
        "plots": ["curves", "bars"],
    }
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
    command = ["fcit-cli", "compare", str(tmp_path / "grid.yaml")]
    process(command)
    disco, argmax = (tmp_path / "cells" / "tiny" / "beta1" / row / "seed1" for row in ("disco", "argmax"))
    assert (report_of(disco)["seed"], report_of(disco)["setting"]) == (1, "custom")
    # the tiny task's instructions are far apart, so the nearest subspace has nearly all weight under softmax, too
    assert report_of(argmax)["accuracy"][-1] == report_of(disco)["accuracy"][-1]
    assert report_of(argmax)["accuracy"][0] == [None, None]
    document = (tmp_path / "docs" / "grid.md").read_text()
    last = f"{report_of(disco)['last']:.2f}"
    assert f"| disco | 1 | {last} |" in document and f"| argmax | 1 | {last} |" in document
    assert (tmp_path / "docs" / "images" / "grid" / "all_tiny_curves.png").stat().st_size > 0

    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").rglob("fcit_report.json")}
    assert process(command).stdout.endswith(f"2 of 2 cells are in {grid['document']}.\n")
    assert {path: path.stat().st_mtime_ns for path in times} == times
    recipe = yaml.safe_load((disco / "recipe.yaml").read_text())
    assert "overwrite_output_dir" not in recipe and recipe["output_dir"] == str(disco)
    assert json.loads((disco / "fcit_manifest.json").read_text())["seed"] == 1
