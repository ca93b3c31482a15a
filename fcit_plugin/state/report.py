"""The report of a run, from its progress."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, cast

from ..evaluation.matrix import Row
from ..evaluation.report import Report
from ..evaluation.rows import Absence, Assignment, Engine, Privacy, ProductError, Share, SiteScore
from ..knowledge.activation import cosine_matrix
from ..knowledge.identity_tokens import SubspaceTokens
from .progress import Progress

#: More would make the report large, and nobody would read them.
_MOST_SUBSPACES = 100


def make_report(
    progress: Progress,
    *,
    method: str,
    reference: str | None = None,
    setting: str,
    seed: int,
    stages: Sequence[Sequence[str]],
    arguments: Mapping[str, Any],
    privacy: Mapping[str, Any] | None = None,
    engine: Engine | None = None,
    tokens: SubspaceTokens | None = None,
) -> Report:
    """Collect everything about a run that is worth keeping, as plain JSON values in a fixed order.

    Args:
        progress: what the run has measured. A cosine or an error that is NaN becomes None. The last of its recipes is the
            run's own, the others are those that it goes on from.
        method: see :class:`Report`, as all others.
        reference: none for a method.
        setting: its name.
        seed: of the run.
        stages: the datasets of each stage; those of stages that were not reached are empty columns.
        arguments: what decides the run's numbers.
        privacy: None without noise.
        engine: None where it is not known.
        tokens: of the subspaces at the end of the run; None where they are not known.
    """
    matrix, zero_shot = progress.matrix, progress.zero_shot or {}
    datasets = list(dict.fromkeys([*matrix.datasets, *(name for stage in stages for name in stage)]))
    # a run that goes on from another one may not be evaluated itself
    evaluated = matrix.rows != [] and len(matrix.rows) == len(stages)
    # what lies between stages, and over them, is known of no run that was evaluated after its last one alone
    over_stages = evaluated and (len(stages) == 1 or sum(any(a is not None for a in row) for row in matrix.rows) > 1)
    likelihood = [[_finite(row.get(name)) for name in datasets] for row in progress.likelihood]
    unlearned = progress.likelihood_untuned or {}
    untuned = fmean(zero_shot.values()) if reference == "zero_shot" else None
    total, evaluate = progress.seconds["total"], progress.seconds["evaluate"]
    return Report(
        method=method,
        reference=reference,
        setting=setting,
        seed=seed,
        arguments=dict(arguments),
        earlier=[{key: recipe[key] for key in ("stage", "arguments")} for recipe in progress.recipes[:-1]],
        stages=[list(stage) for stage in stages],
        datasets=datasets,
        accuracy=[row + [None] * (len(datasets) - len(row)) for row in matrix.rows],
        accuracy_restricted=[[_finite(row.get(name)) for name in datasets] for row in progress.restricted],
        likelihood=likelihood if any(progress.likelihood) else None,
        likelihood_untuned={name: unlearned[name] for name in datasets if name in unlearned} or None,
        scores_other=[{name: dict(scores) for name, scores in row.items()} for row in progress.other],
        zero_shot={name: zero_shot[name] for name in datasets if name in zero_shot},
        last=matrix.last if evaluated else untuned,
        avg=matrix.avg if over_stages else None,
        forgetting=matrix.forgetting if over_stages else None,
        bwt=matrix.bwt if over_stages else None,
        fwt=matrix.fwt(zero_shot) if over_stages and zero_shot else None,
        bytes_up=progress.traffic.up,
        bytes_down=progress.traffic.down,
        assignments=[
            Assignment(
                stage=row["stage"],
                round=row["round"],
                client=row["client"],
                subspace=row["subspace"],
                cosine=_finite(row["cosine"]),
                task=row["task"],
            )
            for row in progress.assignments
        ],
        dropped=_absences(progress.dropped),
        idle=_absences(progress.idle) or None,
        product_errors=[
            ProductError(stage=row["stage"], round=row["round"], subspace=row["subspace"], error=_finite(row["error"]))
            for row in progress.product_errors
        ],
        privacy=None if privacy is None else cast(Privacy, dict(privacy)),
        partition=[Share(task=row["task"], dataset=row["dataset"], records=list(row["records"])) for row in progress.partition],
        seconds={"total": round(total, 2), "train": round(total - evaluate, 2), "evaluate": round(evaluate, 2)},
        left_out=dict(progress.left_out) or None,
        engine=engine,
        encoder_choice=progress.encoder_choice,
        sites=list(progress.sites) or None,
        client_names=None if progress.sites else progress.names or None,
        site_scores=[cast(SiteScore, dict(row)) for row in progress.site_scores] or None,
        subspace_cosines=None if tokens is None else _cosines(tokens),
    )


def _cosines(tokens: SubspaceTokens) -> list[Row] | None:
    """How near the subspaces are to each other, to four digits; a token of zeros has no direction."""
    if not 1 < tokens.num_subspaces <= _MOST_SUBSPACES:
        return None
    rows = tokens.tokens
    cosines, known = cosine_matrix(rows, rows).round(4).tolist(), [bool(row.any()) for row in rows]
    return [
        [cosine + 0.0 if here and there else None for cosine, there in zip(row, known, strict=True)]
        for row, here in zip(cosines, known, strict=True)
    ]


def _finite(value: float | None) -> float | None:
    """None for a number that JSON does not know."""
    return None if value is None or not math.isfinite(value) else value


def _absences(rows: Sequence[Mapping[str, Any]]) -> list[Absence]:
    return [Absence(stage=row["stage"], round=row["round"], client=row["client"], reason=row["reason"]) for row in rows]
