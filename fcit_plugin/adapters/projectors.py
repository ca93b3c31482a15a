"""A projector of its own for each subspace.

All clients train one multimodal projector, so it moves on while a subspace that nobody trains stays as it is, and the two no longer
fit. Here each subspace sees images through the projector P_k that it was trained with last; features of an image v are

    sum_k w_k P_k(v) / sum_k w_k   over the subspaces with w_k > 0,

with the weights of the image's prompt, and those of the shared projector where there are none.
"""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from .lora import State


def module_of(keys: Iterable[str]) -> str:
    """The path of the innermost module that holds all of these parameters."""
    return ".".join(os.path.commonprefix([key.split(".")[:-1] for key in keys]))


def check_one_module(model: nn.Module, keys: Iterable[str]) -> None:
    """Refuse a projector that is not one module of the base model, or is trained in parts.

    Args:
        model: The base model.
        keys: Names of its parameters that are trained.

    Raises:
        ValueError: The sentence names the parameters.
    """
    keys = sorted(keys)
    path = module_of(keys)
    if sorted(name for name, _ in model.named_parameters() if name.startswith(f"{path}.")) != keys or not path:
        raise ValueError(
            f"Subspaces cannot have projectors of their own on this base model, for {', '.join(keys[:3])} (of {len(keys)}) are not "
            "the whole of one module; train it with `fcit_method: disco`, or with `freeze_multi_modal_projector: true`."
        )


def mean_projector(projectors: Sequence[State], weights: Sequence[float], shared: State) -> State:
    """One projector for fixed weights w [K]: the mean of the weights, exact where one subspace has all weight.

    Args:
        projectors: P_0..P_{K-1}.
        weights: w [K]; negative ones count as 0.
        shared: What is given if none is above 0.
    """
    shares = torch.tensor(list(weights), dtype=torch.float64).clamp(min=0)
    if not shares.any():
        return shared
    shares /= shares.sum()
    return {
        key: sum(share * part[key].double() for share, part in zip(shares, projectors, strict=True) if share).to(value.dtype)
        for key, value in shared.items()
    }


class OwnProjectors:
    """Has a model's projector give the features of each image by its prompt's weights, until it is removed.

    Args:
        model: The base model, whose own projector is the shared one.
        projectors: P_0..P_{K-1}, by the names of the base model's parameters.
        weights_of: Asked in a forward pass for the weights [tokens, K] of so many image tokens.

    Raises:
        ValueError: The projectors are not those of this model.
    """

    def __init__(
        self, model: nn.Module, projectors: Sequence[State], weights_of: Callable[[int], torch.Tensor]
    ) -> None:
        check_one_module(model, projectors[0])
        path, parameters = module_of(projectors[0]), dict(model.named_parameters())
        self._module = model.get_submodule(path)
        self._inner = _Forward(self._module)
        self._own = [
            {
                f"module.{key.removeprefix(f'{path}.')}": value.to(parameters[key].device, parameters[key].dtype)
                for key, value in state.items()
            }
            for state in projectors
        ]
        self._weights_of = weights_of
        self._lock = threading.Lock()  # functional_call puts weights in for a while, and threads share the module
        self._module.forward = self._mixed

    def remove(self) -> None:
        """The projector gives its own features again."""
        self._module.forward = self._inner.forward

    def _mixed(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with self._lock:
            output = self._inner(*args, **kwargs)
            flat = output.reshape(-1, output.shape[-1])
            weights = self._weights_of(len(flat)).to(flat.device, flat.dtype).clamp(min=0)
            total = weights.sum(dim=1, keepdim=True)
            shares = weights / total.where(total > 0, 1)
            mixed = flat * (total == 0)
            for k in shares.any(dim=0).nonzero().flatten().tolist():
                features = functional_call(self._inner, self._own[k], args, kwargs)
                mixed = mixed + shares[:, k : k + 1] * features.reshape(flat.shape)
            return mixed.view_as(output)


class _Forward(nn.Module):
    """A module's forward pass as it was, without its hooks."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.forward = module.forward
