"""DeepSpeed ZeRO-2 and -3 and plain DDP give what one process without them gives: 3 stages, 3 rounds, 4 clients."""

import json
import shutil

import pytest
import tiny
from forked import ranks, without_shared_memory
from llamafactory.chat import ChatModel
from llamafactory.train.tuner import export_model
from runs import ROOT, differences, fresh_process, infer_args, outcome, report_of, run_recipe
from safetensors.torch import load_file

from fcit_plugin.state.checkpoints import Checkpoints

pytest.importorskip("deepspeed")

GLOBAL_BATCH = 2
#: Largest difference of an adapter weight; the weights themselves go up to 0.2. Measured on this data: below 7e-7, and
#: below 2e-6 with DeepSpeed's own Adam.
TOLERANCE = 1e-5
ENGINES = {name: {"deepspeed": str(ROOT / f"recipes/deepspeed/ds_{name}_config.json")} for name in ("z2", "z3")}
ENGINES["ddp"] = {}


@pytest.fixture(scope="module")
def keys(text_model, text_data, tmp_path_factory):
    """A recipe whose clients have whole batches, so that any number of processes sees the same ones."""
    return tiny.recipe(
        text_model,
        text_data,
        tmp_path_factory.mktemp("deepspeed") / "plain",
        fcit_stages=[["color"], ["letter"], ["number"]],
        fcit_num_clients=4,
        fcit_num_rounds=3,
        fcit_partition="iid",
        per_device_train_batch_size=GLOBAL_BATCH,
        fcit_engine="process",
    )


@pytest.fixture(scope="module")
def plain(keys):
    """The output of one process without DeepSpeed."""
    return run_recipe(keys)


@pytest.fixture(scope="module")
def zero_2(keys, tmp_path_factory):
    """The recipe of a run with ZeRO-2 in one process that keeps all its commits, and its output."""
    recipe = keys | ENGINES["z2"] | {"save_total_limit": 0}
    return recipe, train(recipe, 1, tmp_path_factory.mktemp("zero_2"))


def test_the_final_state_of_zero_2_is_that_of_plain_training(zero_2, plain):
    check_same(zero_2[1], plain, adapters=3)


@pytest.mark.parametrize(
    ("engine", "processes"),
    [
        ("z2", 2),
        ("z3", 2),
        pytest.param("z3", 1, marks=pytest.mark.slow),  # in small: the offloaded optimizer, below
        pytest.param("ddp", 2, marks=pytest.mark.slow),  # in small: test_torchrun.py
    ],
)
def test_the_final_state_is_that_of_plain_training(engine, processes, keys, plain, tmp_path):
    changed = {"per_device_train_batch_size": GLOBAL_BATCH // processes} | ENGINES[engine]
    check_same(train(keys | changed, processes, tmp_path), plain, adapters=3)


def test_a_killed_run_with_zero_2_goes_on_to_the_same_bits(zero_2, tmp_path):
    recipe, whole = zero_2
    killed = tmp_path / "out"
    for commit in Checkpoints(whole).commits()[:8]:  # seven rounds of nine
        shutil.copytree(commit, killed / "checkpoints" / commit.name)
    shutil.copy(whole / "trainer_log.jsonl", killed)
    shutil.copytree(whole / "predictions", killed / "predictions")
    assert differences(outcome(train(recipe, 1, tmp_path)), outcome(whole)) == []


def test_chat_and_export_take_what_zero_2_has_left(zero_2, plain, keys, tmp_path):
    answers, weights = [], []
    for name, folder in (("zero_2", zero_2[1]), ("plain", plain)):
        chat = ChatModel(infer_args(keys, folder, infer_backend="huggingface", max_new_tokens=4, do_sample=False))
        question = {"role": "user", "content": f"{tiny.TASKS['letter'][0]} red"}
        answers.append(chat.chat([question])[0].response_text)
        export_model(infer_args(keys, folder, export_dir=str(tmp_path / name), fcit_export_weights="letter"))
        weights.append(load_file(tmp_path / name / "model.safetensors"))
    assert answers[0] == answers[1]
    assert max((weights[0][key] - value).abs().max().item() for key, value in weights[1].items()) < TOLERANCE


@pytest.fixture(scope="module")
def short_keys(keys, tmp_path_factory):
    """The same with one stage of one round."""
    output_dir = str(tmp_path_factory.mktemp("short") / "plain")
    return keys | {"output_dir": output_dir, "fcit_stages": [["color"]], "fcit_num_rounds": 1, "fcit_eval_samples": 3}


@pytest.fixture(scope="module")
def short(short_keys):
    """Its output of one process without DeepSpeed."""
    return run_recipe(short_keys)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["z2", "z3"])
