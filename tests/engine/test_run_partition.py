"""The partition in a run: what its report says, whose records it sees, and where raw columns are read."""

import csv
import json
import re

import pytest
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer
from runs import report_of

from fcit_plugin.board.progress import look
from fcit_plugin.data.catalogue import Catalogue
from fcit_plugin.data.pipeline import Pipeline
from fcit_plugin.data.raw_files import TrainFiles
from fcit_plugin.errors import FcitError
from fcit_plugin.serving.publish import publish
from fcit_plugin.state.inspection import inspect

SITES = ["bonn", "aachen", "celle", "bonn", "bonn", "aachen"]
ANSWERS = ["red", "green", "blue", "red", "grey", "red"]
QUESTION = "name the color of this square please"


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    """One and the same six records in every format that LLaMA-Factory reads from a file."""
    folder = tmp_path_factory.mktemp("formats")
    pairs = list(zip(SITES, ANSWERS, strict=True))
    turns = [
        [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": "one"}] * 2 + [{"from": "human", "value": QUESTION}]
        for _ in pairs
    ]
    chats = [{"site": s, "conversations": [*t, {"from": "gpt", "value": a}]} for t, (s, a) in zip(turns, pairs, strict=True)]
    pages = [
        {"site": s, "messages": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": a}]} for s, a in pairs
    ]
    plain = [{"instruction": QUESTION, "input": "", "output": a, "site": s} for s, a in pairs]
    named = [{"question": QUESTION, "reply": a, "site": s} for s, a in pairs]
    (folder / "chats.json").write_text(json.dumps(chats))
    (folder / "pages.json").write_text(json.dumps(pages))
    (folder / "plain.json").write_text(json.dumps(plain))
    (folder / "parts").mkdir()
    (folder / "parts" / "all.json").write_text(json.dumps(plain))
    (folder / "lines.jsonl").write_text("\n".join(map(json.dumps, named)) + "\n\n")
    write_csv(folder / "table.csv", named)
    roles = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    columns = {"prompt": "question", "response": "reply"}
    info = {
        "fcit": {"file_name": "chats.json", "formatting": "fcit", "columns": {"messages": "conversations"}},
        "sharegpt": {"file_name": "chats.json", "formatting": "sharegpt"},
        "sharegpt_tags": {
            "file_name": "pages.json", "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": roles,
        },
        "openai": {"file_name": "pages.json", "formatting": "openai", "columns": {"messages": "messages"}, "tags": roles},
        "alpaca": {"file_name": "plain.json"},
        "alpaca_columns": {"file_name": "lines.jsonl", "columns": columns},
        "alpaca_csv": {"file_name": "table.csv", "columns": columns},
        "alpaca_folder": {"file_name": "parts"},
    }  # fmt: skip
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


@pytest.fixture(scope="module")
def pipeline(formats, text_model, tmp_path_factory):
    """LLaMA-Factory's data pipeline, which the first n records or all of them go through."""

    def make(max_samples=None):
        keys = {
            "model_name_or_path": str(text_model),
            "stage": "sft",
            "do_train": True,
            "finetuning_type": "lora",
            "template": "vicuna",
            "dataset": "alpaca",
            "dataset_dir": str(formats),
            "output_dir": str(tmp_path_factory.mktemp("out")),
            "report_to": "none",
            "max_samples": max_samples,
        }
        model_args, data_args, training_args, *_ = get_train_args(keys)
        return Pipeline(model_args, data_args, training_args, load_tokenizer(model_args), Catalogue(str(formats)))

    return make


@pytest.mark.parametrize("max_samples", [None, 4, 100])
def test_files_and_llamafactory_give_the_same_records_in_the_same_order(formats, pipeline, max_samples):
    made, files = pipeline(max_samples), TrainFiles(Catalogue(str(formats)), max_samples)
    for name in json.loads((formats / "dataset_info.json").read_text()):
        assert files.count(name) == made.count(name) == min(max_samples or 6, 6)
        assert files.labels(name) == made.labels(name) == ANSWERS[:max_samples]
        assert files.column(name, "site") == made.column(name, "site") == SITES[:max_samples]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"hf_hub_url": "someone/something"}, ["`hf_hub_url`", "`file_name`"]),
        ({"file_name": "plain.json", "num_samples": 0}, ["`num_samples", "greater than or equal to 1"]),
        ({"file_name": "empty"}, ["the folder", "is empty"]),
        ({"file_name": "missing.json"}, ["missing.json", "`file_name`"]),
        ({"file_name": "."}, ["is none of the files that LLaMA-Factory reads"]),
        ({"file_name": "plain.json"}, ["Record 0", "plain.json", "'hospital'", "instruction, input, output, site"]),
        ({"file_name": "broken.json"}, ["`x`", "broken.json: it is cut off at line 1"]),
        ({"file_name": "object.json"}, ["`x`", "object.json: it holds a JSON object and no list of records"]),
    ],
)
def test_what_has_no_column_is_refused(formats, tmp_path, entry, words):
    (tmp_path / "plain.json").write_text((formats / "plain.json").read_text())
    (tmp_path / "broken.json").write_text("[{")
    (tmp_path / "object.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "more.csv").write_text("a,b\n1,2\n")
    (tmp_path / "dataset_info.json").write_text(json.dumps({"x": entry}))
    with pytest.raises(FcitError) as caught:
        TrainFiles(Catalogue(str(tmp_path))).column("x", "hospital")
    assert [word for word in words if word not in str(caught.value)] == []


def trained_on(output):
    """(client, task) -> examples, from the updates that the clients sent."""
    sent = [json.loads(path.read_text()) for path in (output / "updates").glob("*/fcit_update.json")]
    return {(one["config"]["client"], one["config"]["task"]): one["metrics"]["num-examples"] for one in sent}


def test_the_report_counts_the_records_that_clients_trained_on(text_run):
    partition = report_of(text_run)["partition"]
    assert [(row["task"], row["dataset"], sum(row["records"])) for row in partition] == [
        ("color", "color", 24),
        ("letter", "letter", 24),
    ]
    examples = trained_on(text_run)
    assert len(examples) >= 4
    assert {key: partition[key[1]]["records"][key[0]] for key in examples} == examples
    assert "(partition.png)" in (text_run / "README.md").read_text()


def natural(formats):
    """Keys of a run on three named clients."""
    return {
        "dataset_dir": str(formats),
        "fcit_stages": [["alpaca", "fcit"], ["alpaca_csv"]],
        "fcit_partition": "natural",
        "fcit_partition_column": "site",
        "fcit_clients_per_round": 3,
        "fcit_num_rounds": 1,
        "fcit_min_client_samples": 50,
        "fcit_eval_every": "never",
        "fcit_zero_shot": False,
    }


def test_a_run_on_a_natural_partition_trains_each_client_on_its_own_records(text_recipe, run, formats, logged):
    output = run(text_recipe(**natural(formats), fcit_keep_client_updates=True))
    aachen, bonn, celle = 2, 3, 1
    assert trained_on(output) == {
        (0, 0): 2 * aachen, (1, 0): 2 * bonn, (2, 0): 2 * celle, (0, 1): aachen, (1, 1): bonn, (2, 1): celle
    }  # fmt: skip
    assert [row["records"] for row in report_of(output)["partition"]] == [[aachen, bonn, celle]] * 3
    told_by_name(output, logged)


@pytest.mark.parametrize(("least", "ends"), [(1, ""), (5, "stage 1, round 0"), (7, "stage 0, round 0; stage 1, round 0")])
def test_a_dry_run_names_the_clients_and_foresees_where_all_of_them_would_wait(least, ends, text_recipe, run, formats, capsys):
    """Stage 0 has 4, 6 and 2 records of the clients, stage 1 half as many."""
    keys = text_recipe(**natural(formats), fcit_identity_min_records=least)
    output = run(keys | {"fcit_dry_run": True})
    plan, printed = json.loads((output / "fcit_dry_run.json").read_text()), capsys.readouterr().out
    assert plan["client_names"] == ["aachen", "bonn", "celle"]
    assert all(f"{client} ({records})" in printed for client, records in (("aachen", 4), ("bonn", 6), ("celle", 2)))
    foreseen = [note for note in plan["notes"] if "the run ends there" in note]
    assert [f"have so few in {ends}: unless" in note for note in foreseen] == ([True] if ends else [])
    if ends.startswith("stage 0"):
        with pytest.raises(FcitError, match=r"fewer than 7 \(`fcit_identity_min_records`\)"):
            run(keys)


def told_by_name(output, logged):
    """Whoever the clients are, they are called so wherever a user looks."""
    assert report_of(output)["client_names"] == ["aachen", "bonn", "celle"]
    assert "clients aachen, bonn and celle on alpaca" in logged.text and "clients 0, 1 and 2" not in logged.text
    page = (output / "fcit_report.html").read_text()
    for name in ("aachen", "bonn", "celle"):
        assert page.count(name) > 4, name
    assert not re.search(r"(?<!step of the )client \d", page)
    assert any("aachen, bonn, celle on 0" in line for line in inspect(output).lines)
    assert look(output).names == ["aachen", "bonn", "celle"]
    published = output.parent / "published"
    publish(output, published)
    assert not [path for path in published.rglob("*") if path.is_file() and b"aachen" in path.read_bytes()]
