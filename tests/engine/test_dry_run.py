"""``fcit_dry_run``: what it says is what the run then does; it refuses what the run refuses; it needs no weights."""

import json
import shutil

import pytest
import tiny
from llamafactory.hparams import get_train_args
from runs import ROOT, report_of, run_recipe, weight_bytes
from safetensors.torch import load_file
from transformers import BertConfig

from fcit_plugin.data.media import MEDIA
from fcit_plugin.engine import label_trees
from fcit_plugin.engine.evaluator import Evaluator
from fcit_plugin.federation.folders import read_update
from fcit_plugin.federation.messages import METRICS, NUM_EXAMPLES
from fcit_plugin.recipe.read import split
from fcit_plugin.scenario.settings import SETTINGS

DEEPSPEED = str(ROOT / "recipes" / "deepspeed" / "ds_z{}_config.json")
#: rank 8 on gate, up and down of 32 layers, and the projector
LLAVA15_TRAINED = 32 * 3 * 8 * (4096 + 11008) + 1024 * 4096 + 4096 + 4096 * 4096 + 4096


def plan_of(keys):
    """The plan that a dry run of a recipe leaves."""
    output_dir = run_recipe({**keys, "fcit_dry_run": True})
    return json.loads((output_dir / "fcit_dry_run.json").read_text())


@pytest.fixture(scope="module", params=["text", "llava"])
def both(request, tmp_path_factory):
    """The plan of a recipe on a tiny model, and the output of its finished run."""
    keys, run = (request.getfixturevalue(f"{request.param}_{what}") for what in ("keys", "run"))
    embedding = {"fcit_identity_encoder": "embedding"}  # what `auto` becomes in the run, and a plan cannot know
    return plan_of({**keys, **embedding, "output_dir": str(tmp_path_factory.mktemp("plan") / "out")}), run


def test_the_bytes_are_those_of_the_report(both):
    plan, run = both
    report = report_of(run)
    assert (plan["bytes_up"], plan["bytes_down"]) == (report["bytes_up"], report["bytes_down"])


def test_the_steps_are_those_of_the_log(both):
    plan, run = both
    last = json.loads((run / "trainer_log.jsonl").read_text().splitlines()[-1])
    assert plan["steps"] == last["total_steps"] == last["current_steps"]


def test_each_client_trains_when_on_what_and_with_how_much(both):
    plan, run = both
    work = {(w["stage"], w["round"], w["client"]): (w["task"], w["records"]) for w in plan["work"][""]}
    done = {}
    for row in report_of(run)["assignments"]:
        place = (row["stage"], row["round"], row["client"])
        _, reply = read_update(run / "updates" / "stage{}_round{}_client{}".format(*place))
        done[place] = (row["task"], reply.content[METRICS][NUM_EXAMPLES])
    assert work == done


def commit_sizes(run):
    """Bytes of the tensor files of each commit that is there, oldest first, but for what is noted of each media file."""
    commits = sorted((run / "checkpoints").glob("round-????"))
    return [sum(path.stat().st_size for path in commit.rglob("*.safetensors") if path.name != MEDIA) for commit in commits]


def test_the_commits_take_what_it_says(both):
    plan, run = both
    disk = plan["disk"][""]
    assert commit_sizes(run) == disk["commits"][-disk["kept"] :] and disk["kept"] == 2
    assert sum(path.stat().st_size for path in run.glob("subspaces/*/*.safetensors")) < disk["commit"]
    updates = sum(path.stat().st_size for path in (run / "updates").rglob("*.safetensors"))
    assert updates == pytest.approx(disk["updates"], rel=0.1)  # of tiny tensors much is heads, which differ
    assert disk["most"] == sum(disk["commits"][-3:]) + max(disk["replies"], disk["commit"]) + disk["updates"]


#: What a commit holds beside subspaces, tokens and projector -> a recipe, and how exact the figure is.
BESIDE = {
    "importances": ({"fcit_method": "ewc"}, 0.0),
    "base change": ({"fcit_method": "sequential", "fcit_lora_aggregation": "exact"}, 0.0),
    "moments": ({"fcit_server_rule": "fedadam", "fcit_server_learning_rate": 0.01}, 0.2),  # heads of tiny arrays
}


