"""What the server adds to the base weights: for each layer a matrix C, which the model takes as W + s C.

s is LoRA's scale, which the model knows. C is kept, and travels, as two thin factors for as long as these have fewer
numbers than the weight, and as one matrix from then on. A state holds ``<layer>.B`` [out, k] and ``<layer>.A`` [k, in],
or ``<layer>.weight`` [out, in], float32; the layers have their names in the base model.
"""

from collections.abc import Iterator, Mapping

import torch

from .lora import Tensors
from .products import Pair, sum_of_pairs

#: What PEFT puts in front of a layer's name.
_PEFT = "base_model.model."


def add_pairs(base: Tensors, more: Mapping[str, Pair]) -> Tensors:
    """C + L R of every layer.

    Args:
        base: C, empty where nothing was added yet.
        more: L [out, k] and R [k, in] by the layer's name in PEFT's keys.
    """
    found = dict(base)
    for layer, pair in more.items():
        name = layer.removeprefix(_PEFT)
        left, right = f"{name}.B", f"{name}.A"
        if left in found:
            pair = sum_of_pairs([(1.0, (found.pop(left).double(), found.pop(right).double())), (1.0, pair)])
        whole = found.pop(f"{name}.weight", None)
        if whole is None and sum(part.numel() for part in pair) < pair[0].shape[0] * pair[1].shape[1]:
            found[left], found[right] = (part.float().contiguous() for part in pair)
        else:
            found[f"{name}.weight"] = (pair[0] @ pair[1] + (0.0 if whole is None else whole.double())).float()
    return found


def changed_layers(base: Tensors) -> Iterator[str]:
    """The names of the layers, each once."""
    return (key.removesuffix(end) for key in sorted(base) for end in (".A", ".weight") if key.endswith(end))


def change_of(base: Tensors, layer: str) -> torch.Tensor:
    """C [out, in] of one layer, float32."""
    whole = base.get(f"{layer}.weight")
    return base[f"{layer}.B"] @ base[f"{layer}.A"] if whole is None else whole
