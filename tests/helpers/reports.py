"""Reports of runs that were never run."""

from fcit_plugin.evaluation.matrix import AccuracyMatrix
from fcit_plugin.evaluation.report import Report
from fcit_plugin.state.progress import Progress, Traffic
from fcit_plugin.state.report import make_report


def matrix_of(*stages, datasets=()):
    """The matrix of some stages' scores, each by dataset."""
    matrix = AccuracyMatrix(datasets)
    for stage, scores in enumerate(stages):
        matrix.add(stage, scores)
    return matrix


def report_with(
    matrix, stages, method="disco", *, reference=None, setting="custom", seed=1, arguments=(), privacy=None, **measured
) -> Report:
    """The report of a run whose progress is `measured` beside the matrix."""
    measured = {"traffic": Traffic(1, 1), "seconds": {"total": 60.0, "evaluate": 30.0}, **measured}
    return make_report(
        Progress(matrix=matrix, **measured),
        method=method,
        reference=reference,
        setting=setting,
        seed=seed,
        stages=stages,
        arguments=dict(arguments),
        privacy=privacy,
    )


def two_stages(**changes) -> Report:
    """A run of two stages in which everything that a report can have was measured; `changes` as in `report_with`."""
    row = {"task": "a", "cosine": 0.5, "subspace": 0, "round": 0, "client": 4, "stage": 0}
    given = {
        "matrix": matrix_of({"fcit_a": 90.0}, {"fcit_a": 70.0, "fcit_b": 80.0}),
        "stages": [("fcit_a",), ("fcit_b", "fcit_a")],
        "seed": 3,
        "arguments": {"learning_rate": 0.1},
        "restricted": [{"fcit_a": None}, {"fcit_a": None, "fcit_b": 85.0}],
        "other": [{"fcit_a": {"substring": 95.0}}, {}],
        "likelihood": [{"fcit_a": 0.5}, {"fcit_a": 0.75, "fcit_b": 0.25}],
        "likelihood_untuned": {"fcit_a": 3.0, "fcit_b": 4.0},
        "zero_shot": {"fcit_b": 20.0, "fcit_a": 10.0},
        "traffic": Traffic(2_500_000, 4_000_000),
        "assignments": [row, row | {"stage": 1, "client": 5, "subspace": 1, "cosine": float("nan"), "task": "b"}],
        "seconds": {"evaluate": 1.0, "total": 3.504},
        "partition": [{"records": [5, 7], "dataset": "fcit_a", "task": "a"}],
    }
    return report_with(**{**given, **changes})


def unmeasured(**changes) -> Report:
    """The same run without any scores or clients."""
    nothing = {"matrix": AccuracyMatrix(), "restricted": [], "other": [], "zero_shot": None, "assignments": [], "partition": []}
    return two_stages(**{**nothing, "likelihood": [], "likelihood_untuned": None, **changes})
