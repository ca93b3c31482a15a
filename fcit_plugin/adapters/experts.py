"""A LoRA whose rank is divided into experts, which a router weighs for each token.

    y = W x + s sum_e g_e(x) B_e A_e x,  g = softmax(R x)

A [r, in] holds the A_e [r / E, in] one below the other, B the B_e side by side, and R [E, in] is a further matrix of the
factor A. So an expert's weight scales its rows of the middle, and PEFT's LoRA layer remains as it is.
"""

import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from typing_extensions import override

from ..errors import FcitError
from .lora import Tensors

_ROUTER = ".router.weight"


class Experts(nn.Linear):
    """The factor A with a router: gives g(x), each number for its expert's rows, times A x.

    Args:
        factor: A [r, in]; its weight is used.
        num_experts: E, which divides r.
    """

    def __init__(self, factor: nn.Linear, num_experts: int) -> None:
        placed = {"device": factor.weight.device, "dtype": factor.weight.dtype}
        super().__init__(factor.in_features, factor.out_features, bias=False, device="meta")
        self.weight = factor.weight
        self.router = nn.Linear(factor.in_features, num_experts, bias=False, **placed)
        self.router.requires_grad_(factor.weight.requires_grad)

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gates = torch.softmax(self.router(x), dim=-1)
        return super().forward(x) * gates.repeat_interleave(self.out_features // self.router.out_features, dim=-1)


def divide(model: nn.Module, adapter: str, num_experts: int) -> None:
    """Give an adapter's factors A routers, in place.

    Args:
        model: A PEFT model.
        adapter: Name of the adapter, a LoRA on linear layers.
        num_experts: E.

    Raises:
        FcitError: The rank cannot be divided into as many experts.
    """
    for module in model.modules():
        if isinstance(module, LoraLayer) and adapter in module.lora_A:
            if module.r[adapter] % num_experts:
                raise FcitError(
                    f"`lora_rank: {module.r[adapter]}` cannot be divided into {num_experts} experts (`fcit_num_experts`)."
                )
            factor = module.lora_A[adapter]
            assert isinstance(factor, nn.Linear)
            module.lora_A[adapter] = Experts(factor, num_experts)


def is_router(key: str) -> bool:
    """Whether a tensor of a subspace is a router, which has a row for each expert and none for each of the rank."""
    return key.endswith(_ROUTER)


def num_experts(subspace: Tensors) -> int | None:
    """E of a subspace; None if it is a plain LoRA."""
    return next((len(value) for key, value in subspace.items() if is_router(key)), None)
