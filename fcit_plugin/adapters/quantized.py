"""Weights that are quantized: what they hold is packed, and no numbers that could be trained, changed or replaced."""

import torch
from torch import nn


def is_packed(weight: torch.Tensor) -> bool:
    """Whether a weight holds packed numbers; bitsandbytes' four bits lie in a tensor of any dtype, also a floating one."""
    return not weight.is_floating_point() or weight.itemsize == 1 or hasattr(weight, "quant_state")


def is_quantized(module: nn.Module) -> bool:
    """Whether any weight of a module is packed; some packages keep it in a buffer, where the others of a layer are vectors."""
    matrices = [buffer for buffer in module.buffers() if buffer.dim() > 1]
    return any(map(is_packed, [*module.parameters(), *matrices]))