@pytest.mark.parametrize("name", BESIDE)
def test_the_commits_take_what_it_says_with_what_methods_and_rules_keep(text_recipe, name):
    changes, share = BESIDE[name]
    keys = {**changes, "fcit_eval_every": "never", "fcit_num_rounds": 1, "save_total_limit": 0}
    disk = plan_of(text_recipe("plan", **keys))["disk"][""]
    found = commit_sizes(run_recipe(text_recipe("run", **keys)))
    assert disk["commits"] == pytest.approx(found, rel=share) and len(found) == 3 and disk["kept"] == 0


def test_llava15_writes_80_mib_and_44_for_each_subspace_in_a_commit(llava15):
    before, after = (llava15["disk"][""]["commits"][i] for i in (0, -1))
    assert before == pytest.approx(80 * 2**20, rel=0.01)
    assert (after - before) / 2 == pytest.approx(44.3 * 2**20, rel=0.01)
    assert llava15["disk"][""]["replies"] == pytest.approx(2 * llava15["bytes_up_per_client"], rel=0.001)


def test_it_trains_nothing_and_writes_one_file(text_recipe, tmp_path):
    plan_of(text_recipe())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["fcit_dry_run.json"]


def test_the_answers_are_those_that_a_run_generates_if_no_free_one_is_a_label(text_recipe, monkeypatch):
    generated = []
    original = Evaluator._generate_batch

    def generate(self, batch, inputs, **how):
        if not how:  # it is no rehearsal
            generated.append(len(batch))
        return original(self, batch, inputs, **how)

    monkeypatch.setattr(Evaluator, "_generate_batch", generate)
    monkeypatch.setattr(label_trees, "_is_path", lambda tree, ids, cut: False)
    keys = {"fcit_eval_every": "round", "fcit_eval_samples": 5, "per_device_eval_batch_size": 4}
    run_recipe(text_recipe("run", **keys))
    done = sum(generated)
    assert plan_of(text_recipe("plan", **keys))["answers"] == done
    assert sum(generated) == done, "the dry run generated some itself"


@pytest.mark.parametrize(("warmup", "epochs", "said"), [(0.03, 1.0, True), (0.0, 1.0, False), (0.03, 2.0, False)])
def test_it_warns_of_trainings_whose_only_step_has_a_learning_rate_of_0(text_recipe, warmup, epochs, said):
    changes = {"warmup_ratio": warmup, "num_train_epochs": epochs, "per_device_train_batch_size": 24}
    plan = plan_of(text_recipe(**changes, fcit_num_rounds=1))
    assert all(work["steps"] == epochs for work in plan["work"][""])
    assert any("4 of 4 local trainings cannot take a step" in note for note in plan["notes"]) == said
    if said:
        subspace = load_file(
            run_recipe(text_recipe("run", **changes, fcit_num_rounds=1)) / "subspaces/0/adapter_model.safetensors"
        )
        assert not any(value.any() for key, value in subspace.items() if "lora_B" in key), "it had said so"


def test_it_prints_the_plan(text_recipe, capsys):
    run_recipe(text_recipe(fcit_dry_run=True))
    shown = capsys.readouterr().out
    for part in ("FCIT dry run: disco, custom, seed 42", "Who trains what when", "optimizer steps:", "Memory of one"):
        assert part in shown


def test_an_earlier_runs_folder_stays_as_it_was(text_run, text_keys, tmp_path):
    folder = shutil.copytree(text_run, tmp_path / "out")
    with pytest.raises(ValueError, match="already holds the results of a run"):
        plan_of({**text_keys, "output_dir": str(folder)})
    plan_of({**text_keys, "output_dir": str(folder), "overwrite_output_dir": True})
    assert weight_bytes(folder) == weight_bytes(text_run)
    assert report_of(folder) == report_of(text_run)


