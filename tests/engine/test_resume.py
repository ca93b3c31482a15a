"""A run that goes on from a commit ends in the same bits; what else may be said to one that is started again."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import tiny
from crashes import die, in_a_child, limit_file_size
from datasets import Dataset, Features, List, Value
from forked import command
from llamafactory.hparams import get_train_args
from llamafactory.train.tuner import run_exp
from runs import ROOT, differences, outcome, run_recipe, weight_bytes

from fcit_plugin.data.pipeline import Split
from fcit_plugin.engine import open_session
from fcit_plugin.engine.fingerprint import data_fingerprint, deciding_keys
from fcit_plugin.errors import FcitError
from fcit_plugin.state.checkpoints import Checkpoints
from fcit_plugin.state.folder import StateFolder

LAST = 4  # two stages of two rounds


@pytest.fixture(scope="module")
def keys(text_keys, tmp_path_factory):
    """The recipe of the session's run with all commits kept."""
    return text_keys | {"output_dir": str(tmp_path_factory.mktemp("resume") / "whole"), "save_total_limit": 0}


@pytest.fixture(scope="module")
def whole(keys):
    """Output of a run that nobody interrupted."""
    return run_recipe(keys)


@pytest.fixture
def killed(whole, keys, tmp_path):
    """Makes the recipe of a run that was killed after ``number`` rounds, and what it had left."""

    def make(number, **changes):
        output_dir = tmp_path / "killed"
        for commit in Checkpoints(whole).commits()[: number + 1]:
            shutil.copytree(commit, output_dir / "checkpoints" / commit.name)
        shutil.copytree(whole / "runs", output_dir / "runs")
        for name in ("updates", "predictions"):  # predictions with those of a stage that was not committed
            shutil.copytree(whole / name, output_dir / name)
        shutil.copy(whole / "trainer_log.jsonl", output_dir)  # with lines of rounds that were not committed
        return keys | {"output_dir": str(output_dir)} | changes

    return make


def damage(path: Path):
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(bytes(raw))


GOES_ON = {
    "because it is told to": (1, {"resume_from_checkpoint": True, "overwrite_output_dir": True}, 1),
    "by itself": (3, {}, 3),
    "from an earlier commit": (3, {"resume_from_checkpoint": "{out}/checkpoints/round-0002", "overwrite_output_dir": True}, 2),
}


@pytest.mark.parametrize("name", GOES_ON)
def test_a_run_goes_on_from_a_commit_to_the_same_bits(killed, whole, name, logged):
    number, changes, start = GOES_ON[name]
    recipe = killed(number)
    changes = {
        key: value.format(out=recipe["output_dir"]) if isinstance(value, str) else value for key, value in changes.items()
    }
    output_dir = run_recipe(recipe | changes)
    assert differences(outcome(output_dir), outcome(whole)) == []
    assert f"Resuming from {output_dir}/checkpoints/round-000{start}." in logged.text


def test_a_damaged_commit_is_named_and_the_one_before_it_used(killed, whole, logged):
    recipe = killed(3)
    path = Path(recipe["output_dir"]) / "checkpoints" / "round-0003" / "subspaces" / "1" / "adapter_model.safetensors"
    damage(path)
    output_dir = run_recipe(recipe)
    assert f"{path} is corrupt" in logged.text and "/checkpoints/round-0002." in logged.text
    assert differences(outcome(output_dir), outcome(whole)) == []


def test_a_finished_run_says_so_and_writes_its_report_anew(whole, keys, tmp_path, logged):
    output_dir = shutil.copytree(whole, tmp_path / "again")
    (output_dir / "fcit_report.json").unlink()
    run_recipe(keys | {"output_dir": str(output_dir), "resume_from_checkpoint": True, "logging_steps": 7})
    assert "is finished; its report is written again" in logged.text
    assert differences(outcome(output_dir), outcome(whole)) == []
    assert (output_dir / "fcit_report.json").read_bytes() == (whole / "fcit_report.json").read_bytes(), "times as well"


