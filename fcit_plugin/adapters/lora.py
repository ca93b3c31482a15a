"""Read and write one subspace and the shared trainables of a PEFT model.

A model on the meta device gives states that have shapes alone. A subspace is trained as the model's one ordinary PEFT
adapter. Its state is a flat dictionary in the key format of PEFT's own files (adapter name left out), float32 on the CPU.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import nn

from ..errors import FcitError

#: LLaMA-Factory trains the adapter of this name.
ADAPTER = "default"

Tensors = dict[str, torch.Tensor]

#: The two factors of a layer, whose LoRA is s B A.
BOTH = "AB"


def factor_of(key: str) -> str:
    """Which factor of its layer a key in PEFT's files names: "A" or "B"."""
    return "A" if ".lora_A." in key or ".lora_embedding_A" in key else "B"


def layers_of(state: Mapping[str, Any]) -> list[str]:
    """The layers of the base model that a subspace is on, by name."""
    names = (key.removeprefix("base_model.model.").partition(".lora_")[0] for key in state if ".lora_" in key)
    return sorted({*names})


def weighted_mean(states: Sequence[Tensors], weights: Sequence[int]) -> Tensors:
    """The mean of tensors with the same keys, sum n_c S_c / sum n_c, summed in float64, as float32.

    Args:
        states: S_c; a single one stays bit-identical.
        weights: n_c; where all are 0 the first state is taken.
    """
    total = sum(weights)
    if len(states) == 1 or total == 0:
        return states[0]
    parts = [(state, n / total) for state, n in zip(states, weights, strict=True)]
    return {key: reduce(torch.add, (state[key].double() * part for state, part in parts)).float() for key in states[0]}


def select_factors(state: Mapping[str, Any], factors: str) -> dict[str, Any]:
    """The part of a subspace that is of these factors ("A", "B" or "AB")."""
    return {key: value for key, value in state.items() if factor_of(key) in factors}


def lora_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The factors of the subspace in training, by their keys in PEFT's files."""
    return {
        name.replace(f".{ADAPTER}.", "."): parameter
        for name, parameter in model.named_parameters()
        if f".{ADAPTER}." in name and "lora_" in name
    }


def shared_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters of the base model's own, by their name in it."""
    return {
        name.removeprefix("base_model.model.").replace(".base_layer.", "."): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and "lora_" not in name and f".{ADAPTER}." not in f"{name}."
    }


def check_owners(model: nn.Module) -> None:
    """Refuse a model in which something is trained that is in no subspace and not among the shared trainables.

    It would be trained by all clients in turn, and neither sent, nor reset, saved or evaluated.

    Args:
        model: A PEFT model that is ready to be trained.

    Raises:
        FcitError: The sentence names such parameters.
    """
    owned = {id(parameter) for part in (lora_parameters(model), shared_parameters(model)) for parameter in part.values()}
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad and id(parameter) not in owned]
    if names:
        raise FcitError(
            f"What would be trained in {', '.join(names[:2])} (of {len(names)}) is in no subspace and not among the shared "
            "trainables, and would be lost: only LoRA on linear layers and the multimodal projector can be trained; take these "
            "layers (embeddings, for one) out of `lora_target`."
        )


@contextlib.contextmanager
def _whole(parameters: Mapping[str, torch.Tensor], write: bool) -> Iterator[None]:
    """Under ZeRO-3 each rank holds a shard: gather the parameters while they are read or written."""
    from transformers.integrations import is_deepspeed_zero3_enabled  # the federation uses this module without a model

    if not is_deepspeed_zero3_enabled():  # type: ignore[no-untyped-call]
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(parameters.values()), modifier_rank=0 if write else None):
        yield


@contextlib.contextmanager
def whole_weight(weight: torch.Tensor) -> Iterator[torch.Tensor]:
    """The whole of one weight, also where ZeRO-3 has sharded it."""
    with _whole({"weight": weight}, write=False):
        yield weight


