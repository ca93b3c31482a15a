"""``adapter_name_or_path`` of a finished run with ``stage: fcit``: new stages after the old ones, as in one go."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
from llamafactory.chat import ChatModel
from runs import differences, infer_args, outcome, report_of, run_recipe, weight_bytes
from safetensors.torch import load_file, save_file

from fcit_plugin.cli import main
from fcit_plugin.commands.data_partition import partition_of
from fcit_plugin.engine import open_session
from fcit_plugin.errors import FcitError
from fcit_plugin.scenario.sampling import sample_clients
from fcit_plugin.serving.join import join_folders
from fcit_plugin.state.checkpoints import Checkpoints
from fcit_plugin.state.predictions import read_predictions

THREE = [["color"], ["letter"], ["number"]]
#: A rule with memory, so that what it remembers has to be carried over. One record a batch: the untuned model is asked of the
#: new datasets alone, and on some processors last digits depend on what shares a batch.
COMMON = {"fcit_server_rule": "fedadam", "fcit_server_learning_rate": 0.02, "per_device_eval_batch_size": 1}


def recipe_of(model, data, folder, **changes):
    return tiny.recipe(model, data, folder, **COMMON, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("continuation")


@pytest.fixture(scope="module")
def whole(text_model, text_data, folder):
    """All three stages in one go."""
    return run_recipe(recipe_of(text_model, text_data, folder / "whole", fcit_stages=THREE, save_total_limit=0))


@pytest.fixture(scope="module")
def first(text_model, text_data, folder):
    """The first two stages."""
    return run_recipe(recipe_of(text_model, text_data, folder / "first", fcit_stages=THREE[:2]))


@pytest.fixture(scope="module")
def later_data(text_data, folder):
    """The data weeks later: of the old tasks, nothing but test records is left."""
    data = shutil.copytree(text_data, folder / "later_data")
    info = json.loads((data / "dataset_info.json").read_text())
    for name in ("color", "letter"):
        (data / f"{name}_train.json").unlink()
        del info[name]
    (data / "dataset_info.json").write_text(json.dumps(info))
    return data


@pytest.fixture(scope="module")
def keys(text_model, later_data, first, folder):
    """The recipe that goes on."""
    changes = {"fcit_stages": THREE[2:], "adapter_name_or_path": str(first), "save_total_limit": 0}
    return recipe_of(text_model, later_data, folder / "second", **changes)


@pytest.fixture(scope="module")
def second(keys, first):
    before = outcome(first)
    output_dir = run_recipe(keys)
    assert differences(outcome(first), before) == [], "the earlier folder is only read"
    return output_dir


def results(output_dir):
    """All weights that a run left beside its commits."""
    return {name: raw for name, raw in weight_bytes(output_dir).items() if not name.startswith("checkpoints")}


def without(values, *keys):
    return {key: value for key, value in values.items() if key not in keys}


def test_two_runs_end_in_the_same_bits_as_one(whole, second):
    found, expected = results(second), results(whole)
    assert {
        "identity_tokens.safetensors",
        "server_rules.safetensors",
        "subspaces/2/adapter_model.safetensors",
    } <= expected.keys()
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    for name in ("accuracy_matrix.csv", "accuracy_matrix.png", "subspaces.png", "partition.png", "training_loss.png"):
        assert (second / name).read_bytes() == (whole / name).read_bytes(), name


def test_the_answers_are_those_of_one_run_also_of_one_that_went_on_from_a_copied_commit(whole, first, second, keys, tmp_path):
    assert list(read_predictions(second)) == [None, 0, 1, 2] and read_predictions(second) == read_predictions(whole)
    commit = shutil.copytree(Checkpoints(first).commits()[-1], tmp_path / "commit")
    third = run_recipe(keys | {"adapter_name_or_path": str(commit), "output_dir": str(tmp_path / "third")})
    assert read_predictions(third) == read_predictions(whole)


def test_every_round_of_the_second_run_is_that_of_the_whole_one(whole, second):
    for number in (4, 5, 6):
        name = f"checkpoints/round-{number:04d}"
        assert weight_bytes(second / name) == weight_bytes(whole / name), name
    assert [path.name for path in Checkpoints(second).commits()] == ["round-0004", "round-0005", "round-0006"]


def test_the_report_is_that_of_one_run_and_says_what_it_went_on_from(whole, first, second):
    found, expected = report_of(second), report_of(whole)
    assert without(found, "arguments", "earlier") == without(expected, "arguments", "earlier")
    assert set(found["zero_shot"]) == {"color", "letter", "number"} and len(found["accuracy"]) == 3
    assert found["accuracy_restricted"][2] and None not in found["accuracy_restricted"][2]
    assert expected["earlier"] == []
    assert found["earlier"] == [{"stage": 0, "arguments": report_of(first)["arguments"]}]
    assert found["arguments"]["adapter_name_or_path"] == str(first)


def test_manifest_log_and_progress_go_on_too(whole, second):
    manifests = [json.loads((run / "fcit_manifest.json").read_text()) for run in (second, whole)]
    assert manifests[0] == manifests[1]
    logs = [(run / "trainer_log.jsonl").read_text().splitlines() for run in (second, whole)]
    times = ("elapsed_time", "remaining_time", "total_steps", "percentage")
    found, expected = ([without(json.loads(line), *times) for line in log] for log in logs)
    assert found == expected
    assert [json.loads(log[-1])["total_steps"] for log in logs] == [len(log) for log in logs]
    progress = [json.loads((run / "progress.json").read_text()) for run in (second, whole)]
    one, other = (without(values, "seconds", "recipes") for values in progress)
    assert one == other
    assert progress[0]["labels"]["color"] == ["blue", "green", "grey", "red"]


def test_a_killed_continuation_goes_on_to_the_same_bits(keys, second, first, tmp_path, monkeypatch):
    moved = shutil.copytree(first, tmp_path / "moved")
    output_dir = shutil.copytree(second, tmp_path / "killed")
    Checkpoints(output_dir).go_back_to(5)
    again = keys | {"output_dir": str(output_dir), "adapter_name_or_path": str(moved)}
    run_recipe(again)
    assert results(output_dir) == results(second)
    assert without(report_of(output_dir), "arguments") == without(report_of(second), "arguments")

    progress = json.loads((moved / "progress.json").read_text())
    (moved / "progress.json").write_text(json.dumps(progress | {"step": 1}))
    with pytest.raises(ValueError, match=r"the fingerprint of the run in `adapter_name_or_path` was '[0-9a-f]+' and is "):
        run_recipe(again)


def test_a_continuation_can_be_gone_on_from_and_a_task_can_come_back(keys, second, text_data, tmp_path):
    changes = {"fcit_stages": [["color"]], "fcit_num_rounds": 1, "fcit_num_clients": 4, "dataset_dir": str(text_data)}
    third = run_recipe(keys | changes | {"adapter_name_or_path": str(second), "output_dir": str(tmp_path / "third")})
    report = report_of(third)
    assert report["stages"] == [["color"], ["letter"], ["number"], ["color"]]
    assert report["accuracy"][:3] == report_of(second)["accuracy"] and len(report["accuracy"]) == 4
    assert [row["stage"] for row in report["earlier"]] == [0, 2]
    assert [row["subspace"] for row in report["assignments"] if row["stage"] == 3] == [0, 0]
    assert [path.name for path in Checkpoints(third).commits()] == ["round-0006", "round-0007"]
    assert [(row["task"], len(row["records"])) for row in report["partition"]] == [("color", 4), ("letter", 3), ("number", 3)]
    assert json.loads((third / "fcit_manifest.json").read_text())["rounds"] == [2, 2, 2, 1]


def test_a_continuation_serves_old_and_new_tasks(keys, second):
    chat = ChatModel(infer_args(keys, second, infer_backend="huggingface"))
    router = chat.engine.model.fcit_routing.router
    weights = router.weights([(f"{tiny.TASKS[task][0]} red",) for task in ("color", "letter", "number")])
    assert weights.argmax(axis=1).tolist() == [0, 1, 2]


def test_without_evaluation_nothing_is_asked_of_the_old_tasks(keys, first, later_data, tmp_path):
    data = shutil.copytree(later_data, tmp_path / "data")
    info = json.loads((data / "dataset_info.json").read_text())
    info = {name: entry for name, entry in info.items() if name.startswith("number")}
    (data / "dataset_info.json").write_text(json.dumps(info))
    changes = {"dataset_dir": str(data), "output_dir": str(tmp_path / "out"), "fcit_num_rounds": 1}
    with pytest.raises(FcitError) as caught:
        run_recipe(keys | changes)
    for part in (
        str(first),
        "has learned `color`",
        "`color_test`",
        "training records are not needed",
        "`fcit_eval_every: never`",
    ):
        assert part in str(caught.value)
    output_dir = run_recipe(keys | changes | {"fcit_eval_every": "never"})
    report = report_of(output_dir)
    assert report["accuracy"] == report_of(first)["accuracy"][:2] or len(report["accuracy"]) == 2
    assert report["last"] is report["forgetting"] is None
    assert (output_dir / "subspaces" / "2").is_dir()

    after = keys | {"adapter_name_or_path": str(output_dir), "output_dir": str(tmp_path / "after"), "fcit_num_rounds": 1}
    rows = report_of(run_recipe(after))["accuracy"]
    assert rows[2] == [None, None, None] and None not in rows[3], "a stage without scores leaves a gap"


def test_two_joined_runs_can_be_gone_on_from(first, second, keys, tmp_path):
    join_folders(first, second, tmp_path / "joined")
    changes = {"adapter_name_or_path": str(tmp_path / "joined"), "output_dir": str(tmp_path / "out"), "fcit_num_rounds": 1}
    report = report_of(run_recipe(keys | changes))
    assert len(report["stages"]) == 6 and report["accuracy"][:5] == [[None] * 3] * 5 and None not in report["accuracy"][5]
    assert report["earlier"] == [] and report["accuracy_restricted"][5][0] is None


def test_a_plan_of_a_continuation_says_what_it_then_does(keys, second, first, tmp_path, capsys):
    output_dir = run_recipe(keys | {"output_dir": str(tmp_path / "plan"), "fcit_dry_run": True})
    plan = json.loads((output_dir / "fcit_dry_run.json").read_text())
    report = report_of(second)
    work = [(w["stage"], w["round"], w["client"], w["task"]) for w in plan["work"][""]]
    done = [(r["stage"], r["round"], r["client"], r["task"]) for r in report["assignments"] if r["stage"] == 2]
    assert sorted(work) == sorted(done)
    assert plan["bytes_up"] == report["bytes_up"] - report_of(first)["bytes_up"]
    assert [(item["name"], item["train"], item["test"]) for item in plan["data"]] == [
        ("color", None, 6), ("letter", None, 6), ("number", 24, 6)
    ]  # fmt: skip
    assert plan["answers"] == 6 + 2 * 3 * 6, "the untuned model on the new task, then all three, free and restricted"
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "goes on from:" in line]
    assert line.split() == ["goes", "on", "from:", f"{first},", "2", "stages"]


def test_data_partition_shows_the_new_tasks_as_the_run_deals_them_out(keys, second):
    partition = partition_of(keys)
    found = partition.table(partition.scenario.tasks_to_train())
    assert found == [row for row in report_of(second)["partition"] if row["task"] == "number"]


def test_inspect_counts_the_rounds_of_both(second, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["fcit-cli", "inspect", str(second)])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr().out
    assert not ended.value.code and "6 of 6 rounds" in shown and "finished; the results" in shown


def test_by_folders_the_finished_state_goes_on_where_the_recipe_has_more_stages(text_model, text_data, whole, first, tmp_path):
    """New stages after the old ones in ``fcit_stages``: one round ends as the fifth of the whole run."""
    recipe = recipe_of(text_model, text_data, tmp_path / "state", fcit_stages=THREE, fcit_state_dir=str(first))
    clients = sample_clients(3, 2, seed=42, stage=2, round=0)
    updates = [
        run_recipe(recipe | {"stage": "fcit_client", "fcit_client": client, "output_dir": str(tmp_path / f"u{client}")})
        for client in clients
    ]
    state = run_recipe(recipe | {"stage": "fcit_aggregate", "fcit_update_dirs": ",".join(map(str, updates))})
    assert weight_bytes(state) == weight_bytes(whole / "checkpoints" / "round-0005")
    with pytest.raises(ValueError, match=r"is finished: .*; to go on with new tasks, put their stages after"):
        run_recipe(recipe | {"stage": "fcit_client", "fcit_client": 0, "fcit_stages": THREE[:2]})


def test_a_projector_that_was_trained_goes_on_too(llava_run, llava_keys, llava_model, image_data, tmp_path):
    changes = {"freeze_multi_modal_projector": False, "fcit_keep_client_updates": True}
    whole = run_recipe(tiny.recipe(llava_model, image_data, tmp_path / "whole", fcit_stages=THREE, **changes))
    more = {"adapter_name_or_path": str(llava_run), "fcit_stages": THREE[2:], "output_dir": str(tmp_path / "out")}
    found, expected = results(run_recipe(llava_keys | more)), results(whole)
    names = [name for name in expected if not name.startswith("updates")]
    assert "shared.safetensors" in names and [name for name in names if found[name] != expected[name]] == []
    with pytest.raises(ValueError, match=r"The projector was trained in .*; set `freeze_multi_modal_projector: false`"):
        run_recipe(without(llava_keys | more, "freeze_multi_modal_projector") | {"output_dir": str(tmp_path / "frozen")})


REFUSED = {
    "rank": ({"lora_rank": 8, "lora_alpha": 8}, ["`lora_rank` was 4 and is 8"]),
    "template": ({"template": "default"}, ["`template` was 'vicuna' and is 'default'"]),
    "method": ({"fcit_method": "sequential"}, ["`fcit_method` was 'disco' and is 'sequential'"]),
    "tokens": (
        {"fcit_identity_center": False, "fcit_identity_encoder": "minilm"},
        ["`fcit_identity_center` was True and is False", "`fcit_identity_encoder` was 'embedding' and is 'minilm'"],
    ),
    "rule": ({"fcit_server_rule": "fedyogi"}, ["`fcit_server_rule` was 'fedadam' and is 'fedyogi'"]),
    "samples": ({"fcit_eval_samples": 3}, ["`fcit_eval_samples` was None and is 3"]),
    "noise": (
        {"fcit_identity_noise": 0.1, "seed": 7},
        ["`fcit_identity_noise` was None and is 0.1", "`seed` was 42 and is 7"],
    ),
    "its own folder": ({"output_dir": "{first}"}, ["`output_dir` is or holds the folder of `adapter_name_or_path`"]),
    "no run": ({"adapter_name_or_path": "somewhere"}, ["somewhere is not the output folder of an fcit run"]),
    "two": ({"adapter_name_or_path": "{first},other"}, ["cannot be combined with other adapters"]),
    "a commit on the way": (
        {"adapter_name_or_path": "{whole}/checkpoints/round-0003"},
        ["in its stage 1, round 1, of 3 stages", "let it finish"],
    ),
    "an unfinished run": ({"adapter_name_or_path": "{killed}"}, ["has not finished", "round-0004"]),
    "no progress": ({"adapter_name_or_path": "{bare}"}, ["progress.json cannot be read"]),
    "replay": ({"fcit_method": "replay"}, ["`fcit_method: replay`", "train all stages in one run"]),
    "records that were kept": ({"fcit_method": "a_gem"}, ["`fcit_method: a_gem`", "train all stages in one run"]),
    "a bound": ({"fcit_bound": "local"}, ["`fcit_bound`", "take `adapter_name_or_path` out"]),
    "by folders": (
        {"stage": "fcit_aggregate"},
        ["`adapter_name_or_path` belongs to `stage: fcit`", "`fcit_state_dir`", "`fcit_stages`"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_loaded(keys, whole, first, tmp_path, monkeypatch, name):
    changes, parts = REFUSED[name]
    folders = {"whole": whole, "first": first, "killed": tmp_path / "killed", "bare": tmp_path / "bare"}
    shutil.copytree(first / "checkpoints", tmp_path / "killed" / "checkpoints")
    shutil.copytree(first, tmp_path / "bare", ignore=shutil.ignore_patterns("progress.json", "checkpoints"))
    changes = {k: v.format(**folders) if isinstance(v, str) else v for k, v in changes.items()}
    monkeypatch.setattr(open_session, "load_tokenizer", lambda *_: pytest.fail("it went as far as loading"))
    given = keys | {"output_dir": str(tmp_path / "out")} | changes
    with pytest.raises(FcitError) as caught:
        run_recipe(given)
    text = str(caught.value)
    assert [part for part in parts if part not in text] == [], text
    assert "\n" not in text
    assert not (tmp_path / "out").exists()


def other_weights(folder: Path) -> Path:
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"] + 0.5
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_another_base_model_other_layers_and_other_test_records_are_refused(keys, text_model, later_data, tmp_path):
    model = other_weights(shutil.copytree(text_model, tmp_path / "model"))
    data = shutil.copytree(later_data, tmp_path / "data")
    records = json.loads((data / "color_test.json").read_text())
    (data / "color_test.json").write_text(json.dumps(records[::-1]))
    cases = [
        ({"model_name_or_path": str(model)}, "`model_name_or_path` has other weights"),
        ({"model_name_or_path": str(tiny.llama(tmp_path / "wide", intermediate_size=128))}, "does not fit the model"),
        ({"lora_target": "gate_proj"}, "`lora_target` gives subspaces on gate_proj, those in .* are on down_proj, gate_proj"),
        ({"dataset_dir": str(data)}, "the test set of `color` was '6 records, "),
    ]
    kept = tmp_path / "out" / "fcit_manifest.json"
    kept.parent.mkdir()
    kept.write_text("{}")
    for changes, sentence in cases:
        with pytest.raises(ValueError, match=sentence) as caught:
            run_recipe(keys | {"output_dir": str(tmp_path / "out"), "overwrite_output_dir": True} | changes)
        assert "adapter_name_or_path" in str(caught.value) and "\n" not in str(caught.value)
        assert kept.exists(), "what is refused takes nothing away"
