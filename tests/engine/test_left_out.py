"""Records that LLaMA-Factory leaves out: run, dry run, partition and report leave out the same and say so."""

import json

import pytest
import tiny
from runs import report_of, run_recipe

from fcit_plugin.commands.data_partition import partition_of
from fcit_plugin.errors import FcitError
from fcit_plugin.federation.folders import read_update
from fcit_plugin.federation.messages import METRICS, NUM_EXAMPLES

#: Indices of the records that end with the user, by dataset.
BAD = {"color": [0, 7, 23], "letter": [], "color_test": [2], "letter_test": []}
SITES = ("bonn", "aachen", "celle")


def conversation(name, i, count):
    """Record i of a dataset, whose site has its share of the records."""
    task = name.removesuffix("_test")
    question, answers = tiny.TASKS[task]
    color = list(answers)[i % len(answers)]
    turns = [{"from": "human", "value": f"{question} {color}"}, {"from": "gpt", "value": answers[color]}]
    return {"conversations": turns[: 1 if i in BAD[name] else 2], "site": SITES[i % 3]}


@pytest.fixture(scope="module")
def keys(text_model, tmp_path_factory):
    """The recipe: each site is a client."""
    folder = tmp_path_factory.mktemp("left_out")
    info = {}
    for name in BAD:
        count = 6 if name.endswith("_test") else 24
        records = [conversation(name, i, count) for i in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)))
        info[name] = {"file_name": f"{name}.jsonl", "formatting": "sharegpt"}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    changes = {"fcit_partition": "natural", "fcit_partition_column": "site", "fcit_keep_client_updates": True}
    return tiny.recipe(text_model, folder, folder / "out", fcit_num_clients=3, fcit_clients_per_round=3, **changes)


@pytest.fixture(scope="module")
def output(keys):
    return run_recipe(keys)


def test_the_report_says_how_many_of_which_dataset(output):
    assert report_of(output)["left_out"] == {"color": 3, "color_test": 1}


def test_clients_train_on_the_records_that_are_left(output):
    shares = {row["task"]: row["records"] for row in report_of(output)["partition"]}
    sites = {
        task: [sum(i not in BAD[task] and SITES[i % 3] == site for i in range(24)) for site in sorted(SITES)] for task in shares
    }
    assert shares == sites and sum(sites["color"]) == 21
    for row in report_of(output)["assignments"]:
        _, reply = read_update(output / "updates" / "stage{stage}_round{round}_client{client}".format(**row))
        assert reply.content[METRICS][NUM_EXAMPLES] == shares[row["task"]][row["client"]]


def test_data_partition_deals_out_the_same(keys, output):
    partition = partition_of(keys)
    assert partition.table([0, 1]) == report_of(output)["partition"]


def test_a_dry_run_says_the_same(keys, output, tmp_path, capsys):
    plan = json.loads(
        (run_recipe({**keys, "fcit_dry_run": True, "output_dir": str(tmp_path)}) / "fcit_dry_run.json").read_text()
    )
    assert plan["left_out"] == report_of(output)["left_out"]
    assert [(row["name"], row["train"], row["test"]) for row in plan["data"]] == [("color", 21, 5), ("letter", 24, 6)]
    assert "3 of color, 1 of color_test" in capsys.readouterr().out


@pytest.mark.parametrize("look", ["run", "dry run", "partition"])
def test_strict_records_refuse_the_first(keys, tmp_path, look):
    strict = {**keys, "fcit_strict_records": True, "output_dir": str(tmp_path / "out")}
    with pytest.raises(FcitError, match=r"`color`: color\.jsonl, record 0: .*1 turns.*`fcit_strict_records`"):
        partition_of(strict).table([0]) if look == "partition" else run_recipe({**strict, "fcit_dry_run": look == "dry run"})
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_a_run_goes_on_with_strict_records_where_nothing_is_left_out(keys):
    from fcit_plugin.engine.fingerprint import FREE

    assert "fcit_strict_records" in FREE
