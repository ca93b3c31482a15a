"""Weights that stay the same for every instruction: what a merged model or one adapter for all can hold."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import FcitError
from ..files import parse_json


def fixed_weights(
    given: str | list | None,
    tasks: Sequence[Mapping[str, int]],
    counts: np.ndarray,
    datasets: Mapping[str, Sequence[str]],
) -> list[float]:
    """The weights w [K] that ``fcit_export_weights`` names.

    Args:
        given: ``mean`` (or None), the id of a subspace, the name of a task or dataset, or a list of K weights;
            numbers and lists also as text.
        tasks: For each subspace the tasks that it took in, with the number of clients.
        counts: int64 [K], N_k; a subspace with count 0 holds nothing and has no part in the mean.
        datasets: The datasets of each task, by the task's name.

    Raises:
        FcitError: It is none of these, or names a dataset that several subspaces took in.
    """
    count = len(tasks)
    if given is None or given == "mean":
        used = counts > 0
        return (used / used.sum()).tolist()
    value = _parsed(given)
    if isinstance(value, int) and 0 <= value < count:
        return _one(value, count)
    if isinstance(value, list) and len(value) == count and all(map(_is_weight, value)):
        return [float(weight) for weight in value]
    holders = {k: _clients(given, row, datasets) for k, row in enumerate(tasks)}
    holders = {k: clients for k, clients in holders.items() if clients}
    if len(holders) == 1:
        return _one(next(iter(holders)), count)
    if holders:
        found = ", ".join(f"{k} ({clients} clients)" for k, clients in holders.items())
        raise FcitError(
            f"`fcit_export_weights: {given}` is not one subspace, for several took in that dataset: {found}; "
            "give one of these numbers, a list of weights, or auto."
        )
    names = sorted({name for row in tasks for task in row for name in (task, *datasets.get(task, ()))})
    raise FcitError(
        f"`fcit_export_weights` is {given!r}; give mean, auto, a subspace from 0 to {count - 1}, "
        f"a list of {count} weights, or a dataset that the run learned ({', '.join(names) or 'it names none'})."
    )


def _parsed(given: str | list):
    try:
        value = given if isinstance(given, list) else parse_json(given)
    except ValueError:
        return None
    return None if isinstance(value, bool) else value


def _is_weight(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _one(k: int, count: int) -> list[float]:
    return [float(k == other) for other in range(count)]


def _clients(name: str | list, tasks: Mapping[str, int], datasets: Mapping[str, Sequence[str]]) -> int:
    """How often a client with the task or dataset of this name trained the subspace."""
    return sum(clients for task, clients in tasks.items() if name == task or name in datasets.get(task, ()))
