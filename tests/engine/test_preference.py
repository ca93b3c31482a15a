"""``fcit_local_stage``: clients trained by LLaMA-Factory's DPO and KTO on preference data."""

import json
import math

import numpy as np
import pytest
import tiny
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer
from runs import losses_of, report_of, run_recipe, trained_alone
from safetensors.torch import load_file

from fcit_plugin.data.catalogue import Catalogue
from fcit_plugin.data.pipeline import Pipeline, TaskData
from fcit_plugin.engine.evaluator import Evaluator
from fcit_plugin.engine.open_session import open_session
from fcit_plugin.engine.rehearsal import rehearse

ENTRIES = {
    "dpo": {"ranking": True, "columns": {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}},
    "kto": {"columns": {"prompt": "instruction", "response": "output", "kto_tag": "right"}},
}


def records(stage, task, count):
    """Every record asks and answers something else than the one before it."""
    instruction, answers = tiny.TASKS[task]
    colors = list(answers)
    for i in range(count):
        color, other = colors[i % len(colors)], colors[(i + 1) % len(colors)]
        asked = {"instruction": f"{instruction} {color}"}
        if stage == "dpo":
            yield asked | {"chosen": answers[color], "rejected": answers[other]}
        else:
            yield asked | {"output": answers[other if i % 3 else color], "right": i % 3 == 0}


@pytest.fixture(scope="module", params=["dpo", "kto"])
def stage(request):
    return request.param


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two tasks as pairs and as feedback, with test records."""
    folder = tmp_path_factory.mktemp("preference")
    info = {}
    for task in ("color", "letter"):
        for kind, entry in ENTRIES.items():
            name = f"{task}_{kind}"
            (folder / f"{name}.json").write_text(json.dumps(list(records(kind, task, 12))))
            info[name] = {"file_name": f"{name}.json", **entry}
            info[f"{name}_test"] = {"file_name": f"{task}_test.json"}
        instruction, answers = tiny.TASKS[task]
        asked = [{"instruction": f"{instruction} {c}", "input": "", "output": a} for c, a in answers.items()]
        (folder / f"{task}_test.json").write_text(json.dumps(asked))
    info["no_test"] = info["color_dpo"]
    info["paired_test"] = info["paired_test_test"] = info["color_dpo"]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


@pytest.fixture
def preference_recipe(text_model, data, tmp_path):
    """Makes recipes on that data."""

    def make(stage, output="out", **changes):
        keys = {"fcit_local_stage": stage, "fcit_stages": [[f"color_{stage}"], [f"letter_{stage}"]], "pref_beta": 0.5}
        return tiny.recipe(text_model, data, tmp_path / output, **keys | changes)

    return make


@pytest.mark.parametrize("accumulation", [1, 2])
def test_one_client_learns_what_llamafactory_learns(stage, accumulation, preference_recipe, tmp_path):
    keys = preference_recipe(
        stage,
        fcit_stages=[[f"color_{stage}"]],
        fcit_num_clients=1,
        fcit_clients_per_round=1,
        fcit_num_rounds=1,
        fcit_eval_every="never",
        gradient_accumulation_steps=accumulation,
        per_device_train_batch_size=3,
        num_train_epochs=2.0,
    )
    output_dir = run_recipe(keys)
    plain = trained_alone(keys, output_dir, tmp_path / "alone")
    losses = losses_of(output_dir)
    assert len(losses) == 8 // accumulation
    assert losses == losses_of(plain)
    at_the_reference = {"dpo": math.log(2), "kto": 0.5}[stage]
    assert losses[0] == pytest.approx(at_the_reference, abs=1e-3), "a subspace begins with the base model"
    assert losses[-1] < losses[0]
    expected = load_file(plain / "adapter_model.safetensors")
    found = load_file(output_dir / "subspaces/0/adapter_model.safetensors")
    assert max((found[name] - value).abs().max().item() for name, value in expected.items()) < 1e-6


def test_a_whole_run_opens_a_subspace_for_each_task_and_is_evaluated(stage, preference_recipe):
    keys = preference_recipe(stage)
    report = report_of(run_recipe(keys))
    assigned = {(row["task"], row["subspace"]) for row in report["assignments"]}
    assert assigned == {(f"color_{stage}", 0), (f"letter_{stage}", 1)}
    assert all(row["cosine"] >= 0.9 for row in report["assignments"])
    assert None not in report["accuracy"][-1]
    plan = run_recipe(keys | {"output_dir": keys["output_dir"] + "-plan", "fcit_dry_run": True})
    steps = json.loads((plan / "fcit_dry_run.json").read_text())["steps"]
    assert steps == len(losses_of(plan.parent / "out"))


def test_feedback_is_set_against_answers_of_the_same_client_alone(preference_recipe):
    """KTO scores each prompt with an answer to another one; in LLaMA-Factory that of the record before it."""
    model_args, data_args, training_args, *_ = get_train_args(preference_recipe("kto"))
    pipeline = Pipeline(
        model_args, data_args, training_args, load_tokenizer(model_args), Catalogue(data_args.dataset_dir), "kto"
    )
    task = TaskData((pipeline.train("color_kto"),))
    answers = [row["output"] for row in records("kto", "color", 12)]
    own = np.array([1, 4, 10])

    def others_answers(samples):
        texts = [[token for token in row if token >= 0] for row in samples["kl_labels"]]
        return [pipeline.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in texts]

    assert others_answers(task.features) == answers[-1:] + answers[:-1]
    assert others_answers(pipeline.samples([(task, own)])) == [answers[10], answers[1], answers[4]]
    assert pipeline.num_samples([(task, own)]) == 3


@pytest.mark.parametrize(
    ("stage", "changes", "said"),
    [
        ("dpo", {"fcit_stages": [["color_kto"]]}, "color_kto has no columns `chosen` and `rejected`"),
        ("kto", {"fcit_stages": [["color_dpo"]]}, "color_dpo has no column `kto_tag`"),
        ("sft", {"fcit_stages": [["color_dpo"]]}, "color_dpo has `ranking: true`.* with `fcit_local_stage: sft`"),
        ("dpo", {"fcit_stages": [["no_test"]]}, "no_test.* has no test records.*`fcit_eval_every: never`"),
        ("dpo", {"fcit_stages": [["paired_test"]]}, "paired_test_test has `ranking: true`.* with test records"),
        ("dpo", {"fcit_method": "lwf"}, "`fcit_local_stage` cannot be used with `fcit_method: lwf`"),
        ("dpo", {"ref_model": "another"}, "`ref_model` cannot be used with the fcit stages"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_model_is_loaded(preference_recipe, stage, changes, said, monkeypatch):
    monkeypatch.setattr("fcit_plugin.engine.open_session.load_model", None)
    with pytest.raises(ValueError, match=said):
        run_recipe(preference_recipe(stage, **changes))


def test_without_evaluation_the_prompts_of_training_records_are_rehearsed(preference_recipe, stage, monkeypatch):
    asked = []
    monkeypatch.setattr(Evaluator, "answer", lambda self, batch, *args, **how: asked.extend(batch))
    session = open_session(*get_train_args(preference_recipe(stage, fcit_eval_every="never")))
    rehearse(session, session.evaluator({}))
    decode = session.pipeline.tokenizer.decode
    assert sorted(decode(row.feature["input_ids"]) for row in asked) == [
        f"USER: {tiny.TASKS[task][0]} red ASSISTANT:" for task in ("color", "letter")
    ]