def test_a_commit_named_by_its_path_is_gone_back_to_also_into_another_folder(whole, keys, tmp_path):
    commit = whole / "checkpoints" / "round-0002"
    other = run_recipe(keys | {"output_dir": str(tmp_path / "other"), "resume_from_checkpoint": str(commit)})
    found, expected = outcome(other), outcome(whole)
    of_both = [name for name in differences(found, expected) if not name.startswith(("updates", "checkpoints"))]
    assert [name for name in of_both if " at step " not in name] == [], "TensorBoard has what came after the commit"
    assert [path.name for path in Checkpoints(other).commits()] == ["round-0002", "round-0003", "round-0004"]
    assert all(folder.is_dir() for folder in Checkpoints(whole).commits()), "the other run is as it was"


#: changes to the recipe, and the parts that the one sentence must hold
REFUSED = [
    ({"learning_rate": 0.02}, ["`learning_rate` was 0.01 and is 0.02"]),
    ({"seed": 7}, ["`seed` was 42 and is 7"]),
    ({"lora_rank": 8, "lora_alpha": 8}, ["`lora_rank` was 4 and is 8"]),
    ({"lora_target": "gate_proj"}, ["`lora_target` was ['gate_proj', 'up_proj', 'down_proj'] and is ['gate_proj']"]),
    ({"lora_dropout": 0.1}, ["`lora_dropout` was 0.0 and is 0.1"]),
    ({"template": "default"}, ["`template` was 'vicuna' and is 'default'"]),
    ({"num_train_epochs": 2.0}, ["`num_train_epochs` was 1.0 and is 2.0"]),
    ({"lr_scheduler_type": "linear"}, ["`lr_scheduler_type` was 'cosine' and is 'linear'"]),
    ({"per_device_train_batch_size": 2}, ["`per_device_train_batch_size` was 4 and is 2"]),
    ({"gradient_accumulation_steps": 2}, ["`gradient_accumulation_steps` was 1 and is 2"]),
    ({"cutoff_len": 48}, ["`cutoff_len` was 64 and is 48"]),
    ({"max_samples": 20}, ["`max_samples` was None and is 20"]),
    ({"weight_decay": 0.1}, ["`weight_decay` was 0.0 and is 0.1"]),
    ({"max_grad_norm": 0.5}, ["`max_grad_norm` was 1.0 and is 0.5"]),
    ({"max_new_tokens": 5}, ["`max_new_tokens` was 4 and is 5"]),
    ({"fcit_stages": [["color"], ["number"]]}, ["`fcit_stages` was [['color'], ['letter']] and is [['color'], ['number']]"]),
    ({"fcit_method": "sequential"}, ["`fcit_method` was 'disco' and is 'sequential'"]),
    ({"fcit_num_rounds": 3}, ["`fcit_num_rounds` was 2 and is 3"]),
    ({"fcit_num_clients": 4}, ["`fcit_num_clients` was 3 and is 4"]),
    (
        {"fcit_partition": "iid", "fcit_beta": 0.5},
        ["`fcit_beta` was 1.0 and is 0.5; ", "`fcit_partition` was 'quantity' and is 'iid'"],
    ),
    ({"fcit_similarity_threshold": 0.8}, ["`fcit_similarity_threshold` was 0.9 and is 0.8"]),
    ({"fcit_temperature": 0.1}, ["`fcit_temperature` was 0.05 and is 0.1"]),
    ({"fcit_eval_samples": 3}, ["`fcit_eval_samples` was None and is 3"]),
]


@pytest.mark.parametrize(("changes", "parts"), REFUSED, ids=lambda value: ",".join(value)[:30])
def test_a_recipe_that_would_give_other_numbers_is_refused_before_the_model_is_loaded(whole, keys, changes, parts, monkeypatch):
    recipe = {key: value for key, value in (keys | changes).items() if value is not None}
    monkeypatch.setattr(open_session, "load_tokenizer", lambda *_: pytest.fail("it went as far as loading"))
    with pytest.raises(FcitError) as caught:
        run_recipe(recipe)
    text = str(caught.value)
    assert [part for part in [*parts, "round-0004", "`overwrite_output_dir: true`"] if part not in text] == [], text
    assert "\n" not in text


