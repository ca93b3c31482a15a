"""A whole run on a tiny Llama: what it leaves in its folder."""

import csv
import json

import pytest
import torch
from peft import PeftModel
from runs import report_of, run_recipe
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM

from fcit_plugin.federation.folders import read_update
from fcit_plugin.scenario.sampling import sample_clients
from fcit_plugin.state.folder import StateFolder

ISSUE_KEYS = {
    "method", "setting", "seed", "stages", "datasets", "accuracy", "zero_shot", "last", "avg", "forgetting", "bwt",
    "bytes_up", "bytes_down", "assignments", "seconds",
}  # fmt: skip
FILES = [
    "fcit_report.json", "accuracy_matrix.csv", "accuracy_matrix.png", "training_loss.png", "subspaces.png", "partition.png",
    "trainer_log.jsonl", "README.md", "fcit_manifest.json", "identity_tokens.safetensors",
    "subspaces/0/adapter_config.json", "subspaces/0/adapter_model.safetensors",
    "subspaces/1/adapter_config.json", "subspaces/1/adapter_model.safetensors",
]  # fmt: skip


def log_of(run):
    return [json.loads(line) for line in (run / "trainer_log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", FILES)
def test_the_output_folder_holds(text_run, name):
    assert (text_run / name).stat().st_size > 0


def test_the_output_folder_holds_no_checkpoint_and_no_half_written_file(text_run):
    assert not list(text_run.rglob("*.partial")) and not list(text_run.rglob("checkpoint-*"))
    assert not list(text_run.rglob("*.bin")) and not list(text_run.rglob("*.pt"))


def test_the_report_has_the_keys_of_the_issue_and_numbers_that_fit_together(text_run, text_keys):
    report = json.loads((text_run / "fcit_report.json").read_text())
    assert report.keys() >= ISSUE_KEYS
    assert (report["method"], report["setting"], report["seed"]) == ("disco", "custom", 42)
    told = {key: report["arguments"].get(key) for key in ("model_name_or_path", "dataset_dir", "learning_rate", "lora_rank")}
    assert told == {key: text_keys[key] for key in told}
    assert not {"output_dir", "fcit_method", "fcit_data_dir"} & report["arguments"].keys(), "default, or of no weight"
    assert (report["stages"], report["datasets"]) == ([["color"], ["letter"]], ["color", "letter"])
    (first, second) = report["accuracy"]
    assert first[1] is None and None not in second
    assert all(0 <= value <= 100 for value in [first[0], *second, *report["zero_shot"].values()])
    assert report["last"] == pytest.approx(sum(second) / 2)
    assert report["avg"] == pytest.approx((first[0] + sum(second) / 2) / 2)
    assert report["zero_shot"].keys() == {"color", "letter"}
    assert report["bytes_up"] > report["bytes_down"] > 0, "updates carry a token more than requests"
    assert set(report["seconds"]) == {"total", "train", "evaluate"}
    assert report["seconds"]["total"] >= report["seconds"]["evaluate"] > 0


def test_assignments_name_the_sampled_clients_of_every_round(text_run):
    rows = report_of(text_run)["assignments"]
    assert [(row["stage"], row["round"], row["client"]) for row in rows] == [
        (stage, round, client)
        for stage in range(2)
        for round in range(2)
        for client in sorted(sample_clients(3, 2, seed=42, stage=stage, round=round))
    ]
    assert all(row["cosine"] >= 0.9 for row in rows)
    assert {(row["task"], row["subspace"]) for row in rows} == {("color", 0), ("letter", 1)}


def test_the_matrix_is_also_a_table(text_run):
    with (text_run / "accuracy_matrix.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0][1:] == ["color", "letter"]
    assert len(rows) == 3


@pytest.mark.parametrize("k", [0, 1])
def test_each_subspace_loads_with_plain_peft_and_has_been_trained(text_run, text_model, k):
    folder = text_run / "subspaces" / str(k)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(text_model), folder)
    saved = load_file(folder / "adapter_model.safetensors")
    loaded = {n.replace(".default.", "."): p for n, p in model.named_parameters() if "lora_" in n}
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[key], saved[key]) for key in saved)
    assert all(saved[key].any() for key in saved if "lora_B" in key), "B is still zero: nothing was learned"


def test_the_manifest_says_how_to_use_the_subspaces(text_run, text_model):
    folder = StateFolder(text_run)
    state, manifest = folder.load(), folder.manifest
    assert (state.stage, state.round, len(state.subspaces)) == (2, 0, 2)
    expected = {
        "base_model": str(text_model),
        "template": "vicuna",
        "method": "disco",
        "activation": "softmax",
        "temperature": 0.05,
        "identity_encoder": "embedding",
        "shared": None,
    }
    assert {key: manifest[key] for key in expected} == expected
    assert state.tasks == [{"color": 4}, {"letter": 4}]


def test_trainer_log_has_one_line_per_step_in_llamafactorys_form_with_stage_round_client(text_run):
    lines = log_of(text_run)
    assert [line["current_steps"] for line in lines] == list(range(1, lines[-1]["total_steps"] + 1))
    assert lines[-1]["percentage"] == 100
    for line in lines:
        assert line.keys() >= {
            "loss", "lr", "epoch", "percentage", "elapsed_time", "remaining_time", "stage", "round", "client",
            "subspace",
        }  # fmt: skip
    seen = {(line["stage"], line["round"], line["client"], line["subspace"]) for line in lines}
    rows = report_of(text_run)["assignments"]
    assert seen == {(row["stage"], row["round"], row["client"], row["subspace"]) for row in rows}


