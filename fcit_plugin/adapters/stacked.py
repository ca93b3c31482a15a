"""Subspace selective activation (SSA): all subspaces as one stacked LoRA, weighted per sample.

    y = W x + s sum_k w_k B_k A_k x = W x + s Bcat diag(w repeated r times) Acat x

Acat [K r, in] and Bcat [out, K r] are an ordinary PEFT adapter of rank K r; the weights scale its middle.
Two matrix products a layer, whatever K is, and no loop over subspaces.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Sequence

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn

from ..errors import FcitError
from .experts import divide, num_experts
from .lora import ADAPTER, Tensors, check_keys, check_shapes
from .projectors import OwnProjectors

#: Name of the stacked adapter inside the PEFT model.
STACKED = "fcit_stacked"


def stack(subspaces: Sequence[Tensors]) -> Tensors:
    """Stack subspaces along the rank: A to [K r, in], B to [out, K r].

    Raises:
        FcitError: There is no subspace.
    """
    if not subspaces:
        raise FcitError("There is no subspace to stack.")
    return {key: torch.cat([state[key] for state in subspaces], dim=0 if ".lora_A." in key else 1) for key in subspaces[0]}


def lora_config(model: PeftModel) -> LoraConfig:
    """The configuration of a model's adapter :data:`ADAPTER`.

    Raises:
        TypeError: It is no LoRA.
    """
    config = model.peft_config[ADAPTER]
    if not isinstance(config, LoraConfig):
        raise TypeError(f"the adapter is a {type(config).__name__}, not a LoRA")
    return config


def scale_of(config: LoraConfig) -> float:
    """s, by which a LoRA's product is multiplied."""
    return config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)


def stacked_config(config: LoraConfig, num_subspaces: int) -> LoraConfig:
    """The PEFT configuration of the stacked adapter: rank K r at the scale s of one subspace."""
    scale = scale_of(config)
    rank = config.r * num_subspaces
    stacked = dataclasses.replace(config, r=rank, use_rslora=False, lora_dropout=0.0, inference_mode=True)
    stacked.lora_alpha = scale * rank  # type: ignore[assignment]  # PEFT divides by the rank, whole or not
    return stacked


