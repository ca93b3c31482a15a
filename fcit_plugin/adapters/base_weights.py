"""The base weights under LoRA layers, where the server changes them too (:mod:`.base_change`)."""

from collections import Counter
from collections.abc import Mapping

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn

from ..errors import FcitError
from .base_change import change_of, changed_layers
from .lora import ADAPTER, Tensors, put
from .quantized import is_packed


class BaseWeights:
    """Writes W + s C into the layers that LoRA is on; always from W as it was loaded, which is kept on the CPU.

    Args:
        model: PEFT model whose adapter :data:`.lora.ADAPTER` is on the layers.

    Raises:
        FcitError: A layer's weight cannot be changed: it is quantized, no matrix, or shared with another layer.
    """

    def __init__(self, model: PeftModel) -> None:
        uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
        self._weights: dict[str, nn.Parameter] = {}
        self._scales: dict[str, float] = {}
        for name, module in model.named_modules():
            if isinstance(module, LoraLayer) and ADAPTER in module.scaling:
                layer = name.removeprefix("base_model.model.")
                weight = module.get_base_layer().get_parameter("weight")
                _check(layer, weight, shared=uses[id(weight)] > 1)
                self._weights[layer], self._scales[layer] = weight, module.scaling[ADAPTER]
        self._loaded = {layer: weight.detach().to("cpu", copy=True) for layer, weight in self._weights.items()}
        self._written: Tensors = {}

    def write(self, base: Tensors) -> None:
        """Change the model's weights by C; an empty one gives back those that were loaded.

        Raises:
            FcitError: It is that of another model.
        """
        if equal(base, self._written):
            return
        layers = set(changed_layers(base))
        for layer in sorted(layers | set(changed_layers(self._written))):
            if layer not in self._weights:
                raise FcitError(f"The change of the base weights does not fit the model: it has no LoRA layer {layer}.")
            weight, loaded = self._weights[layer], self._loaded[layer]
            if layer in layers:
                write_weight(weight, loaded, base, layer, self._scales[layer])
            else:
                put(weight, loaded, layer)
        self._written = dict(base)


class BaseOnDemand:
    """The base weights of a model whose server may change them; they are looked at, and kept, from the first change on.

    Whoever is handed a change can write it, whatever the recipe's own aggregation does: it may be that of an earlier run.

    Args:
        model: See :class:`BaseWeights`.
    """

    def __init__(self, model: PeftModel) -> None:
        self._model = model
        self._weights: BaseWeights | None = None

    def prepare(self) -> BaseWeights:
        """The weights, looked at now.

        Raises:
            FcitError: They cannot be changed.
        """
        self._weights = self._weights or BaseWeights(self._model)
        return self._weights

    def write(self, base: Tensors) -> None:
        """See :meth:`BaseWeights.write`."""
        if base or self._weights is not None:
            self.prepare().write(base)


def add_to(model: nn.Module, base: Tensors, scale: float, source: str) -> None:
    """Change the weights of a model without adapters, for good.

    Args:
        model: The base model.
        base: C.
        scale: s.
        source: Where C is from.

    Raises:
        FcitError: It does not fit the model, or the model's weights are quantized.
    """
    parameters = dict(model.named_parameters())
    for layer in changed_layers(base):
        weight = parameters.get(f"{layer}.weight")
        if weight is None:
            raise FcitError(f"The change of the base weights in {source} does not fit this base model: it has no {layer}.")
        _check(layer, weight, shared=False)
        write_weight(weight, weight.detach().clone(), base, layer, scale)


def write_weight(weight: nn.Parameter, loaded: torch.Tensor, base: Tensors, layer: str, scale: float) -> None:
    """W + s C into one weight, in float32 until it takes the weight's dtype.

    Raises:
        FcitError: C has another shape than W.
    """
    device = weight.device
    change = change_of({key: base[key].to(device) for key in _keys(base, layer)}, layer)
    if change.shape != weight.shape:
        raise FcitError(
            f"The change of the base weights does not fit the model: {layer} is {list(change.shape)}, the model has "
            f"{list(weight.shape)}."
        )
    put(weight, loaded.to(device, torch.float32) + scale * change, layer)


def equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Whether two states hold the same numbers."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def _keys(base: Tensors, layer: str) -> list[str]:
    return [key for key in (f"{layer}.A", f"{layer}.B", f"{layer}.weight") if key in base]


def _check(layer: str, weight: torch.Tensor, shared: bool) -> None:
    if is_packed(weight) or weight.dim() != 2:
        raise FcitError(
            f"The base weight of {layer} cannot be changed: it is quantized or no matrix; take a base model that is not "
            "quantized, or another `fcit_lora_aggregation`."
        )
    if shared:
        raise FcitError(
            f"The base weight of {layer} cannot be changed: another layer of the model uses it too; take it out of "
            "`lora_target`, or take another `fcit_lora_aggregation`."
        )