def _read(parameters: dict[str, nn.Parameter]) -> Tensors:
    with _whole(parameters, write=False):
        return {
            k: p.detach().to("meta" if p.is_meta else "cpu", torch.float32, copy=True).contiguous()
            for k, p in parameters.items()
        }


def put(weight: torch.Tensor, value: torch.Tensor, name: str) -> None:
    """Write a value into a weight, in the weight's dtype and on its device.

    Args:
        weight: Where to.
        value: What, of the same shape.
        name: The weight's name.

    Raises:
        FcitError: The weight is on the meta device, where nothing would be written and nobody would say so.
    """
    if weight.is_meta:
        raise FcitError(
            f"The weight {name} is offloaded (on the CPU or the disk, for want of memory), and what was learned cannot be "
            "written into it; load the model on devices that hold it all, or export it merged there "
            "(`llamafactory-cli export`) and load that."
        )
    with torch.no_grad():
        weight.copy_(value)


def _write(parameters: dict[str, nn.Parameter], state: Tensors, what: str) -> None:
    check_keys(parameters, state, what)
    with _whole(parameters, write=True):
        check_shapes(parameters, state, what)
        for key, parameter in parameters.items():
            put(parameter, state[key], key)


def check_keys(parameters: Mapping[str, torch.Tensor], state: Tensors, what: str) -> None:
    """Refuse a state with other tensors than the model's.

    Raises:
        FcitError: The sentence names some that are missing or too many.
    """
    if parameters.keys() != state.keys():
        missing, extra = sorted(parameters.keys() - state.keys()), sorted(state.keys() - parameters.keys())
        raise FcitError(
            f"The {what} does not fit the model: missing {missing[:3]}, unexpected {extra[:3]}; compare base model and "
            "lora_target."
        )


def check_shapes(parameters: Mapping[str, torch.Tensor], state: Tensors, what: str) -> None:
    """Refuse a state whose tensors have other shapes than the model's.

    Raises:
        FcitError: The sentence names the first tensor that does not fit.
    """
    for key, parameter in parameters.items():
        if parameter.shape != state[key].shape:
            raise FcitError(
                f"The {what} does not fit the model: {key} is {list(state[key].shape)}, the model has "
                f"{list(parameter.shape)}; compare base model and lora_rank."
            )


@contextlib.contextmanager
def training_only(factors: Mapping[str, nn.Parameter], trained: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Within the block those of the factors that are not trained take no gradient: an optimizer made there leaves them out."""
    frozen = [parameter for key, parameter in factors.items() if key not in trained]
    for parameter in frozen:
        parameter.requires_grad_(False)
        parameter.grad = None
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def read_subspace(model: nn.Module) -> Tensors:
    """The adapter's factors A [r, in] and B [out, r] of every target layer, float32 copies on the CPU."""
    return _read(lora_parameters(model))


def write_subspace(model: nn.Module, state: Tensors) -> None:
    """Put a subspace into the model's adapter.

    Raises:
        FcitError: The keys of the state are not those of the adapter.
    """
    _write(lora_parameters(model), state, "subspace")


def read_shared(model: nn.Module) -> Tensors:
    """Trainable parameters that are no LoRA factors (the multimodal projector), float32 copies on the CPU."""
    return _read(shared_parameters(model))


def write_shared(model: nn.Module, state: Tensors) -> None:
    """Put the shared trainables into the model.

    Raises:
        FcitError: The keys of the state are not those of the model's shared trainables.
    """
    _write(shared_parameters(model), state, "shared trainables")


def fresh_subspace(like: Tensors, seed: int) -> Tensors:
    """The LoRA initialization that a new subspace begins from: A uniform as in PEFT, B = 0.

    Drawn on the CPU from the seed alone, so that every site gets the same numbers on any device.

    Args:
        like: A subspace with the wanted keys and shapes.
        seed: Seed of the generator.
    """
    generator = torch.Generator().manual_seed(seed)
    fresh = {key: torch.zeros_like(value) for key, value in like.items()}
    for key in sorted(select_factors(fresh, "A")):
        nn.init.kaiming_uniform_(fresh[key], a=math.sqrt(5), generator=generator)
    return fresh