class Activation:
    """The weights that the stacked adapter uses until they are set again.

    They are set before prefill, and stay while decoding. Each thread has its own, as one forward pass, and one
    generation, is the work of one thread: requests that run side by side on one model cannot see each other's.
    """

    def __init__(self, num_subspaces: int, rank: int) -> None:
        self.num_subspaces = num_subspaces
        self.rank = rank
        self.projectors: OwnProjectors | None = None
        self._own = threading.local()

    def set(self, weights: torch.Tensor, expands: bool = False, image_tokens: Sequence[int] | None = None) -> None:
        """Use these weights in this thread.

        Args:
            weights: [batch, K], one row per sample.
            expands: Whether the batch may hold each sample several times in a row, as generation with beams or with
                several returned sequences has it.
            image_tokens: How many each sample has, for subspaces with projectors of their own; None for text alone.

        Raises:
            FcitError: The number of columns is not K.
        """
        if weights.dim() != 2 or weights.shape[1] != self.num_subspaces:
            raise FcitError(f"Activation takes weights [batch, {self.num_subspaces}], got {tuple(weights.shape)}.")
        self._own.gate = weights.repeat_interleave(self.rank, dim=1).unsqueeze(1)
        self._own.expands = expands
        self._own.weights = weights
        self._own.image_tokens = image_tokens

    def of_image_tokens(self, total: int) -> torch.Tensor:
        """The weights of so many image tokens of the batch, in the samples' order, [total, K].

        Raises:
            RuntimeError: The samples do not have so many.
        """
        weights, counts = getattr(self._own, "weights", None), getattr(self._own, "image_tokens", None)
        if weights is None or counts is None:
            raise RuntimeError(
                "Which prompt has which image tokens was not set before the forward pass, in its thread: subspaces with "
                "projectors of their own (`fcit_method`) take images and no videos."
            )
        weights = weights.expand(len(counts), -1)
        times, rest = divmod(total, sum(counts) or 1)
        if rest or not times or (times > 1 and not self._own.expands):
            raise RuntimeError(
                f"The projector gives {total} image features for prompts with {sum(counts)} image tokens: which image is whose "
                "cannot be told; train this model with `fcit_method: disco`."
            )
        times_each = torch.tensor(counts, device=weights.device) * times
        of_features: torch.Tensor = weights.repeat_interleave(times_each, dim=0)
        return of_features

    def __call__(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], middle: torch.Tensor) -> torch.Tensor:
        """Forward hook of Acat: scale the middle, [batch, length, K r]."""
        gate: torch.Tensor | None = getattr(self._own, "gate", None)
        if gate is None:
            raise RuntimeError("The subspaces' weights were not set before the forward pass, in its thread.")
        if gate.device != middle.device or gate.dtype != middle.dtype:  # once a batch, not once a layer
            gate = self._own.gate = gate.to(middle.device, middle.dtype)
        if self._own.expands and gate.shape[0] not in (1, middle.shape[0]):
            gate = self._own.gate = gate.repeat_interleave(middle.shape[0] // gate.shape[0], dim=0)
        if middle.dim() != 3 or gate.shape[0] not in (1, middle.shape[0]):
            raise RuntimeError(
                f"Weights for {gate.shape[0]} samples do not fit a batch of shape {tuple(middle.shape)}; "
                "activation is one row per sample."
            )
        return middle * gate


def attach(model: PeftModel, subspaces: Sequence[Tensors], projectors: Sequence[Tensors] = ()) -> Activation:
    """Add the stacked adapter to a model whose adapter :data:`ADAPTER` has the subspaces' shape, and use it.

    Args:
        model: The model.
        subspaces: Their factors.
        projectors: Of each subspace its own, if they have them.

    Returns:
        The activation that wants weights before each batch.

    Raises:
        FcitError: The subspaces do not fit the model.
    """
    config = lora_config(model)
    model.add_adapter(STACKED, stacked_config(config, len(subspaces)))
    if (experts := num_experts(subspaces[0])) is not None:
        divide(model, STACKED, experts)
    _fill(model, subspaces)
    activation = Activation(len(subspaces), config.r)
    for module in model.modules():
        if isinstance(module, LoraLayer) and STACKED in module.lora_A:
            module.lora_A[STACKED].register_forward_hook(activation)
    model.set_adapter(STACKED)
    if projectors:
        activation.projectors = OwnProjectors(model.get_base_model(), projectors, activation.of_image_tokens)
    return activation


def _fill(model: PeftModel, subspaces: Sequence[Tensors]) -> None:
    """Write subspaces into the stacked adapter."""
    parameters = {
        name.replace(f".{STACKED}.", "."): parameter for name, parameter in model.named_parameters() if f".{STACKED}." in name
    }
    stacked = stack(subspaces)
    check_keys(parameters, stacked, "stack of subspaces")
    check_shapes(parameters, stacked, "stack of subspaces")
    with torch.no_grad():
        for key, value in stacked.items():
            parameters[key].copy_(value)


def fold_weights(model: PeftModel, weights: torch.Tensor, rank: int) -> None:
    """Make fixed weights part of Bcat: any fixed weighting of subspaces is one LoRA of rank K r, exactly.

    Args:
        model: A model with the stacked adapter attached.
        weights: [K].
        rank: r of one subspace.
    """
    gate = weights.repeat_interleave(rank)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, LoraLayer) and STACKED in module.lora_B:
                factor = module.lora_B[STACKED].get_parameter("weight")
                factor.mul_(gate.to(factor.device, factor.dtype))


@contextlib.contextmanager
def frozen_beside(model: PeftModel, subspaces: Sequence[Tensors]) -> Iterator[None]:
    """Within the block these subspaces act beside the one in training, each with weight 1, and are not trained."""
    if not subspaces:
        yield
        return
    trainable = _trainable(model)
    model.add_adapter(STACKED, stacked_config(lora_config(model), len(subspaces)))
    _fill(model, subspaces)
    model.base_model.set_adapter([ADAPTER, STACKED])
    _restore(model, trainable)
    try:
        yield
    finally:
        model.base_model.set_adapter(ADAPTER)
        model.delete_adapter(STACKED)
        _restore(model, trainable)


@contextlib.contextmanager
def activated(model: PeftModel, subspaces: Sequence[Tensors], projectors: Sequence[Tensors] = ()) -> Iterator[Activation]:
    """Within the block the model answers through all subspaces; afterwards it trains as before."""
    trainable = _trainable(model)
    was_training = model.training
    activation = attach(model, subspaces, projectors)
    try:
        yield activation
    finally:
        if activation.projectors is not None:
            activation.projectors.remove()
        model.set_adapter(ADAPTER)  # first: PEFT warns when the active adapter is deleted
        model.delete_adapter(STACKED)
        _restore(model, trainable)
        model.train(was_training)


def _trainable(model: PeftModel) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def _restore(model: PeftModel, trainable: set[str]) -> None:
    """What was trained before is trained again: PEFT, adding an adapter, freezes all else, and with it the projector."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trainable)