def test_training_lowers_the_loss(text_run):
    lines = log_of(text_run)
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_tensorboard_gets_scalars_of_evaluations_and_rounds(text_run):
    (events,) = text_run.rglob("events.out.tfevents*")
    reader = EventAccumulator(str(events.parent))
    reader.Reload()
    tags = reader.Tags()["scalars"]
    wanted = ["eval/color", "eval/letter", "train/subspaces", "train/bytes_up", "train/bytes_down"]
    assert [tag for tag in wanted if tag not in tags] == []
    assert [event.value for event in reader.Scalars("train/subspaces")] == [1, 1, 2, 2]
    report = report_of(text_run)
    assert [event.value for event in reader.Scalars("eval/color")] == pytest.approx([row[0] for row in report["accuracy"]])
    assert reader.Scalars("train/bytes_up")[-1].value == report["bytes_up"]
    assert len({event.step for event in reader.Scalars("train/subspaces")}) == 4
    for name in ("last", "avg", "forgetting"):
        after_stages = [event.value for event in reader.Scalars(f"train/{name}")]
        assert len(after_stages) == 2 and after_stages[-1] == pytest.approx(report[name])


def test_kept_client_updates_are_update_folders_of_every_client_and_round(text_run):
    rows = report_of(text_run)["assignments"]
    names = {f"stage{row['stage']}_round{row['round']}_client{row['client']}" for row in rows}
    assert {path.name for path in (text_run / "updates").iterdir()} == names
    for row in rows:
        config, reply = read_update(text_run / "updates" / f"stage{row['stage']}_round{row['round']}_client{row['client']}")
        assert {key: config[key] for key in ("stage", "round", "client")} == {
            key: row[key] for key in ("stage", "round", "client")
        }
        assert reply.metadata.src_node_id == row["client"]


def test_no_file_of_a_run_holds_a_training_record(text_run, text_data):
    records = json.loads((text_data / "letter_train.json").read_text())
    secret = records[0]["conversations"][0]["value"].encode()
    answered = {text_run / "fcit_report.html", *text_run.rglob("predictions/*")}  # of test records, which ask the same
    assert not [path for path in {*text_run.rglob("*")} - answered if path.is_file() and secret in path.read_bytes()]


def test_client_updates_are_not_kept_unless_asked_for(text_recipe, run):
    assert not (run(text_recipe(fcit_num_rounds=1, fcit_eval_every="never")) / "updates").exists()


@pytest.mark.parametrize(
    ("changes", "rows", "zero_shot"),
    [
        ({"fcit_eval_every": "round"}, 2, True),
        ({"fcit_eval_every": "never"}, 0, False),
        ({"fcit_zero_shot": False, "fcit_eval_samples": 3}, 2, False),
        ({"fcit_eval_restricted": False}, 2, True),
        ({"fcit_eval_restricted": "last"}, 2, True),
    ],
)
def test_evaluation_follows_its_keys(text_recipe, run, changes, rows, zero_shot):
    report = report_of(run(text_recipe(fcit_num_rounds=1, **changes)))
    assert len(report["accuracy"]) == rows
    assert bool(report["zero_shot"]) == zero_shot
    assert (report["last"] is None) == (rows == 0)
    if "fcit_eval_restricted" in changes:
        seen = [any(score is not None for score in row) for row in report["accuracy_restricted"]]
        assert seen == [False, changes["fcit_eval_restricted"] == "last"]
    if "fcit_eval_samples" in changes:
        assert all((value * 3 / 100) % 1 == pytest.approx(0, abs=1e-6) for value in report["accuracy"][1])


def test_fedavg_is_one_subspace_trained_on_and_on(text_recipe, run):
    output = run(text_recipe(fcit_method="sequential"))
    report = report_of(output)
    assert report["method"] == "sequential"
    assert {row["subspace"] for row in report["assignments"]} == {0}
    assert {row["cosine"] for row in report["assignments"]} == {None}
    assert [path.name for path in (output / "subspaces").iterdir()] == ["0"]


def test_a_heterogeneous_schedule_opens_a_subspace_for_each_kind_of_task(text_recipe, run):
    output = run(text_recipe(fcit_schedule=[[0, 1], [1, 0]], fcit_eval_every="never"))
    rows = report_of(output)["assignments"]
    assert len({(row["task"], row["subspace"]) for row in rows}) == len({row["task"] for row in rows}) == 2


def test_overwriting_a_run_leaves_nothing_of_the_old_one(text_recipe, run):
    keys = text_recipe(fcit_eval_every="never")
    run(keys)
    output = run(keys | {"fcit_method": "sequential", "overwrite_output_dir": True})
    assert [path.name for path in (output / "subspaces").iterdir()] == ["0"]
    lines = log_of(output)
    assert len(lines) == lines[-1]["total_steps"]


@pytest.mark.parametrize("activation", ["argmax", "cosine", "concat"])
def test_every_activation_runs(text_recipe, run, activation):
    report = report_of(run(text_recipe(fcit_num_rounds=1, fcit_activation=activation, fcit_zero_shot=False)))
    assert len(report["accuracy"]) == 2


def test_the_end_of_a_run_prints_the_table(text_recipe, run, capsys):
    run(text_recipe(fcit_num_rounds=1))
    shown = capsys.readouterr().out
    assert "stage 1" in shown and "color" in shown and "Last" in shown and "Forgetting" in shown


def test_a_run_says_once_which_task_came_to_a_subspace_of_another(text_recipe, logged):
    run_recipe(text_recipe(fcit_max_subspaces=1, fcit_eval_every="never", fcit_zero_shot=False))
    (line,) = {line for line in logged.messages if "is now that of" in line}
    assert line.startswith("Stage 1 round 0: subspace 0 of color is now that of letter, too (cosine ")
    assert line.endswith(", `fcit_similarity_threshold` 0.9).")
