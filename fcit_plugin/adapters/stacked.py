"""Subspace selective activation (SSA): all subspaces as one stacked LoRA, weighted per sample.

    y = W x + s sum_k w_k B_k A_k x = W x + s Bcat diag(w repeated r times) Acat x

Acat [K r, in] and Bcat [out, K r] are an ordinary PEFT adapter of rank K r; the weights scale its middle.
Two matrix products a layer, whatever K is, and no loop over subspaces.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from ..errors import FcitError
from .base_alone import STACKED, is_alone
from .experts import divide, is_router, num_experts
from .fused import WeighedExperts, add_stacked, stacked_factor, weigh
from .lora import ADAPTER, Tensors, check_keys, check_shapes, factor_of, put
from .projectors import OwnProjectors


def stack(subspaces: Sequence[Tensors], rank: int) -> Tensors:
    """Stack subspaces along the rank: A to [K r, in], B to [out, K r]; those of fused experts each expert's.

    Args:
        subspaces: Their factors.
        rank: r.

    Raises:
        FcitError: There is no subspace.
    """
    if not subspaces:
        raise FcitError("There is no subspace to stack.")
    return {
        key: torch.cat([state[key] for state in subspaces])
        if is_router(key)
        else stacked_factor([state[key] for state in subspaces], factor_of(key) == "A", rank)
        for key in subspaces[0]
    }


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
    stacked.target_parameters = None  # see :func:`.fused.add_stacked`
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
        self.hooks: list[RemovableHandle | WeighedExperts] = []
        self._own = threading.local()

    def remove(self) -> None:
        """Take off what it has hung on modules that stay when its adapter is deleted."""
        for hook in self.hooks:
            hook.remove()
        if self.projectors is not None:
            self.projectors.remove()

    def set(self, weights: torch.Tensor, expands: bool = False, image_tokens: Sequence[int] | None = None) -> None:
        """Use these weights in this thread.

        Args:
            weights: [batch, K], one row per sample.
            expands: Whether the batch may hold each sample several times in a row, as generation with beams or with
                several returned sequences has it.
            image_tokens: How many each sample has, for a projector with a LoRA on it and for subspaces with projectors of their
                own; None for text alone, and where they cannot be counted.

        Raises:
            FcitError: The number of columns is not K.
        """
        if weights.dim() != 2 or weights.shape[1] != self.num_subspaces:
            raise FcitError(f"Activation takes weights [batch, {self.num_subspaces}], got {tuple(weights.shape)}.")
        if (weights == weights[:1]).all():
            weights = weights[:1]  # the same for all: whose row is whose makes no difference
        self._own.gate = weights.repeat_interleave(self.rank, dim=1)
        self._own.expands = expands
        self._own.weights = weights
        self._own.image_tokens = image_tokens
        self._own.tokens = None

    def of_image_tokens(self, total: int) -> torch.Tensor:
        """The weights of so many image tokens of the batch, in the samples' order, [total, K].

        Raises:
            FcitError: The samples do not have so many, and are weighed differently.
        """
        weights: torch.Tensor | None = getattr(self._own, "weights", None)
        if weights is None:
            raise RuntimeError("The subspaces' weights were not set before the forward pass, in its thread.")
        if len(weights) == 1:
            return weights.expand(total, -1)
        if self._own.image_tokens is None:
            raise FcitError(
                "Which prompt has which of a video's features cannot be told, and subspaces with projectors of their own "
                "(`fcit_method`) need it; answer one record at a time, with `per_device_eval_batch_size: 1`."
            )
        return weights.repeat_interleave(self._times_each(total).to(weights.device), dim=0)

    def _times_each(self, total: int) -> torch.Tensor:
        """How many of so many image features each sample has, in the samples' order, [samples]."""
        counts = self._own.image_tokens
        times, rest = divmod(total, sum(counts) or 1)
        if rest or not times or (times > 1 and not self._own.expands):
            raise FcitError(
                f"The projector gives {total} image features for prompts with {sum(counts)} image tokens: which image is whose "
                "cannot be told; train this model with `fcit_method: disco` and `freeze_multi_modal_projector: true`, or "
                "answer one record at a time (`per_device_eval_batch_size: 1`)."
            )
        return torch.tensor(counts) * times

    def sees_tokens(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the decoder: notes how many rows of how many tokens it is given."""
        given = (kwargs.get("inputs_embeds"), kwargs.get("input_ids"), *args[:1])
        self._own.tokens = next(tuple(tokens.shape[:2]) for tokens in given if tokens is not None)

    def gate_text(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], middle: torch.Tensor) -> torch.Tensor:
        """Forward hook of Acat in the decoder: scale the middle.

        It is [batch, length, K r]; [batch * length, K r] where the tokens are flattened, as for experts; or
        [batch * tiles, patches, K r] where cross attention sees an image in tiles.

        Raises:
            FcitError: It is something else, and the samples are weighed differently.
        """
        gate = self._gate(middle)
        if middle.dim() == 3 and len(gate) in (1, len(middle)):
            return middle * gate.unsqueeze(1)
        if len(gate) == 1:
            return middle * gate[0]
        batch, length = self._own.tokens or (len(middle), None)
        fits = len(middle) == batch * (length or 0) if middle.dim() == 2 else len(middle) % batch == 0
        times, rest = divmod(batch, len(gate))  # a batch that was expanded has each sample several times in a row
        if not fits or rest or not times or (times > 1 and not self._own.expands):
            raise self._unknown(middle)
        parts = middle.reshape(len(gate), -1, middle.shape[-1])
        return (parts * gate.unsqueeze(1)).view_as(middle)

    def gate_tokens(self, hidden: torch.Tensor) -> torch.Tensor:
        """The weights of a batch's tokens in one list [tokens, hidden], as fused experts see them: [tokens, K r], or [1, K r].

        Raises:
            FcitError: Which token is whose cannot be told.
        """
        gate = self._gate(hidden)
        return gate if len(gate) == 1 else self.gate_text(nn.Identity(), (), hidden.new_ones(len(hidden), gate.shape[1]))

    def gate_images(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], middle: torch.Tensor) -> torch.Tensor:
        """Forward hook of Acat outside of the decoder, where a row is one of an image's features: scale the middle.

        Raises:
            FcitError: Whose image a row is of cannot be told, and the samples are weighed differently.
        """
        gate = self._gate(middle)
        if len(gate) == 1:
            return middle * gate[0]
        if self._own.image_tokens is None:
            raise self._unknown(middle)
        flat = middle.flatten(0, -2)
        return (flat * gate.repeat_interleave(self._times_each(len(flat)).to(gate.device), dim=0)).view_as(middle)

    def _gate(self, middle: torch.Tensor) -> torch.Tensor:
        """The weights [samples, K r], or [1, K r] for all."""
        if is_alone():
            return middle.new_zeros(1, self.num_subspaces * self.rank)
        gate: torch.Tensor | None = getattr(self._own, "gate", None)
        if gate is None:
            raise RuntimeError("The subspaces' weights were not set before the forward pass, in its thread.")
        if gate.device != middle.device or gate.dtype != middle.dtype:  # once a batch, not once a layer
            gate = self._own.gate = gate.to(middle.device, middle.dtype)
        return gate

    def _unknown(self, middle: torch.Tensor) -> FcitError:
        return FcitError(
            f"Weights for {len(self._own.gate)} samples do not fit a layer whose batch has the shape {tuple(middle.shape)}: "
            "which row is whose cannot be told on this base model; answer one record at a time, with "
            "`per_device_eval_batch_size: 1`."
        )


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
    _add(model, len(subspaces))
    for name, module in _stacked_layers(model):
        if not isinstance(module.lora_A[STACKED], nn.Linear):
            raise FcitError(f"{name} is no linear layer, and a subspace cannot act on it; take it out of `lora_target`.")
    if (experts := num_experts(subspaces[0])) is not None:
        divide(model, STACKED, experts)
    _fill(model, subspaces)
    activation = Activation(len(subspaces), config.r)
    base = model.get_base_model()
    text = {name for name, _ in model.named_modules()}
    if isinstance(base, PreTrainedModel):
        decoder: nn.Module = base.get_decoder()  # type: ignore[no-untyped-call]
        seen = {*decoder.modules(), base.get_output_embeddings()}  # type: ignore[no-untyped-call]
        text = {name for name, module in model.named_modules() if module in seen}
        activation.hooks.append(decoder.register_forward_pre_hook(activation.sees_tokens, with_kwargs=True))
    activation.hooks += weigh(model, STACKED, activation.gate_tokens)
    for name, module in _stacked_layers(model):
        module.lora_A[STACKED].register_forward_hook(activation.gate_text if name in text else activation.gate_images)
    model.set_adapter(STACKED)
    if projectors:
        activation.projectors = OwnProjectors(base, projectors, activation.of_image_tokens)
    return activation


def _stacked_layers(model: PeftModel) -> list[tuple[str, LoraLayer]]:
    """The layers that have the stacked adapter, by name, but for fused experts."""
    found = ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer))
    return [(name, layer) for name, layer in found if not isinstance(layer, ParamWrapper) and STACKED in layer.lora_A]


def _add(model: PeftModel, num_subspaces: int) -> None:
    """Add the stacked adapter, empty."""
    stacked = stacked_config(lora_config(model), num_subspaces)
    model.add_adapter(STACKED, stacked)
    add_stacked(model, STACKED, stacked.r, stacked.lora_alpha)


def _fill(model: PeftModel, subspaces: Sequence[Tensors]) -> None:
    """Write subspaces into the stacked adapter."""
    parameters = {
        name.replace(f".{STACKED}.", "."): parameter for name, parameter in model.named_parameters() if f".{STACKED}." in name
    }
    stacked = stack(subspaces, lora_config(model).r)
    check_keys(parameters, stacked, "stack of subspaces")
    check_shapes(parameters, stacked, "stack of subspaces")
    for key, value in stacked.items():
        put(parameters[key], value, key)


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
                columns = gate.repeat_interleave(factor.shape[1] // len(gate))  # of fused experts one for each expert
                factor.mul_(columns.to(factor.device, factor.dtype))


@contextlib.contextmanager
def frozen_beside(model: PeftModel, subspaces: Sequence[Tensors]) -> Iterator[None]:
    """Within the block these subspaces act beside the one in training, each with weight 1, and are not trained."""
    if not subspaces:
        yield
        return
    trainable = _trainable(model)
    _add(model, len(subspaces))
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
        activation.remove()
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
