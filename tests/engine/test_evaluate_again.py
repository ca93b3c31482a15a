"""``do_train: false``: a finished run evaluated again, with its own keys and with others."""

import json

import pytest
from runs import report_of, run_recipe

from fcit_plugin.engine.evaluator import Evaluator
from fcit_plugin.knowledge.activation import weights_of_cosines


@pytest.fixture
def again(text_keys, text_run, tmp_path):
    """Evaluates the DISCO run on the tiny Llama with other keys; gives the output folder."""

    def run(**changes):
        keys = {**text_keys, "output_dir": str(tmp_path / "again"), "do_train": False, "fcit_keep_client_updates": False}
        keys |= {"adapter_name_or_path": str(text_run), "report_to": "none", **changes}
        return run_recipe({key: value for key, value in keys.items() if value is not None})

    return run


def test_with_its_own_keys_the_last_row_is_that_of_the_run(again, text_run):
    report, expected = report_of(again()), report_of(text_run)
    for key in ("datasets", "zero_shot", "last", "method", "setting", "seed", "stages"):
        assert report[key] == expected[key]
    for key in ("accuracy", "accuracy_restricted"):
        assert report[key][-1] == expected[key][-1]
        assert all(score is None for score in report[key][0])
    assert {report[key] for key in ("avg", "forgetting", "bwt", "fwt")} == {None}
    assert (report["bytes_up"], report["assignments"]) == (0, [])


@pytest.mark.parametrize("aggregation", ["exact", "factors"])
def test_what_a_run_added_to_the_base_weights_answers_too_whatever_the_recipe_says_of_it(
    text_keys, tmp_path, monkeypatch, aggregation
):
    answered_by, original = [], Evaluator._generate_batch

    def generate(self, batch, inputs, **how):
        answered_by.append(self.model.get_base_model().model.layers[0].mlp.gate_proj.base_layer.weight.detach().clone())
        return original(self, batch, inputs, **how)

    monkeypatch.setattr(Evaluator, "_generate_batch", generate)
    keys = {**text_keys, "fcit_lora_aggregation": "exact", "fcit_method": "sequential", "fcit_zero_shot": True}
    run = run_recipe({**keys, "output_dir": str(tmp_path / "run")})
    untuned, *_, tuned = answered_by
    assert not untuned.equal(tuned)
    keys |= {"do_train": False, "adapter_name_or_path": str(run), "fcit_lora_aggregation": aggregation}
    run_recipe({**keys, "output_dir": str(tmp_path / "again"), "fcit_keep_client_updates": False, "fcit_zero_shot": False})
    assert answered_by[-1].equal(tuned)


def test_the_recipe_says_how_subspaces_are_activated(again, monkeypatch):
    asked = []

    def spy(*args, **kwargs):
        asked.append((kwargs["mode"], kwargs["temperature"]))
        return weights_of_cosines(*args, **kwargs)

    monkeypatch.setattr("fcit_plugin.knowledge.activation.weights_of_cosines", spy)
    report = report_of(again(fcit_activation="concat", fcit_zero_shot=False, fcit_temperature=0.5))
    assert set(asked) == {("concat", 0.5)}
    assert report["zero_shot"] == {}
    assert report["arguments"]["fcit_activation"] == "concat"


def test_nothing_is_written_beside_the_report_and_the_run_is_left_alone(again, text_run):
    before = {path: path.read_bytes() for path in text_run.rglob("*") if path.is_file()}
    out = again(fcit_zero_shot=False, fcit_eval_restricted=False)
    assert sorted(path.name for path in out.iterdir()) == [
        *("accuracy_matrix.csv", "accuracy_matrix.png", "fcit_report.html", "fcit_report.json", "predictions"),
    ]
    assert {path: path.read_bytes() for path in text_run.rglob("*") if path.is_file()} == before
    assert json.loads((out / "fcit_report.json").read_text())["seconds"]["train"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapter_name_or_path": None}, "name its output folder as `adapter_name_or_path`"),
        ({"adapter_name_or_path": "nowhere"}, "`adapter_name_or_path`, nowhere is none"),
        ({"stage": "fcit_aggregate", "fcit_zero_shot": None}, "`do_train: false` belongs to `stage: fcit`"),
        ({"lora_rank": 2}, "subspace in .*/subspaces/0"),
        ({"lora_alpha": 4}, "`lora_alpha` is 4 in the recipe and 8 in"),
        ({"fcit_identity_center": False}, "`fcit_identity_center` is False, but .* has True"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_a_sentence(again, changes, message):
    with pytest.raises(ValueError, match=message):
        again(**changes)


def test_the_run_does_not_lose_its_report_to_its_evaluation(again, text_run):
    with pytest.raises(ValueError, match="`output_dir` is or holds the folder that is evaluated"):
        again(output_dir=str(text_run))
