"""LoRA on fused experts: in transformers 5 the experts of a layer are two parameters, [E, d1, d2] each, and no modules.

PEFT takes them by ``target_parameters``. Its factors of such a parameter are A [E r, d1] and B [d2, r E], whose rank runs
over experts first in the one and last in the other, and in training it writes out the sum

    W_e + s sum_r A_er B_re^T        for every expert e.

That is one weight for a whole batch. To answer a batch in which each sample weighs the subspaces in its own way,
:class:`WeighedExperts` takes the sum apart, for each expert and the tokens that it gets.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from peft.tuners.lora.layer import ParamWrapper
from torch import nn

from ..errors import FcitError, nearest

#: What transformers writes on a class whose forward pass an implementation of its choice may take the place of.
_MARKS = ("has_gate", "has_bias", "is_transposed", "act_fn")

#: Weighs the middle of a LoRA, [1 or tokens, K r], for so many tokens of a batch.
Gate = Callable[[torch.Tensor], torch.Tensor]


def fused_parameters(model: nn.Module) -> dict[str, bool]:
    """All parameters of a base model that hold a layer of each of several experts: name -> whether a subspace can act on it."""
    return {
        f"{name}.{key}": all(hasattr(module, mark) for mark in _MARKS)
        for name, module in model.named_modules()
        for key, parameter in module.named_parameters(recurse=False)
        if parameter.dim() == 3 and "expert" in f"{name} {type(module).__name__}".lower()
    }


def short_names(names: Iterable[str]) -> list[str]:
    """Names of parameters with that of their module alone, each once."""
    return sorted({".".join(name.split(".")[-2:]) for name in names})


def check_fused(model: nn.Module, targets: Sequence[str]) -> None:
    """Refuse names of parameters that a subspace cannot act on.

    Args:
        model: The base model.
        targets: Ends of names of parameters (``fcit_target_parameters``).

    Raises:
        FcitError: The sentence names the first one.
    """
    known = fused_parameters(model) if targets else {}
    for target in targets:
        found = [name for name in known if name.endswith(f".{target}")]
        if not found:
            hint = nearest(target, short_names(known)) if known else "it has none; take the key out."
            raise FcitError(f"`fcit_target_parameters`: no fused experts of the base model are named {target!r}; {hint}")
        for name in found:
            if not known[name]:
                kind = type(model.get_submodule(name.rpartition(".")[0])).__name__
                raise FcitError(
                    f"`fcit_target_parameters`: {name} belongs to a {kind}, which is computed in a way of its own, and a "
                    "subspace cannot act on it; take the key out."
                )


def wrappers(model: nn.Module) -> Iterator[ParamWrapper]:
    """PEFT's layers on fused experts, an outer one for the one parameter and an inner one for the other."""
    return (module for module in model.modules() if isinstance(module, ParamWrapper))


def add_stacked(model: nn.Module, adapter: str, rank: int, alpha: float) -> None:
    """Give fused experts one more adapter; PEFT itself gives a model only one of these.

    Args:
        model: A PEFT model that has the adapter on its other layers, or at least its configuration.
        adapter: Name of the adapter.
        rank: Its rank.
        alpha: ``lora_alpha``.
    """
    for layer in wrappers(model):
        layer.update_layer(adapter, rank, alpha, lora_dropout=0.0, init_lora_weights=False, use_rslora=False)


def stacked_factor(factors: Sequence[torch.Tensor], is_a: bool, rank: int) -> torch.Tensor:
    """Factors of several subspaces for one layer as one factor of rank K r.

    Args:
        factors: A [E r, in] of each subspace, or B [out, r E]; a layer without experts has E = 1.
        is_a: Whether they are A.
        rank: r.
    """
    if is_a:
        return torch.cat([factor.reshape(-1, rank, factor.shape[1]) for factor in factors], dim=1).flatten(0, 1)
    return torch.cat([factor.reshape(factor.shape[0], rank, -1) for factor in factors], dim=1).flatten(1, 2)


class WeighedExperts:
    """The forward pass of fused experts through an adapter whose rank each token weighs.

    Args:
        layer: PEFT's outer layer on the experts.
        adapter: Name of the adapter.
        gate: Asked for the weights of the tokens.
    """

    def __init__(self, layer: ParamWrapper, adapter: str, gate: Gate) -> None:
        self.layer = layer
        self.adapter = adapter
        self.gate = gate
        self.experts: Any = layer.get_base_layer()
        self.on: dict[str, ParamWrapper] = {}
        inner: Any = layer
        while isinstance(inner, ParamWrapper):
            self.on[inner.parameter_name] = inner
            inner = inner.base_layer
        self._own, self._set_before = layer.forward, "forward" in vars(layer)
        setattr(layer, "forward", self)  # noqa: B010  # the hook; a method would be bound to the layer

    def remove(self) -> None:
        """The layer is computed by PEFT again."""
        delattr(self.layer, "forward")
        if self._set_before:  # by accelerate, for a model of several devices
            setattr(self.layer, "forward", self._own)  # noqa: B010

    def __call__(self, hidden: torch.Tensor, chosen: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """What the experts make of tokens.

        Args:
            hidden: [tokens, hidden].
            chosen: Experts of each token, [tokens, k].
            shares: How much each of them counts, [tokens, k].
        """
        if self.adapter not in self.layer.active_adapters or self.layer.disable_adapters:
            output: torch.Tensor = self._own(hidden, chosen, shares)
            return output
        experts, gate = self.experts, self.gate(hidden)
        first = "gate_up_proj" if experts.has_gate else "up_proj"
        sums = torch.zeros_like(hidden)
        for expert in sorted({*chosen.flatten().tolist()}):
            if expert >= experts.num_experts:  # of another device, where they are shared out
                continue
            token, place = torch.where(chosen == expert)
            weighed = gate if len(gate) == 1 else gate[token]
            middle = self._linear(hidden[token], first, expert, weighed)
            middle = experts._apply_gate(middle) if experts.has_gate else experts.act_fn(middle)
            given = self._linear(middle, "down_proj", expert, weighed) * shares[token, place, None]
            sums.index_add_(0, token, given.to(sums.dtype))
        return sums

    def _linear(self, x: torch.Tensor, name: str, expert: int, gate: torch.Tensor) -> torch.Tensor:
        """One expert's layer, with its LoRA if it has one, of tokens [n, in]."""
        weight: torch.Tensor = getattr(self.experts, name)[expert]
        y = x @ (weight if self.experts.is_transposed else weight.T)
        if self.experts.has_bias:
            y = y + getattr(self.experts, f"{name}_bias")[expert]
        if name not in self.on:
            return y
        layer = self.on[name]
        whole_a, whole_b = (factors[self.adapter].get_parameter("weight") for factors in (layer.lora_A, layer.lora_B))
        a = whole_a.reshape(layer.num_experts, -1, whole_a.shape[1])[expert]
        b = whole_b.reshape(whole_b.shape[0], -1, layer.num_experts)[..., expert]
        inner, outer = (a.T, b.T) if self.experts.is_transposed else (b, a)  # A stands at the parameter's first axis
        more: torch.Tensor = (x.to(a.dtype) @ inner * gate) @ outer * layer.scaling[self.adapter]
        return y + more


def weigh(model: nn.Module, adapter: str, gate: Gate) -> list[WeighedExperts]:
    """Have all fused experts of a PEFT model answer through an adapter whose rank each token weighs."""
    inner = {id(layer.base_layer) for layer in wrappers(model)}
    return [WeighedExperts(layer, adapter, gate) for layer in [*wrappers(model)] if id(layer) not in inner]
