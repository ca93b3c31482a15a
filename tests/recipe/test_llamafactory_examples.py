"""The keys of LLaMA-Factory 0.9.5's example recipes: each set starts as a dry run, or is refused in one message.

Model, template and data are stand-ins, ``stage: X`` is ``stage: fcit`` with ``fcit_local_stage: X``, and the datasets are
stages.
"""

import json
from collections.abc import Iterator
from typing import Any

import llamafactory_examples as examples
import pytest
import tiny
from llamafactory_examples import COMMON, EVALUATED, EXAMPLES
from runs import run_recipe

from fcit_plugin.errors import FcitError


def recipes() -> Iterator[Any]:
    """Each set of keys, and each that starts with the lines for evaluation."""
    for example in EXAMPLES:
        yield pytest.param(example, {}, id=example.names[0])
        if not example.refused and "eval_dataset" not in example.keys:
            yield pytest.param(example, EVALUATED, id=f"{example.names[0]} evaluated")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return examples.data(tmp_path_factory.mktemp("examples") / "data")


@pytest.mark.parametrize(("example", "more"), recipes())
def test_each_starts_or_is_refused_in_one_message(example, more, text_model, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages = [["color"], ["letter"]] if example.stage in ("sft", "pt", "rm") else [[example.stage]]
    ours = tiny.recipe(text_model, data, tmp_path / "out", fcit_stages=stages, fcit_local_stage=example.stage)
    stand_in = ("model_name_or_path", "template", "default_system", "dataset_dir", "output_dir", "stage")
    keys = {key: value for key, value in ours.items() if key.startswith("fcit_") or key in stand_in}
    theirs = {key: value for key, value in COMMON.items() if key not in example.without} | example.keys | more
    if "deepspeed" in theirs:
        (tmp_path / "ds_z3_config.json").write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    if not example.refused:
        plan = json.loads((run_recipe(keys | theirs | {"fcit_dry_run": True}) / "fcit_dry_run.json").read_text())
        assert plan["steps"] > 0
        return
    with pytest.raises(FcitError) as caught:
        run_recipe(keys | theirs | {"fcit_dry_run": True})
    assert [part for part in example.refused if part not in str(caught.value)] == []
    assert "\n" not in str(caught.value)