REFUSED = {
    "too few records": {"fcit_min_client_samples": 100},
    "unknown encoder": {"fcit_identity_encoder": "no/such-encoder"},
    "unknown dataset": {"fcit_stages": [["color"], ["lettre"]]},
    "no template": {"template": None},
    "missing model": {"model_name_or_path": "no/such-model"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses_what_the_run_refuses_in_the_same_words(text_recipe, name):
    messages = []
    for dry in (True, False):
        with pytest.raises((ValueError, OSError)) as caught:
            run_recipe(text_recipe(fcit_dry_run=dry, **REFUSED[name]))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    ("keys", "zero", "named"),
    [
        ({"fcit_method": "ewc"}, 2, "`deepspeed` cannot be used with `fcit_method: ewc`"),
        ({"fcit_server_rule": "fedprox"}, 2, "`deepspeed` cannot be used with `fcit_server_rule: fedprox`"),
        ({"fcit_server_rule": "fedprox", "fp16": True}, None, "`fp16` cannot be used with `fcit_server_rule: fedprox`"),
        (
            {"fcit_method": "sequential", "fcit_lora_aggregation": "exact"},
            3,
            "`deepspeed` cannot be used with `fcit_lora_aggregation",
        ),
        (
            {"fcit_method": "sequential", "fcit_lora_aggregation": "exact", "quantization_bit": 4},
            None,
            "`quantization_bit` cannot be used",
        ),
    ],
)
def test_it_refuses_what_needs_devices_to_be_parsed(text_recipe, keys, zero, named):
    """The run itself is refused where DeepSpeed or a GPU is; a dry run takes these keys out to be parsed without."""
    recipe = text_recipe(fcit_dry_run=True, **keys, **({"deepspeed": DEEPSPEED.format(zero)} if zero else {}))
    with pytest.raises(ValueError, match=named):
        run_recipe(recipe)


def test_it_needs_no_weights(text_recipe, text_model, tmp_path):
    folder = shutil.copytree(text_model, tmp_path / "model")
    expected = plan_of(text_recipe("whole"))
    (folder / "model.safetensors").unlink()
    found = plan_of(text_recipe("bare", model_name_or_path=str(folder)))
    expected["settings"].pop("model"), found["settings"].pop("model")  # its folder
    assert found == expected


def test_the_weights_of_the_sentence_encoder_are_not_read(text_recipe, tmp_path, monkeypatch):
    BertConfig(hidden_size=24, num_attention_heads=2).save_pretrained(tmp_path / "encoder")
    monkeypatch.setattr("fcit_plugin.samples.real.minilm.minilm_path", lambda: tmp_path / "encoder")
    plan = plan_of(text_recipe("minilm", fcit_identity_encoder="minilm"))
    assert plan["settings"]["identity tokens"] == "minilm, 24 numbers"


@pytest.fixture(scope="module")
def llava15(llava15_7b_shape, image_data, tmp_path_factory):
    """The plan of LLaVA-1.5-7B's shape, trained as in the paper on 8 processes."""
    keys = tiny.recipe(llava15_7b_shape, image_data, tmp_path_factory.mktemp("plan") / "out", cutoff_len=2048)
    keys |= {"lora_rank": 8, "lora_alpha": 16, "bf16": True, "disable_gradient_checkpointing": False}
    keys |= {"freeze_multi_modal_projector": False, "deepspeed": DEEPSPEED.format(2)}
    keys["fcit_identity_encoder"] = str(tiny.clip_l14(tmp_path_factory.mktemp("clip")))
    keys["fcit_engine"] = "process"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NPROC_PER_NODE", "8")
        return plan_of(keys)


def test_a_llava15_client_sends_a_subspace_the_projector_and_its_token_twice(llava15):
    assert llava15["bytes_down_per_client"] == 4 * LLAVA15_TRAINED + 128 * (6 * 32 + 4)
    assert llava15["bytes_up_per_client"] == llava15["bytes_down_per_client"] + 2 * (4 * 768 + 128)


def test_a_llava15_image_takes_576_tokens(llava15):
    assert all(576 < length < 600 for item in llava15["data"] for length in item["lengths"])


def test_llava15s_14_gb_stay_float16_and_8_processes_share_the_rest(llava15):
    memory = llava15["memory"]
    assert 14.0e9 < memory["frozen"] < 14.2e9
    assert (memory["trained"], memory["gradients"]) == (2 * LLAVA15_TRAINED, 2 * LLAVA15_TRAINED // 8)
    assert memory["optimizer"] == 12 * LLAVA15_TRAINED // 8


def test_eight_processes_make_fewer_steps(llava15):
    assert all(work["steps"] == 1 for work in llava15["work"][""])
    assert "processes 8 x 4 x 1" in llava15["settings"]["batch"]


@pytest.mark.parametrize(
    "changes",
    [
        {"deepspeed": DEEPSPEED.format(3)},
        {"fp16": True},
        {"pure_bf16": True},
        {"quantization_bit": 4},
    ],
)
def test_keys_that_need_devices_are_counted_without_them(text_recipe, changes):
    plan = plan_of(text_recipe(**changes))
    plain = plan_of(text_recipe("plain"))
    assert plan["work"] == plain["work"]
    assert plan["memory"]["total"] < plain["memory"]["total"] or "deepspeed" in changes


def test_a_broken_deepspeed_file_is_named(text_recipe, tmp_path):
    (tmp_path / "ds.json").write_text("{")
    with pytest.raises(ValueError, match=r"ds.json .*; name a DeepSpeed configuration in `deepspeed`"):
        plan_of(text_recipe(deepspeed=str(tmp_path / "ds.json")))


@pytest.mark.parametrize(
    "given",
    [
        {"stage": "fcit", "--dry-run": None},
        {"stage": "fcit", "fcit_dry_run": True},
        ["--stage", "fcit", "--dry-run"],
        ["--stage", "fcit", "--fcit_dry_run", "true"],
    ],
)
def test_the_flag_and_the_key_mean_the_same(given):
    rest, _, fcit = split(given)
    assert fcit.fcit_dry_run
    assert rest == {"stage": "sft"}


def test_it_belongs_to_the_whole_loop(text_recipe):
    with pytest.raises(ValueError, match="`fcit_dry_run` belongs to `stage: fcit`"):
        get_train_args(text_recipe(stage="fcit_aggregate", fcit_dry_run=True))


@pytest.mark.parametrize("beta", [0.5, 1.0, 5.0])
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_cell_of_the_papers_tables_on_fcit_mini(setting, beta, tmp_path):
    """50 clients as in the paper; FCIT-mini's 600 records a dataset give the smallest client 5."""
    keys = {"model_name_or_path": "fcit-mini", "stage": "fcit", "template": "llava", "output_dir": str(tmp_path / "out")}
    keys |= {"default_system": "", "cutoff_len": 128, "report_to": "none", "lora_target": "gate_proj,up_proj,down_proj"}
    keys |= {"freeze_multi_modal_projector": False, "fcit_min_client_samples": 5, "fcit_num_rounds": 10}
    plan = plan_of(keys | {"fcit_setting": setting, "fcit_beta": beta})
    scenario = SETTINGS[setting]
    work = plan["work"][""]
    assert len(work) == scenario.num_stages * 10 * 5
    for t in range(scenario.num_stages):
        for r in range(10):
            tasks = [w["task"] for w in work if (w["stage"], w["round"]) == (t, r)]
            assert tasks == [scenario.tasks[scenario.task_of(t, i)].name for i in range(5)]
    for share, task in zip(plan["shares"], scenario.tasks, strict=True):
        assert share["records"] == 600 * len(task.datasets)
        assert share["smallest"] >= 5
    if beta == 5.0:
        assert all(share["largest"] < 5 * share["records"] / 50 for share in plan["shares"]), "nearly even"


def test_more_answers_may_be_asked_for_than_records_are_tokenized(text_model, tmp_path):
    data = tiny.data(tmp_path / "data", train=40, test=40)
    plan = plan_of(tiny.recipe(text_model, data, tmp_path / "out", fcit_eval_samples=35, fcit_eval_restricted=False))
    assert {item["name"]: item["test"] for item in plan["data"]} == {"color": 35, "letter": 35}
    assert plan["answers"] == 2 * 35 + 35 + 2 * 35
