"""LoRA aggregation: what becomes of the factors A_c and B_c that the clients c of one subspace return.

What the clients learned is the product B_c A_c, and p_c is each one's share of their examples. The mean of the products

    sum_c p_c B_c A_c

is not the product of the mean factors; the ways below differ in what they do about that.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from .lora import BOTH, Tensors
from .products import Pair, layer_keys, pair_of, relative_error, sum_of_pairs, truncated


@dataclass(frozen=True)
class Member:
    """One client of a subspace.

    Attributes:
        share: p_c; those of all members add up to 1.
        factors: A_c and B_c of every layer, also the ones that it did not train. They may be read from a file when they are
            asked for, so one layer after the other is.
    """

    share: float
    factors: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class AggregationResult:
    """What became of the clients' factors.

    Attributes:
        subspace: The next factors.
        base: What is added to the base weights beside, as L [out, k] and R [k, in] by layer, without LoRA's scale.
    """

    subspace: Tensors
    base: Mapping[str, Pair] = field(default_factory=dict)


class LoraAggregation:
    """Averages A and B apart, by the subspace's server rule: B = sum p_c B_c, A = sum p_c A_c.

    FedIT (Zhang et al., arXiv 2305.05644) and the paper of DISCO (arXiv 2503.12897) do so. Others override what differs.

    Attributes:
        averages_products: Whether it takes means of products itself, in place of the server rule; then the rule must
            be one whose result is the clients' mean.
        keeps_basis: Whether a number in A or B means the same in the next round, so that a rule or a method may remember
            something of it.
        changes_base: Whether it adds to the base weights.
    """

    averages_products = False
    keeps_basis = True
    changes_base = False

    def trains(self, rounds: int) -> str:
        """The factors that clients train, and return: "AB", "A" or "B".

        Args:
            rounds: Rounds that the subspace has been trained in; 0 where B is still 0.
        """
        return BOTH

    def combine(self, start: Tensors, averaged: Tensors, members: Sequence[Member], fresh: Tensors) -> AggregationResult:
        """The next factors of a subspace.

        Args:
            start: The factors that the clients began from.
            averaged: What the server rule made of theirs.
            members: The clients, at least one, in the order of their numbers.
            fresh: Freshly drawn factors with B = 0.
        """
        return AggregationResult(averaged)


class Ffa(LoraAggregation):
    """FFA-LoRA: A stays as it was drawn and is the same for all, so the mean of B_c A is the product of the means.

    Sun et al., "Improving LoRA in Privacy-preserving Federated Learning", ICLR 2024, arXiv 2403.12313.
    """

    def trains(self, rounds: int) -> str:
        """Only ever B."""
        return "B"


class Rotate(LoraAggregation):
    """RoLoRA: one round trains B, the next one A, with the other factor frozen and the same for all: exact as FFA-LoRA.

    Chen et al., "Robust Federated Finetuning of LLMs via Alternating Optimization of LoRA", NeurIPS 2025,
    arXiv 2502.01755 (first 2409.02346). Rounds are counted for each subspace: it begins with B, for as long as B is 0 A
    has no gradient, and a subspace that rests does not miss its turn.
    """

    def trains(self, rounds: int) -> str:
        """B and A in turn."""
        return "BA"[rounds % 2]


class Refactor(LoraAggregation):
    """Averages A and B apart, by the subspace's server rule, and gives the product of the means new factors.

    With U S V^T the decomposition of the product B A,

        A = a V^T,  B = U S / a,  a^2 = ||A||_F^2 / r.

    The product stays what it is. A's rows are orthogonal and of one length again, nearly as LoRA draws them, and the next
    round's optimizer meets what was learned in B. The server needs no client's own factors for it. FedSVD (Lee et al.,
    NeurIPS 2025, arXiv 2505.12805) has such new factors in each round, with rows of length 1; there clients train B alone.
    """

    keeps_basis = False

    def combine(self, start: Tensors, averaged: Tensors, members: Sequence[Member], fresh: Tensors) -> AggregationResult:
        """See :meth:`LoraAggregation.combine`."""
        return AggregationResult(_best_factors(start, [Member(1.0, averaged)]))


class Svd(LoraAggregation):
    """The mean of the products, cut to rank r: the best that factors of this size can hold.

    FlexLoRA (Bai et al., NeurIPS 2024, arXiv 2402.11505), here with all ranks alike. With U S V^T the decomposition
    that is left of the mean,

        A = a V^T,  B = U S / a,  a^2 = sum_c p_c ||A_c||_F^2 / r.

    Any a gives the same product. This one lets the rows of A be as long as those of the clients: what the optimizer meets
    in the next round is A of the size that LoRA starts with and B that holds what was learned. To share S out equally
    would shrink A to the root of the first small singular values, and would leave a direction whose singular value is
    0 without any gradient, for good.
    """

    averages_products = True
    keeps_basis = False

    def combine(self, start: Tensors, averaged: Tensors, members: Sequence[Member], fresh: Tensors) -> AggregationResult:
        """See :meth:`LoraAggregation.combine`."""
        return AggregationResult(_best_factors(start, members))


class Exact(LoraAggregation):
    """FedEx-LoRA: the factors are averaged, and what their product lacks is added to the frozen base weight.

    Singhal et al., "FedEx-LoRA: Exact Aggregation for Federated and Efficient Fine-Tuning of Large Language Models",
    ACL 2025, arXiv 2410.09432. With the mean factors B and A the base weight becomes

        W + s (sum_c p_c B_c A_c - B A) = W + s sum_c p_c (B_c - B) (A_c - A_n).

    The right side holds for any A_n, for the B_c - B add up to 0; with that of the last client its term vanishes, and the
    residual of n clients is one pair of rank (n - 1) r.
    """

    averages_products = True
    changes_base = True

    def combine(self, start: Tensors, averaged: Tensors, members: Sequence[Member], fresh: Tensors) -> AggregationResult:
        """See :meth:`LoraAggregation.combine`."""
        subspace: Tensors = {}
        residual: dict[str, Pair] = {}
        for layer, keys in layer_keys(start).items():
            *others, (_, last) = products = products_of(members, keys)
            b, a = (_sum(share * found[side] for share, found in products) for side in range(2))
            subspace |= {key: _as(start[key], mean) for key, mean in zip(keys, (b, a), strict=True)}
            if others:
                residual[layer] = sum_of_pairs((share, (left - b, right - last[1])) for share, (left, right) in others)
        return AggregationResult(subspace, residual)


class Stack(LoraAggregation):
    """FLoRA: the clients' products go into the base weight, and the LoRA begins again.

    Wang et al., "FLoRA: Federated Fine-Tuning Large Language Models with Heterogeneous Low-Rank Adaptations", NeurIPS
    2024, arXiv 2409.05976: the factors stacked, with the shares on one side of them, are the mean of the products,

        W + s [p_1 B_1 ... p_n B_n] [A_1; ...; A_n] = W + s sum_c p_c B_c A_c.
    """

    averages_products = True
    keeps_basis = False
    changes_base = True

    def combine(self, start: Tensors, averaged: Tensors, members: Sequence[Member], fresh: Tensors) -> AggregationResult:
        """See :meth:`LoraAggregation.combine`."""
        return AggregationResult(
            fresh, {layer: sum_of_pairs(products_of(members, keys)) for layer, keys in layer_keys(start).items()}
        )


def _best_factors(like: Tensors, members: Sequence[Member]) -> Tensors:
    """A = a V^T and B = U S / a of the mean product U S V^T, cut to the rank of each layer; see :class:`Svd` for a."""
    found = {}
    for b, a in layer_keys(like).values():
        rank, products = like[a].shape[0], products_of(members, (b, a))
        length = _sum(share * right.square().sum() for share, (_, right) in products).div(rank).sqrt()
        u, s, vt = truncated(sum_of_pairs(products), rank)
        length = length if length > 0 else torch.ones_like(length)  # A that is 0 has no size to keep
        found[a] = _as(like[a], length * vt)
        found[b] = _as(like[b], u * s / length)
    return found


def _sum(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    return sum(parts, torch.zeros(()))


def _as(like: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Values in the shape and dtype of a factor; where there are fewer than its rank, the rest is 0."""
    whole = values.new_zeros(like.flatten(1).shape)
    whole[: values.shape[0], : values.shape[1]] = values
    return whole.reshape(like.shape).to(like.dtype).contiguous()


def products_of(members: Sequence[Member], keys: tuple[str, str]) -> list[tuple[float, Pair]]:
    """p_c with B_c and A_c of one layer, by the keys of B and A."""
    return [(member.share, pair_of(member.factors, keys)) for member in members]


def product_error(combined: AggregationResult, members: Sequence[Member]) -> float | None:
    """How far a subspace is from what its clients learned: ||B A - sum_c p_c B_c A_c||_F / ||sum_c p_c B_c A_c||_F.

    Over all layers, with what the base weights got counted to B A; see :func:`..adapters.products.relative_error`. With a
    server rule that is not a mean it also holds what that rule does.
    """

    def layers() -> Iterator[tuple[Pair, Pair]]:
        for layer, keys in layer_keys(combined.subspace).items():
            parts = [pair_of(combined.subspace, keys), *([combined.base[layer]] if layer in combined.base else [])]
            yield sum_of_pairs((1.0, part) for part in parts), sum_of_pairs(products_of(members, keys))

    return relative_error(layers())
