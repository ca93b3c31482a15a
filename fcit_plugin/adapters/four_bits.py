"""Layers in four bits on a processor with AVX512-BF16, where bitsandbytes packs their weights for answering.

From 0.49.0 on (read up to 0.50.2) ``Linear4bit.forward`` calls ``_convert_weight_packed_for_cpu`` on its own weights the
first time that it is asked outside of training, with an input that takes no gradient. This fails, unless there are 32 n
outputs and as many inputs as whole blocks of the quantization (of 64). And it is for good: the kernel for packed weights
has no backward, so no gradient passes through the layer from then on, of which PyTorch warns and no more. A run evaluates
and trains in turn.
"""

from operator import attrgetter

from torch import nn

#: What bitsandbytes' own layers remember of the processor: whether they may pack.
_MAY_PACK = "support_avx512bf16_for_cpu"
_ROWS = 32


def keep_unpacked(model: nn.Module, trains: bool) -> None:
    """Have bitsandbytes leave weights as every other processor has them, where packing them would be wrong.

    Args:
        model: A base model, in four bits or not; it has answered nothing yet.
        trains: Whether it is ever trained on; if not, layers that can be packed are, for they answer many times faster then.
    """
    for layer in model.modules():
        if getattr(layer, _MAY_PACK, False) and (trains or not _can_be_packed(layer)):
            setattr(layer, _MAY_PACK, False)


def _can_be_packed(layer: nn.Module) -> bool:
    outputs, inputs, block = attrgetter("out_features", "in_features", "weight.blocksize")(layer)
    return bool(outputs % _ROWS == 0 and inputs % block == 0)