def test_tokens_of_hidden_states_are_the_same_where_processes_divide_the_weights(engine, short_keys, tmp_path):
    prompt = {"fcit_identity_encoder": "prompt", "fcit_stages": [["color"], ["letter"]], "fcit_num_rounds": 1}
    whole = run_recipe(short_keys | prompt | {"output_dir": str(tmp_path / "whole")})
    divided = train(short_keys | prompt | ENGINES[engine] | {"per_device_train_batch_size": GLOBAL_BATCH // 2}, 2, tmp_path)
    assert report_of(divided)["accuracy"] == report_of(whole)["accuracy"]
    tokens = [load_file(run / "identity_tokens.safetensors") for run in (whole, divided)]
    assert tokens[0]["counts"].tolist() == tokens[1]["counts"].tolist()
    assert (tokens[0]["sums"] / tokens[0]["sums"].norm() - tokens[1]["sums"] / tokens[1]["sums"].norm()).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("engine", "own_adam"),
    [
        pytest.param("z2_offload", True, marks=pytest.mark.slow),  # DeepSpeedCPUAdam is compiled where it is used first,
        pytest.param("z3_offload", True, marks=pytest.mark.slow),  # which takes minutes
        ("z3_offload", False),
    ],
)
def test_an_offloaded_optimizer_gives_the_same(engine, own_adam, short_keys, short, tmp_path):
    config = json.loads((ROOT / f"recipes/deepspeed/ds_{engine}_config.json").read_text())
    (tmp_path / "ds.json").write_text(json.dumps(config | ({} if own_adam else {"zero_force_ds_cpu_optimizer": False})))
    check_same(train(short_keys | {"deepspeed": str(tmp_path / "ds.json")}, 1, tmp_path), short, adapters=1)


def train(keys, processes, folder):
    """Run a recipe in so many processes; returns its output folder."""
    output_dir = folder / "out"
    recipe = tiny.write_recipe(folder / "r.yaml", keys | {"output_dir": str(output_dir), "ddp_backend": "gloo"})
    ranks(["train", str(recipe)], processes, folder, without_shared_memory)
    return output_dir


def check_same(output_dir, plain, adapters):
    """The adapters and the report of a run are those of another one."""
    paths = sorted(plain.glob("subspaces/*/adapter_model.safetensors"))
    assert len(paths) == adapters
    for path in paths:
        expected, found = load_file(path), load_file(output_dir / path.relative_to(plain))
        assert expected.keys() == found.keys()
        assert max((found[key] - value).abs().max().item() for key, value in expected.items()) < TOLERANCE
    report, expected = report_of(output_dir), report_of(plain)
    for key in ("assignments", "zero_shot", "accuracy", "accuracy_restricted", "bytes_up", "bytes_down"):
        assert report[key] == expected[key], key


def test_a_scheduler_in_the_file_knows_each_clients_own_number_of_steps(short_keys, tmp_path):
    config = json.loads((ROOT / "recipes/deepspeed/ds_z2_config.json").read_text())
    params = dict.fromkeys(("warmup_min_lr", "warmup_max_lr", "warmup_num_steps", "total_num_steps"), "auto")
    (tmp_path / "ds.json").write_text(json.dumps(config | {"scheduler": {"type": "WarmupDecayLR", "params": params}}))
    changes = {"fcit_partition": "quantity", "fcit_beta": 0.5, "fcit_clients_per_round": 4, "fcit_eval_every": "never"}
    keys = short_keys | changes | {"deepspeed": str(tmp_path / "ds.json"), "warmup_steps": 1}
    output_dir = train(keys, 1, tmp_path)
    lines = [json.loads(line) for line in (output_dir / "trainer_log.jsonl").read_text().splitlines()]
    rates = {client: [line["lr"] for line in lines if line["client"] == client] for client in range(4)}
    assert len({len(found) for found in rates.values()}) > 1, "their schedules differ in length"
    assert report_of(output_dir)["dropped"] == []
    long = [found for found in rates.values() if len(found) > 2]
    assert long and [found[-1] for found in long] == pytest.approx([0.01 / (len(found) - 2) for found in long]), "down to 0"


@pytest.mark.slow  # in small: the same without torchrun, above, and torchrun without DeepSpeed, test_torchrun.py
@pytest.mark.parametrize("engine", ["z2", "z3"])
def test_torchrun_starts_the_same(engine, short_keys, short, tmp_path):
    recipe = tiny.write_recipe(
        tmp_path / "r.yaml", short_keys | ENGINES[engine] | {"output_dir": str(tmp_path / "out"), "ddp_backend": "gloo"}
    )
    fresh_process(["llamafactory-cli", "train", str(recipe)], {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "1"}, timeout=900)
    check_same(tmp_path / "out", short, adapters=1)


@pytest.mark.slow  # in small: test_encoders.py
def test_zero_3_takes_a_hugging_face_encoder_whole(short_keys, clip_model, tmp_path):
    keys = short_keys | {"fcit_identity_encoder": str(clip_model), "fcit_identity_pooling": "eos", "fcit_eval_samples": 2}
    plain = run_recipe(keys | {"output_dir": str(tmp_path / "plain")})
    check_same(train(keys | ENGINES["z3"], 1, tmp_path), plain, adapters=1)
    tokens = [load_file(folder / "identity_tokens.safetensors") for folder in (plain, tmp_path / "out")]
    assert all(tokens[0][key].equal(value) for key, value in tokens[1].items())
