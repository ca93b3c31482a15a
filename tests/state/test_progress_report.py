"""What becomes of a run's progress in its report."""

import json

import numpy as np
from reports import two_stages, unmeasured

from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.state.progress import Progress
from fcit_plugin.state.report import make_report

LEFT_OUT = {"stage": 1, "round": 0, "client": 7, "reason": "it gave no reply"}
ERROR = {"error": float("nan"), "subspace": 1, "round": 2, "stage": 0}


def test_a_report_is_plain_json_with_the_numbers_of_the_matrix():
    recipes = [{"data": {}, "stage": 0, "arguments": {"seed": 5}}, {"data": {}, "stage": 1, "arguments": {}}]
    report = two_stages(dropped=[LEFT_OUT], product_errors=[ERROR], recipes=recipes).to_dict()
    assert report == {
        "method": "disco",
        "reference": None,
        "setting": "custom",
        "seed": 3,
        "arguments": {"learning_rate": 0.1},
        "earlier": [{"stage": 0, "arguments": {"seed": 5}}],
        "stages": [["fcit_a"], ["fcit_b", "fcit_a"]],
        "datasets": ["fcit_a", "fcit_b"],
        "accuracy": [[90.0, None], [70.0, 80.0]],
        "accuracy_restricted": [[None, None], [None, 85.0]],
        "scores_other": [{"fcit_a": {"substring": 95.0}}, {}],
        "zero_shot": {"fcit_a": 10.0, "fcit_b": 20.0},
        "last": 75.0,
        "avg": 82.5,
        "forgetting": 20.0,
        "bwt": -20.0,
        "fwt": 70.0,
        "bytes_up": 2_500_000,
        "bytes_down": 4_000_000,
        "assignments": [
            {"stage": 0, "round": 0, "client": 4, "subspace": 0, "cosine": 0.5, "task": "a"},
            {"stage": 1, "round": 0, "client": 5, "subspace": 1, "cosine": None, "task": "b"},
        ],
        "dropped": [{"stage": 1, "round": 0, "client": 7, "reason": "it gave no reply"}],
        "product_errors": [{"stage": 0, "round": 2, "subspace": 1, "error": None}],
        "privacy": None,
        "partition": [{"task": "a", "dataset": "fcit_a", "records": [5, 7]}],
        "seconds": {"total": 3.5, "train": 2.5, "evaluate": 1.0},
        "likelihood": [[0.5, None], [0.75, 0.25]],
        "likelihood_untuned": {"fcit_a": 3.0, "fcit_b": 4.0},
    }
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_the_order_of_the_keys_is_that_of_the_file_format():
    report = two_stages(dropped=[LEFT_OUT]).to_dict()
    assert list(report) == [
        *("method", "reference", "setting", "seed", "arguments", "earlier", "stages", "datasets", "accuracy"),
        *("accuracy_restricted", "scores_other", "zero_shot", "last", "avg", "forgetting", "bwt", "fwt", "bytes_up"),
        *("bytes_down", "assignments", "dropped", "product_errors", "privacy", "partition", "seconds"),
        *("likelihood", "likelihood_untuned"),
    ]
    assert list(report["zero_shot"]) == ["fcit_a", "fcit_b"]
    assert list(report["assignments"][0]) == ["stage", "round", "client", "subspace", "cosine", "task"]
    assert list(report["seconds"]) == ["total", "train", "evaluate"]


def test_without_evaluation_there_are_no_summaries():
    report = unmeasured()
    assert report.datasets == ["fcit_a", "fcit_b"]
    assert (report.accuracy, report.zero_shot, report.final_scores) == ([], {}, {})
    assert set(report.summaries.values()) == {None}


def test_last_of_the_untuned_model_is_its_mean_where_it_is_the_run():
    report = unmeasured(zero_shot={"fcit_b": 20.0, "fcit_a": 10.0}, reference="zero_shot")
    assert (report.reference, report.last, report.avg) == ("zero_shot", 15.0, None)


def test_data_sets_of_stages_that_were_not_reached_are_empty_columns():
    report = two_stages(stages=[("fcit_a",), ("fcit_b", "fcit_a"), ("fcit_c",)])
    assert report.datasets == ["fcit_a", "fcit_b", "fcit_c"]
    assert report.accuracy == [[90.0, None, None], [70.0, 80.0, None]]
    assert report.last is None


def test_cosines_between_subspaces_are_those_of_their_tokens():
    sums = np.array([[3, 0], [0, 5], [4, 4], [0, 0]], np.float32)
    counts = np.array([1, 5, 2, 0], np.int64)

    def cosines(count):
        tokens = SubspaceTokens(sums[:count], counts[:count])
        return make_report(
            Progress(), method="disco", setting="s", seed=1, stages=[], arguments={}, tokens=tokens
        ).subspace_cosines

    near = round(2**-0.5, 4)
    assert cosines(4) == [[1, 0, near, None], [0, 1, near, None], [near, near, 1, None], [None] * 4]
    assert (cosines(0), cosines(1), unmeasured().subspace_cosines) == (None, None, None)
    assert "subspace_cosines" not in unmeasured().to_dict()
