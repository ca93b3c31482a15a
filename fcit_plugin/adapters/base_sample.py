"""A few numbers of a base model, by which it is told from another of the same shape, in whatever precision it is loaded.

A model and its instruction-tuned version have one architecture, so subspaces of the one fit the other and answer badly. The
numbers are kept as bfloat16, for models are served in a lower precision than they are trained in. By way of float16 about
one number in sixteen is rounded otherwise, and of two models that were trained apart most numbers are different; so what
counts is the share of equal ones.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from .lora import whole_weight

#: How many weights are looked at, and how many numbers of each.
NUM_WEIGHTS = NUM_NUMBERS = 16
#: Below this share of equal numbers it is another model.
_EQUAL = 0.8
_PLAIN = (torch.float32, torch.bfloat16, torch.float16)


def base_sample(model: nn.Module) -> dict[str, str]:
    """Numbers of some weights of a base model, with LoRA on it or without.

    Args:
        model: The model. Of its matrices that are not quantized :data:`NUM_WEIGHTS` are looked at, evenly spread over
            their sorted names; vectors, many of which are all ones, are not. All processes have to call, for under ZeRO-3
            a weight is gathered.

    Returns:
        For the name of each weight its first :data:`NUM_NUMBERS` numbers as bfloat16, each in four hexadecimal digits.
    """
    weights = dict(sorted((name, weight) for name, weight in _weights(model) if len(_shape(weight)) > 1))
    step = max(1, -(-len(weights) // NUM_WEIGHTS))
    return {name: _digits(weights[name]) for name in [*weights][::step]}


def is_another_base(model: nn.Module, sample: Mapping[str, str]) -> bool:
    """Whether a base model without LoRA is another than the one that a sample was taken of.

    Args:
        model: The model.
        sample: Of :func:`base_sample`. Weights that the model has not, has quantized, or has offloaded, tell nothing.
    """
    equal = total = 0
    for name, weight in _weights(model):
        if name in sample:
            pairs = list(zip(_numbers(_digits(weight)), _numbers(sample[name]), strict=False))
            equal += sum(ours == theirs for ours, theirs in pairs)
            total += len(pairs)
    return equal < _EQUAL * total


def _weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The base model's weights that have numbers to look at, by the names that they have without PEFT."""
    for name, weight in model.named_parameters():
        # quantized ones have others; an offloaded one is on the meta device until its layer is called
        if "lora_" not in name and weight.dtype in _PLAIN and not weight.is_meta and 0 not in _shape(weight):
            yield name.removeprefix("base_model.model.").replace(".base_layer", ""), weight


def _shape(weight: torch.Tensor) -> Sequence[int]:
    shape: Sequence[int] = getattr(weight, "ds_shape", weight.shape)  # under ZeRO-3 a weight itself has the shape of nothing
    return shape


def _digits(weight: nn.Parameter) -> str:
    with whole_weight(weight) as whole:
        numbers = whole.detach().flatten()[:NUM_NUMBERS].to("cpu", torch.bfloat16).view(torch.int16)
    return numbers.numpy().astype(">i2").tobytes().hex()


def _numbers(digits: str) -> list[str]:
    return re.findall("....", digits)