FREE = {
    "logging_steps": 3, "report_to": "none", "save_total_limit": 1, "per_device_eval_batch_size": 1, "run_name": "x",
    "dataloader_num_workers": 0, "preprocessing_num_workers": 1, "overwrite_cache": True, "hub_token": "secret",
    "fcit_keep_client_updates": False, "temperature": 0.5, "disable_tqdm": False,
}  # fmt: skip


def test_what_changes_no_number_may_differ_and_no_secret_is_written(whole, keys):
    recipe = {key: value for key, value in (keys | FREE).items() if key != "lora_alpha"}  # it is twice the rank, as by default
    *parsed, finetuning_args, generating_args = get_train_args(recipe)
    written = (whole / "checkpoints" / "round-0004" / "recipe.json").read_text()
    arguments = (*parsed, finetuning_args, generating_args, finetuning_args.fcit_request.args)
    settled = {"fcit_identity_encoder": "embedding", "fcit_similarity_threshold": 0.9}  # what `auto` has become
    assert deciding_keys(arguments, world_size=1) | settled == json.loads(written)["keys"]
    assert "hub_token" not in written and "_key" not in json.loads(written)["keys"]


def test_other_data_under_the_same_names_is_refused_and_named(whole, keys, text_data, tmp_path):
    data = shutil.copytree(text_data, tmp_path / "data")
    for name in ("letter_train", "color_test"):
        records = json.loads((data / f"{name}.json").read_text())
        (data / f"{name}.json").write_text(json.dumps(records[::-1]))
    with pytest.raises(FcitError) as caught:
        run_recipe(keys | {"dataset_dir": str(data)})
    text = str(caught.value)
    assert "the training set of `letter` was '24 records, " in text and "the test set of `color` was '6 records, " in text
    assert "training set of `color`" not in text and "test set of `letter`" not in text


def test_tokens_kept_as_64_bits_are_the_same_data():
    """`datasets` chooses the type, and a cached map keeps what another version of it chose."""

    def split(dtype):
        columns = {"input_ids": [[5, 6, 7], [8]], "labels": [[-100, 6, 7], [8]]}
        features = Features({name: List(Value(dtype)) for name in columns})
        return Split("color", Dataset.from_dict({}), Dataset.from_dict(columns, features), ["a", "b"], ["red", "blue"], [])

    assert data_fingerprint(split("int32")) == data_fingerprint(split("int64"))


def test_another_base_model_of_the_same_shape_is_refused(whole, keys, text_model, tmp_path):
    from safetensors.torch import load_file, save_file

    model = shutil.copytree(text_model, tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"] + 0.5
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"the fingerprint of `model_name_or_path` was '[0-9a-f]+' and is "):
        run_recipe(keys | {"model_name_or_path": str(model)})


def test_with_no_good_commit_left_the_run_says_so_instead_of_beginning_anew(killed):
    recipe = killed(1, resume_from_checkpoint=True)
    for commit in Checkpoints(Path(recipe["output_dir"])).commits():
        damage(commit / "progress.json")
    with pytest.raises(ValueError, match=r"None of the 2 commits in .* is good; .*`overwrite_output_dir: true`"):
        run_recipe(recipe)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("{tmp}/nowhere", "nowhere is neither a commit nor a folder with checkpoints/ in it"),
        ("{out}/checkpoints/round-0009", "round-0009/checksums.json cannot be read"),
    ],
)
def test_a_path_that_leads_to_no_commit_is_refused(killed, tmp_path, given, sentence):
    recipe = killed(1)
    with pytest.raises(ValueError, match=f"`resume_from_checkpoint`: .*{sentence}"):
        run_recipe(recipe | {"resume_from_checkpoint": given.format(tmp=tmp_path, out=recipe["output_dir"])})


def test_beginning_anew_leaves_nothing_of_the_killed_run(killed):
    recipe = killed(3, overwrite_output_dir=True, fcit_num_rounds=1, fcit_eval_every="never", report_to="none")
    recipe |= {"fcit_keep_client_updates": False}
    output_dir = run_recipe(recipe)
    assert [path.name for path in Checkpoints(output_dir).commits()] == ["round-0000", "round-0001", "round-0002"]
    assert not (output_dir / "updates").exists()
    lines = (output_dir / "trainer_log.jsonl").read_text().splitlines()
    assert len(lines) == json.loads(lines[-1])["total_steps"]


