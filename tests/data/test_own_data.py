"""docs/guide/recipes.md on data of one's own, followed word by word: two formats of LLaMA-Factory become two stages."""

import json
import re

import pytest
import tiny
import yaml
from llamafactory.train.tuner import run_exp
from runs import ROOT, report_of

from fcit_plugin.federation.folders import read_update
from fcit_plugin.federation.messages import METRICS, NUM_EXAMPLES


def blocks():
    """The JSON and the YAML that the section shows."""
    text = (ROOT / "docs" / "guide" / "recipes.md").read_text()
    section = text.partition("## Your own data")[2].partition("\n## ")[0]
    (info,), (keys,) = (re.findall(rf"```{kind}\n(.*?)```", section, re.DOTALL) for kind in ("json", "yaml"))
    return json.loads(info), keys


def alpaca(count):
    """Records of an instruction, an input and an output."""
    colors = [list(tiny.COLORS)[i % 4] for i in range(count)]
    return [{"instruction": tiny.TASKS["color"][0], "input": c, "output": c} for c in colors]


def sharegpt(count):
    """Conversations of two turns."""
    answers = list(tiny.TASKS["letter"][1].items())
    rows = [answers[i % 4] for i in range(count)]
    turn = "which letter belongs to it {}"
    return [{"conversations": [{"from": "human", "value": turn.format(c)}, {"from": "gpt", "value": a}]} for c, a in rows]


@pytest.fixture(scope="module")
def output(text_model, tmp_path_factory):
    """Output of the run that the section describes, from a YAML file as ``llamafactory-cli train`` reads it."""
    folder = tmp_path_factory.mktemp("own")
    info, five = blocks()
    for name, entry in info.items():
        count = 8 if name.endswith("_test") else 240 if name == "medical" else 200
        (folder / entry["file_name"]).write_text(json.dumps((sharegpt if "formatting" in entry else alpaca)(count)))
    (folder / "dataset_info.json").write_text(json.dumps(info))
    plain = tiny.recipe(text_model, folder, folder / "out", fcit_keep_client_updates=True, disable_tqdm=True)
    plain = {key: value for key, value in plain.items() if key != "stage" and key not in yaml.safe_load(five)}
    plain |= {"fcit_num_rounds": 1, "per_device_train_batch_size": 16}
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(plain) + five)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["llamafactory-cli", str(recipe)])
        run_exp()
    return folder / "out"


def test_the_two_data_sets_are_the_two_stages(output):
    report = report_of(output)
    assert report["stages"] == [["medical"], ["support"]]
    assert [sum(row["records"]) for row in report["partition"]] == [240, 200]
    assert all(len(row["records"]) == 10 and min(row["records"]) >= 20 for row in report["partition"])
    assert {(row["stage"], row["task"]) for row in report["assignments"]} == {(0, "medical"), (1, "support")}
    assert report["accuracy"][0][1] is None and None not in report["accuracy"][1]


def test_clients_of_each_stage_trained_on_its_data_set(output):
    report = report_of(output)
    dealt = {row["task"]: row["records"] for row in report["partition"]}
    for row in report["assignments"]:
        name = f"stage{row['stage']}_round0_client{row['client']}"
        _, reply = read_update(output / "updates" / name)
        assert reply.content[METRICS][NUM_EXAMPLES] == dealt[row["task"]][row["client"]]


def test_each_kind_of_instruction_opened_a_subspace(output):
    subspaces = {row["task"]: row["subspace"] for row in report_of(output)["assignments"]}
    assert subspaces == {"medical": 0, "support": 1}
