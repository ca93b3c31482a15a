"""On trial: a subspace's own projector in training, moments of Adam that outlive a client, and a pull along the last step."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from typing_extensions import override

from ...adapters.lora import Tensors, weighted_mean
from ..method import Extras, flat, record
from ..terms import GradientTerm, Weights
from .method import Disco, DiscoPlus

if TYPE_CHECKING:
    from ...state.server_state import ServerState

MOMENTS, STEP = "moments", "server_step"


class DiscoOwnProjector(DiscoPlus):
    """`disco_plus` whose subspaces' clients also begin with their subspace's projector, which is averaged over them alone.

    A subspace that opens begins with the mean of all projectors.
    """

    trains_projectors = True


class CarriedMoments(GradientTerm):
    """Begins Adam's second moments where earlier clients' have ended, and tells where they are at the end; m begins at 0.

    In the steps of torch's AdamW v is divided by 1 - beta_2^t, as if it had begun at 0; the rate is multiplied by the root
    of that in its place, so that a step is m_hat / sqrt(v).
    """

    def __init__(self, start: Tensors | None) -> None:
        self._start = start
        self._optimizer: torch.optim.Optimizer | None = None
        self._weights: Weights = {}

    def begin(self, optimizer: torch.optim.Optimizer, steps: int) -> None:
        self._optimizer = getattr(optimizer, "optimizer", optimizer)

    @override
    def add(self, weights: Weights) -> None:
        optimizer = self._optimizer
        assert isinstance(optimizer, torch.optim.AdamW), type(optimizer)
        if self._weights or self._start is None:
            self._weights = weights
            return
        self._weights = weights
        for key, weight in weights.items():
            optimizer.state[weight] = {
                "step": torch.tensor(0.0, dtype=torch.float32),
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": self._start[key].to(weight).clone(),
            }
        own: list[float] = []

        def before(optimizer, args, kwargs):
            done = optimizer.state[next(iter(weights.values()))]["step"].item() + 1
            own[:] = [group["lr"] for group in optimizer.param_groups]
            for group in optimizer.param_groups:
                group["lr"] /= (1 - group["betas"][1] ** done) ** 0.5

        def after(optimizer, args, kwargs):
            for group, rate in zip(optimizer.param_groups, own, strict=True):
                group["lr"] = rate

        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)

    @override
    def measured(self) -> Mapping[str, Tensors]:
        assert self._optimizer is not None
        beta = self._optimizer.param_groups[0]["betas"][1]
        found = {}
        for key, weight in self._weights.items():
            state = self._optimizer.state[weight]
            whole = 1.0 if self._start is not None else 1 - beta ** state["step"].item()
            found[key] = (state["exp_avg_sq"] / whole).detach().float().cpu()
        return {MOMENTS: found}


class DiscoMoments(Disco):
    """`disco` in which the second moments of a subspace go on from round to round, number by number."""

    def told(self, moments: Tensors) -> Tensors:
        return moments

    @override
    def wants(self, stage: int, round: int) -> tuple[str, ...]:
        return (MOMENTS,)

    def sends_to(self, state: "ServerState", k: int) -> Extras:
        if state.round == 0:
            return {}
        found = record(f"{k}", state.method_state)
        return {MOMENTS: self.told(found)} if found else {}

    @override
    def remember(
        self, before: "ServerState", after: "ServerState", measured: Sequence[Extras], examples: Sequence[int]
    ) -> Tensors:
        raise NotImplementedError

    def remember_of(self, before, after, measured, examples, subspaces) -> Tensors:
        memory = dict(before.method_state)
        for k in sorted(set(subspaces)):
            own = [number for number, subspace in enumerate(subspaces) if subspace == k]
            memory |= flat(f"{k}", weighted_mean([measured[n][MOMENTS] for n in own], [examples[n] for n in own]))
        return memory

    @override
    def terms(self, sent: Extras) -> list[GradientTerm]:
        return [CarriedMoments(sent.get(MOMENTS))]


class DiscoBlockMoments(DiscoMoments):
    """The same with one number for each tensor, the mean."""

    @override
    def told(self, moments: Tensors) -> Tensors:
        return {key: torch.full_like(value, value.mean().item()) for key, value in moments.items()}


class PullAlong(GradientTerm):
    """Moves the weights in each step by a part of the server's last step."""

    def __init__(self, step: Tensors, strength: float) -> None:
        self._step, self._strength, self._begun = step, strength, False
        self._optimizer: Any = None
        self._steps = 0

    def begin(self, optimizer: torch.optim.Optimizer, steps: int) -> None:
        self._optimizer, self._steps = getattr(optimizer, "optimizer", optimizer), steps

    @override
    def add(self, weights: Weights) -> None:
        if self._begun:
            return
        self._begun = True
        moves: list[tuple[nn.Parameter, torch.Tensor]] = [
            (weights[key], step.to(weights[key]) * (self._strength / self._steps)) for key, step in self._step.items()
        ]

        def after(optimizer, args, kwargs):
            with torch.no_grad():
                for weight, move in moves:
                    weight.add_(move)

        self._optimizer.register_step_post_hook(after)


class DiscoPull(Disco):
    """`disco` whose clients are pulled along the last step of their subspace's server, by half of it over their training."""

    def sends_to(self, state: "ServerState", k: int) -> Extras:
        found = record(f"{k}", state.method_state)
        return {STEP: found} if found and state.round > 0 else {}

    def remember_of(self, before, after, measured, examples, subspaces) -> Tensors:
        memory = dict(before.method_state)
        for k in sorted(set(subspaces)):
            memory |= flat(f"{k}", {key: value - before.subspaces[k][key] for key, value in after.subspaces[k].items()})
        return memory

    @override
    def terms(self, sent: Extras) -> list[GradientTerm]:
        return [PullAlong(sent[STEP], 0.5)] if STEP in sent else []