def test_while_a_run_has_not_ended_its_commits_can_be_used_and_its_folder_says_so(killed, text_model):
    from llamafactory.hparams import get_infer_args
    from llamafactory.model import load_model, load_tokenizer

    output_dir = Path(killed(3)["output_dir"])
    state = StateFolder(output_dir / "checkpoints" / "round-0003").load()
    assert (state.stage, state.round, len(state.subspaces)) == (1, 1, 2)

    def loaded(folder):
        args = {"model_name_or_path": str(text_model), "adapter_name_or_path": str(folder), "template": "vicuna"}
        model_args, _, finetuning_args, _ = get_infer_args(args)
        return load_model(load_tokenizer(model_args)["tokenizer"], model_args, finetuning_args)

    assert loaded(output_dir / "checkpoints" / "round-0003") is not None
    with pytest.raises(ValueError, match=r"has not finished; .*checkpoints/round-0003"):
        loaded(output_dir)


def test_rounds_by_folders_begin_from_a_commit(whole, keys, tmp_path):
    commit = whole / "checkpoints" / "round-0003"
    (update, *_) = sorted((whole / "updates").glob("stage1_round1_*"))
    recipe = {key: value for key, value in keys.items() if key not in ("fcit_keep_client_updates", "report_to")}
    recipe |= {"stage": "fcit_client", "fcit_state_dir": str(commit), "output_dir": str(tmp_path / "update")}
    found = run_recipe(recipe | {"fcit_client": int(update.name.removeprefix("stage1_round1_client"))})
    assert weight_bytes(found) == weight_bytes(update)


def test_a_step_by_folders_takes_no_resume(keys, tmp_path):
    recipe = {key: value for key, value in keys.items() if key != "fcit_keep_client_updates"}
    with pytest.raises(ValueError, match="`resume_from_checkpoint` belongs to `stage: fcit`"):
        run_recipe(recipe | {"stage": "fcit_aggregate", "output_dir": str(tmp_path), "resume_from_checkpoint": True})


def test_a_full_disk_ends_the_run_in_a_sentence_and_with_room_again_it_goes_on(whole, keys, tmp_path):
    """A real refusal by the system: no file may be longer than the limit. The end is that of a run with room."""
    recipe = keys | {"output_dir": str(tmp_path / "full"), "report_to": "none"}
    told = tmp_path / "told"

    def work():
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        limit_file_size(4_000)  # a commit of the beginning is smaller, an update is not
        try:
            run_recipe(recipe)
        except OSError as error:
            told.write_text(str(error))

    assert in_a_child(work) == 0
    assert "/round-0000.replies/client-" in told.read_text() and "(File too large); make room" in told.read_text()
    assert [folder.name for folder in Checkpoints(tmp_path / "full").commits()] == ["round-0000"]
    found = outcome(run_recipe(recipe))
    assert [name for name in differences(found, outcome(whole)) if " at step " not in name] == []


def test_a_trained_projector_goes_on_to_the_same_bits(llava_keys, llava_run, tmp_path):
    output_dir = shutil.copytree(llava_run, tmp_path / "out")
    Checkpoints(output_dir).go_back_to(3)
    run_recipe(llava_keys | {"output_dir": str(output_dir), "save_total_limit": 3, "resume_from_checkpoint": True})
    shutil.rmtree(output_dir / "checkpoints" / "round-0003")
    expected = {name: value for name, value in outcome(llava_run).items() if "round-0003" not in name}
    assert "shared.safetensors" in expected
    assert differences(outcome(output_dir), expected) == []


def test_a_run_that_went_on_leaves_the_same_files_as_one_that_did_not_stop(text_recipe, tmp_path):
    """Also where nothing was logged."""
    keys = text_recipe("whole", logging_steps=1000, save_total_limit=0, fcit_keep_client_updates=True, fcit_num_rounds=1)
    whole = run_recipe(keys)
    for commit in Checkpoints(whole).commits()[:2]:
        shutil.copytree(commit, tmp_path / "killed" / "checkpoints" / commit.name)
    for update in (whole / "updates").glob("stage0*"):
        shutil.copytree(update, tmp_path / "killed" / "updates" / update.name)
    shutil.copytree(whole / "predictions", tmp_path / "killed" / "predictions")
    went_on = run_recipe(keys | {"output_dir": str(tmp_path / "killed")})
    assert differences(outcome(went_on), outcome(whole)) == []
    for folder in (went_on, whole):
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        assert "trainer_log.jsonl" in names and names == sorted(str(path.relative_to(whole)) for path in whole.rglob("*")), (
            "hidden ones and empty folders as well"
        )
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [], "nothing is left beside them"


