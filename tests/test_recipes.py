"""Every recipe is an ordinary LLaMA-Factory file whose keys are all known."""

from pathlib import Path

import pytest
import yaml
from llamafactory.hparams.parser import _INFER_ARGS, _TRAIN_ARGS
from transformers import HfArgumentParser

from fcit_plugin.arguments import FCIT_STAGES
from fcit_plugin.recipe.read import split
from fcit_plugin.scenario.settings import get_scenario

ROOT = Path(__file__).parents[1]
EXPORT = ROOT / "recipes" / "fcit_export.yaml"
RECIPES = sorted(set((ROOT / "recipes").glob("*.yaml")) - {EXPORT})


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_key_of_a_recipe_is_known(path):
    rest, stage, fcit = split(yaml.safe_load(path.read_text()))
    assert stage in FCIT_STAGES
    known = {name for cls in _TRAIN_ARGS for name in cls.__dataclass_fields__}
    assert set(rest) <= known
    HfArgumentParser(_TRAIN_ARGS).parse_dict({**rest, "output_dir": "unused", "use_cpu": True, "deepspeed": None})
    assert get_scenario(fcit.fcit_setting, fcit.fcit_stages, fcit.fcit_schedule).num_stages > 0


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_reads_from_top_to_bottom(path):
    titles = [line.split()[1].rstrip(":") for line in path.read_text().splitlines() if line.startswith("### ")]
    assert titles == ["model", "method", "federation", "dataset", "output", "train", "eval"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_documents_name_every_recipe(path):
    assert path.name in (ROOT / "README.md").read_text() + (ROOT / "docs" / "guide" / "recipes.md").read_text()


def test_every_key_of_the_export_recipe_is_known():
    rest, stage, fcit = split(yaml.safe_load(EXPORT.read_text()))
    assert (stage, fcit.fcit_export_weights) == (None, "mean")
    HfArgumentParser(_INFER_ARGS).parse_dict(rest)


def test_rivals_differ_from_disco_in_the_method_alone():
    """What is compared in docs/research/findings.md is trained in the same way, by as many clients, on the same data."""
    disco, fedavg = (yaml.safe_load((ROOT / "recipes" / f"fcit_mini_{m}.yaml").read_text()) for m in ("disco", "fedavg"))
    differing = {key for key in disco.keys() | fedavg.keys() if disco.get(key) != fedavg.get(key)}
    method = {"fcit_method", "fcit_similarity_threshold", "fcit_activation", "fcit_temperature", "fcit_identity_encoder"}
    assert differing == method | {"output_dir"}
