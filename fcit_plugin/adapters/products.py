"""Products B A of LoRA factors: summed, measured and cut to a rank without ever being written out.

A sum of products is again one pair of thin matrices: sum_i w_i B_i A_i = L R with L [out, k] and R [k, in], where k is
the sum of the ranks. All of this is float64 on the CPU.
"""

import math
from collections.abc import Iterable, Mapping

import torch

from .lora import factor_of

#: L [out, k] and R [k, in] of a matrix L R.
Pair = tuple[torch.Tensor, torch.Tensor]


def layer_keys(state: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The keys of B and A of each layer, by the layer's name in PEFT's keys, in the order of the names.

    A state that was read from a file has another order than one from the model, and sums of floats hear of it.
    """
    found: dict[str, dict[str, str]] = {}
    for key in sorted(state):
        found.setdefault(key.partition(".lora_")[0], {})[factor_of(key)] = key
    return {layer: (keys["B"], keys["A"]) for layer, keys in found.items()}


def pair_of(state: Mapping[str, torch.Tensor], keys: tuple[str, str]) -> Pair:
    """B [out, r] and A [r, in] of one layer, by their keys; a convolution's are flattened."""
    left, right = (state[key].double().flatten(1) for key in keys)
    return left, right


def sum_of_pairs(parts: Iterable[tuple[float, Pair]]) -> Pair:
    """sum_i w_i L_i R_i as one pair."""
    parts = list(parts)
    (rows, _), columns = parts[0][1][0].shape, parts[0][1][1].shape[1]
    rank = sum(right.shape[0] for _, (_, right) in parts)
    found = parts[0][1][0].new_empty(rows, rank), parts[0][1][1].new_empty(rank, columns)
    start = 0
    for weight, (left, right) in parts:  # each written once, in its place
        end = start + right.shape[0]
        torch.mul(left, weight, out=found[0][:, start:end])
        found[1][start:end] = right
        start = end
    return found


def truncated(pair: Pair, rank: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The best approximation of L R of a rank, which its first singular values and vectors are (Eckart and Young 1936).

    With L = Q1 R1 and R^T = Q2 R2 it is Q1 (R1 R2^T) Q2^T, and only the small matrix in the middle is decomposed. Of the
    two signs that each pair of singular vectors may have, the largest number of the right one is made positive.

    Args:
        pair: L [out, k] and R [k, in].
        rank: How many singular values to keep; fewer are returned where out, in or k is smaller.

    Returns:
        U [out, rank], S [rank] descending, V^T [rank, in].
    """
    (q_left, r_left), (q_right, r_right) = torch.linalg.qr(pair[0]), torch.linalg.qr(pair[1].T)
    u, s, vt = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    u, s, vt = q_left @ u[:, :rank], s[:rank], vt[:rank] @ q_right.T
    sign = vt.gather(1, vt.abs().argmax(dim=1, keepdim=True)).sign()
    return u * sign.T, s, vt * sign


def relative_error(layers: Iterable[tuple[Pair, Pair]]) -> float | None:
    """||X - Y||_F / ||Y||_F over all layers together.

    By Gram matrices: the squared norm of L R is the sum of all numbers in (L^T L) * (R R^T), entry by entry. Their
    rounding makes of an exact 0 something up to about 1e-7.

    Args:
        layers: X and Y of one layer after the other.

    Returns:
        The error; None where Y is 0 and X is not.
    """
    difference = norm = 0.0
    for found, target in layers:
        left, right = sum_of_pairs([(1.0, target), (-1.0, found)])
        gram, k = (left.T @ left) * (right @ right.T), target[0].shape[1]
        difference += gram.sum().item()
        norm += gram[:k, :k].sum().item()
    if norm <= 0:
        return 0.0 if difference <= 0 else None
    return math.sqrt(max(difference, 0.0) / norm)