@pytest.mark.parametrize("verify", ["sample", "full"])
def test_an_image_that_was_changed_behind_its_name_size_and_time_ends_the_run_that_goes_on(
    llava_keys, llava_run, image_data, tmp_path, verify
):
    data = shutil.copytree(image_data, tmp_path / "data")
    keys = llava_keys | {
        "output_dir": str(shutil.copytree(llava_run, tmp_path / "out")),
        "dataset_dir": str(data),
        "media_dir": str(data / "datasets"),
        "fcit_verify_data": verify,
    }
    Checkpoints(tmp_path / "out").go_back_to(3)
    image = data / "datasets" / "green.png"
    times = image.stat().st_atime_ns, image.stat().st_mtime_ns
    damage(image)
    os.utime(image, ns=times)
    with pytest.raises(FcitError, match=r"datasets/green\.png is not the file that the run was begun with: its contents have"):
        run_recipe(keys)
    assert [folder.name for folder in Checkpoints(tmp_path / "out").commits()] == ["round-0003"]
    damage(image)  # back again
    run_recipe(keys)


def test_real_kills_in_training_evaluation_and_commit_end_in_the_same_bits(tmp_path):
    """The slow proof of docs/guide/reliability.md in small: three kills of a real process."""
    arguments = ["--kills", "3", "--seed", "1"]
    tools = str(ROOT / "tools")
    done = command(arguments, tmp_path, setup=lambda: sys.path.insert(0, tools), program="kill_proof")
    assert done.code == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "3 kills over" in done.stdout and "identical" in done.stdout


@pytest.mark.slow
def test_two_processes_go_on_from_one_commit(keys, tmp_path, process):
    recipe = keys | {"output_dir": str(tmp_path / "two"), "ddp_backend": "gloo", "report_to": "none"}
    recipe["fcit_engine"] = "process"
    env = {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "2"}
    process(["llamafactory-cli", "train", str(tiny.write_recipe(tmp_path / "r.yaml", recipe))], env, timeout=400)
    expected = outcome(tmp_path / "two")
    Checkpoints(tmp_path / "two").go_back_to(3)
    shown = process(["llamafactory-cli", "train", str(tmp_path / "r.yaml")], env, timeout=400).stdout
    assert "Resuming from" in shown
    assert differences(outcome(tmp_path / "two"), expected) == []


def test_the_recipe_in_the_output_folder_outlives_the_run_that_it_starts(keys, whole, tmp_path, monkeypatch):
    """`llamafactory-cli train saves/x/fcit_recipe.yaml`: killed in the middle and started once more, also of a finished run."""
    folder = tmp_path / "own"
    folder.mkdir()
    recipe = {**keys, "output_dir": str(folder), "disable_tqdm": True}
    file = tiny.write_recipe(folder / "fcit_recipe.yaml", recipe)
    text = file.read_text()
    monkeypatch.setattr(sys, "argv", ["llamafactory-cli", str(file)])
    commit = Checkpoints.commit

    def dying(self, number, write):
        die() if number == 3 else commit(self, number, write)

    def killed():
        Checkpoints.commit = dying
        run_exp()

    assert in_a_child(killed) is None and file.read_text() == text
    for _ in range(2):
        run_exp()
        assert file.read_text() == text
        others = [
            {k: v for k, v in outcome(one).items() if k != "fcit_recipe.yaml" and ".png" not in k} for one in (folder, whole)
        ]
        assert differences(*others) == []
        assert "learning_rate" in (folder / "fcit_report.html").read_text()
    run_recipe(recipe | {"overwrite_output_dir": True, "fcit_num_rounds": 1})
    assert not file.exists(), "it is another run's, which was no file"
