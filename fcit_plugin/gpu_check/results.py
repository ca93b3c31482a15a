"""What runs have left, read and compared."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from .check import hold


def report_of(run: Path) -> dict[str, Any]:
    """The report of a run."""
    found: dict[str, Any] = json.loads((run / "fcit_report.json").read_text(encoding="utf-8"))
    return found


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """All trained weights that a run has left, by file and name."""
    paths = [*sorted(run.glob("subspaces/*/adapter_model.safetensors")), *run.glob("shared.safetensors")]
    return {f"{path.relative_to(run)}/{key}": value for path in paths for key, value in load_file(path).items()}


def check_sound(run: Path) -> str:
    """Assert that a run has learned something and lost nobody.

    Returns:
        What it has, in words.
    """
    report = report_of(run)
    hold(not report["dropped"], f"replies were dropped: {report['dropped'][:1]}")
    scores = [score for row in report["accuracy"] or () for score in row if score is not None]
    evaluated = report["arguments"].get("fcit_eval_every") != "never"
    hold(bool(scores) == evaluated and all(map(math.isfinite, scores)), f"scores are {scores}")
    weights = weights_of(run)
    still = [key for key, value in weights.items() if ".lora_B." in key and not value.any()]
    hold(not still, f"{len(still)} factors B did not move, such as {still[:1]}")
    odd = [f"{key} ({value.dtype})" for key, value in weights.items() if value.dtype != torch.float32]
    hold(not odd, f"{len(odd)} weights are not float32, such as {odd[:1]}")
    broken = [key for key, value in weights.items() if not value.isfinite().all()]
    hold(not broken, f"{len(broken)} weights are not finite, such as {broken[:1]}")
    return f"{len({key.split('/')[1] for key in weights if key.startswith('subspaces/')})} subspaces"


def check_alike(run: Path, other: Path, tolerance: float, scores: bool = False) -> str:
    """Assert that two runs asked the same clients for the same and trained the same weights.

    Args:
        run: One.
        other: The other.
        tolerance: How far the weights may be apart, in their Euclidean norms and by that of all factors B, which begin at 0;
            0: not a bit. The largest difference of a single number would say little: Adam takes whole steps by the sign of
            gradients that are nearly 0.
        scores: Whether the scores are to be the same, too.

    Returns:
        How far they are apart, in words.
    """
    one, two = report_of(run), report_of(other)
    for key in ("assignments", *(("accuracy",) if scores else ())):
        hold(_rounded(one[key]) == _rounded(two[key]), f"{key} differ: {run.name} and {other.name}")
    found, expected = weights_of(run), weights_of(other)
    hold(found.keys() == expected.keys() and bool(found), "the weights have other names")
    size = _norm(value for key, value in expected.items() if ".lora_B." in key)
    apart = _norm(found[key] - value for key, value in expected.items()) / size
    hold(apart <= tolerance, f"weights of {run.name} and {other.name} are {apart:.1e} apart, more than {tolerance:.0e}")
    return f"weights {apart:.1e} apart"


def _norm(parts: Iterable[torch.Tensor]) -> float:
    return math.sqrt(sum(part.double().square().sum().item() for part in parts))


def _rounded(value: Any) -> Any:
    """Nested values with their numbers to four digits: cosines have other last digits on other devices."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else value
