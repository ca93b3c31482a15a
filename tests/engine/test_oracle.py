"""The task-known oracle: a subspace for each task, and each record answered by its own task's, against plain PEFT."""

import json
import shutil

import pytest
import torch
from runs import report_of, run_recipe, weighted_by_peft
from transformers import AutoModelForCausalLM, AutoTokenizer

from fcit_plugin.engine.oracle import TaskEncoder, task_of
from fcit_plugin.evaluation.metrics import exact_match, mean_of
from fcit_plugin.hookspecs import hookimpl
from fcit_plugin.scenario.settings import get_scenario
from fcit_plugin.state.folder import StateFolder

STEPS = 4


class Spy:
    """A metric that keeps the answers it is given, the latest of each dataset."""

    def __init__(self):
        self.answers = {}

    @hookimpl
    def fcit_metrics(self):
        def spy(predictions, answers):
            self.answers[tuple(answers)] = list(predictions)
            return mean_of(exact_match)(predictions, answers)

        return {"spy": spy}


@pytest.fixture
def alike(text_data, tmp_path):
    """The tiny tasks with one and the same instruction, so that nothing but the task tells them apart."""
    folder = shutil.copytree(text_data, tmp_path / "data")
    for name in ("color", "letter"):
        for split in ("train", "test"):
            file = folder / f"{name}_{split}.json"
            records = json.loads(file.read_text())
            for record in records:
                words = (record["text"] if split == "test" else record["conversations"][0]["value"]).split()
                text = f"name the color please {words[-1]}"
                if split == "test":
                    record["text"] = text
                else:
                    record["conversations"][0]["value"] = text
            file.write_text(json.dumps(records))
    info = json.loads((folder / "dataset_info.json").read_text())
    for name in ("color", "letter"):
        info[f"{name}_test"]["fcit_metric"] = "spy"
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def greedy(model, tokenizer, prompt):
    """The most likely next token again and again: no cache, no batch."""
    said = []
    for _ in range(STEPS):
        with torch.inference_mode():
            token = int(model(torch.tensor([[*prompt, *said]])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        said.append(token)
    return tokenizer.decode(said, skip_special_tokens=True).strip()


def test_tasks_that_sound_alike_have_subspaces_of_their_own_and_each_answers_its_own_task(
    text_recipe, text_model, alike, register
):
    spy = Spy()
    register(spy)
    keys = {"dataset_dir": str(alike), "num_train_epochs": 6.0, "fcit_eval_restricted": False}
    keys |= {"fcit_zero_shot": False, "max_new_tokens": STEPS}
    disco = report_of(run_recipe(text_recipe("disco", **keys)))
    assert {row["subspace"] for row in disco["assignments"]} == {0}, "by its instruction it is one task"

    folder = run_recipe(text_recipe("oracle", **keys, fcit_method="sequential", fcit_bound="oracle"))
    report = report_of(folder)
    assert (report["method"], report["reference"]) == ("oracle", "oracle")
    assert {(row["task"], row["subspace"]) for row in report["assignments"]} == {("color", 0), ("letter", 1)}
    assert all(row["cosine"] == pytest.approx(1) for row in report["assignments"])
    assert StateFolder(folder).load().tasks == [{"color": 4}, {"letter": 4}]

    tokenizer = AutoTokenizer.from_pretrained(text_model)
    by_task = {}
    for k, name in enumerate(("color", "letter")):
        base = AutoModelForCausalLM.from_pretrained(text_model)
        model = weighted_by_peft(base, folder, [float(k == j) for j in range(2)])
        records = json.loads((alike / f"{name}_test.json").read_text())
        prompts = [tokenizer(f"USER: {record['text']} ASSISTANT:")["input_ids"] for record in records]
        by_task[name] = [greedy(model, tokenizer, prompt) for prompt in prompts]
        assert spy.answers[tuple(record["answer"] for record in records)] == by_task[name]
    assert by_task["color"] != by_task["letter"]


def test_its_folder_says_that_it_cannot_route_instructions(text_recipe, text_model, run):
    from fcit_plugin.serving.trained import TrainedRun

    folder = run(text_recipe(fcit_bound="oracle", fcit_eval_every="stage", fcit_eval_samples=1, fcit_zero_shot=False))
    with pytest.raises(ValueError, match="`fcit_bound: oracle` name tasks, and no instruction says"):
        TrainedRun.read(folder).router(None, None)


def test_a_data_set_of_two_tasks_has_none_to_know():
    scenario = get_scenario("custom", [["a"], ["a", "b"]])
    with pytest.raises(ValueError, match=r"a is part of two \(a, a\+b\)"):
        task_of(scenario)


def test_capabilities_are_tasks_of_several_data_sets():
    scenario = get_scenario("cap_hom")
    found = task_of(scenario)
    assert (found["fcit_tabmwp"], found["fcit_dvqa"], len(found)) == ("math", "chart", 12)
    encoded = TaskEncoder(scenario).encode(["other", "nothing", "general"])
    assert encoded.tolist() == [[0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
