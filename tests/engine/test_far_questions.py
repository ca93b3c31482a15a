"""Questions that are far: counted by dataset over processes, and what a run says of its own."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from runs import run_recipe
from transformers import AutoModelForCausalLM, AutoTokenizer

from fcit_plugin.engine.far_questions import FarQuestions
from fcit_plugin.knowledge.activation import Distance, Weighed
from fcit_plugin.serving.trained import TrainedRun


class Signs:
    """Far is what is negative."""

    def weigh(self, embedded):
        limit = np.zeros(len(embedded))
        return Weighed(embedded, embedded + 1, Distance(embedded[:, 0], np.zeros(len(embedded), np.int64), limit, limit))


def test_counts_of_several_processes_are_of_records_and_one_speaks(logged):
    """Both answer record 1 of b, as ZeRO-3 has them do; record 0 of a is answered again."""
    logged.set_level("INFO", logger="fcit_plugin.engine.far_questions")
    processes = FarQuestions(), FarQuestions()
    parts = [
        {("a", 0): -1.0, ("a", 1): 1.0, ("b", 1): -2.0},
        {("b", 1): -2.0, ("b", 0): -1.0, ("c", 0): 3.0},
    ]
    for process, part in zip((*processes, processes[0]), (*parts, {("a", 0): -1.0}), strict=True):
        embedded = np.array([[value] for value in part.values()], np.float32)
        assert process.weights(Signs(), [*part], embedded).tolist() == (embedded + 1).tolist()
    known = [process._found for process in processes]
    for number, process in enumerate(processes):
        process.log(lambda own: known, number == 0)
    assert [text for text in logged.messages if "Far from" in text] == [
        "Far from what this run learned (docs/guide/serving.md): 1 of 2 in a, 2 of 2 in b."
    ]


def test_nothing_is_said_where_nothing_is_far(logged):
    logged.set_level("INFO", logger="fcit_plugin.engine.far_questions")
    questions = FarQuestions()
    questions.weights(Signs(), [("a", 0)], np.ones((1, 1), np.float32))
    questions.log(lambda own: [own], True)
    assert not logged.messages


@pytest.mark.parametrize("form", ["full", "signs_256"])
def test_a_run_keeps_how_near_its_instructions_lie_and_says_once_a_stage_which_questions_are_far(text_recipe, logged, form):
    keys = text_recipe(fcit_identity_form=form, fcit_similarity_threshold=0.5)
    trained = TrainedRun.read(run_recipe(keys))
    state = trained.state
    for k, counts in state.own_cosines.items():
        assert 0 < sum(counts) <= state.tokens.counts[k]
    assert state.own_cosines.keys() == {*range(len(state.subspaces))}
    model = AutoModelForCausalLM.from_pretrained(keys["model_name_or_path"])
    router = trained.router(model, AutoTokenizer.from_pretrained(keys["model_name_or_path"]))
    expected = Counter()
    for name in ("color", "letter"):
        records = json.loads((Path(keys["dataset_dir"]) / f"{name}_test.json").read_text())
        asked = [(record["text"],) for record in records]
        expected[name] = int(router.far(router.listen(asked)[0]).sum())
    lines = [text for text in logged.messages if text.startswith("Far from what this run learned")]
    assert len(lines) <= 2
    said = {name: int(count) for count, name in re.findall(r"(\d+) of \d+ in (\w+)", lines[-1] if lines else "")}
    assert {name: count for name, count in expected.items() if count} == said


def test_a_run_with_noise_on_its_tokens_tells_nothing_of_them(text_recipe):
    trained = TrainedRun.read(run_recipe(text_recipe(fcit_identity_noise=0.001, fcit_stages=[["color"]])))
    assert trained.state.own_cosines == {} and trained.state.subspaces
