"""A projector of its own for each subspace.

All clients train one multimodal projector, so it moves on while a subspace that nobody trains stays as it is, and the two no
longer fit. Here each subspace sees images through the projector P_k that it was trained with last; features of an image v are

    sum_k w_k P_k(v) / sum_k w_k   over the subspaces with w_k > 0,

with the weights of the image's prompt, and those of the shared projector where there are none.
"""

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from itertools import takewhile
from typing import Any

import torch
from torch import nn

from ..errors import FcitError
from .lora import Tensors

#: Model types whose projector gives the features of the prompts' images in the prompts' order, equally many for each image
#: token, or each tile.
FAMILIES = (
    *("llava", "llava_next", "internvl", "gemma3", "paligemma", "mistral3", "llama4"),
    *("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"),
)

_UNUSED: ContextVar[bool] = ContextVar("_UNUSED", default=False)


@contextlib.contextmanager
def projectors_unused() -> Iterator[None]:
    """Within the block, and in this thread, nobody uses what the projector gives: it need not know whose images it sees.

    A tower with the projector at its end is asked what it sees before the prompts' weights are known.
    """
    before = _UNUSED.set(True)
    try:
        yield
    finally:
        _UNUSED.reset(before)


def module_of(keys: Iterable[str]) -> str:
    """The path of the innermost module that holds all of these parameters."""
    places = zip(*(key.split(".")[:-1] for key in keys), strict=False)
    return ".".join(names[0] for names in takewhile(lambda names: len(set(names)) == 1, places))


def check_one_module(model: nn.Module, keys: Iterable[str]) -> None:
    """Refuse a projector that is not one module of the base model, or is trained in parts.

    Args:
        model: The base model.
        keys: Names of its parameters that are trained.

    Raises:
        FcitError: The sentence names the parameters.
    """
    keys = sorted(keys)
    path = module_of(keys)
    if sorted(name for name, _ in model.named_parameters() if name.startswith(f"{path}.")) != keys or not path:
        raise FcitError(
            f"Subspaces cannot have projectors of their own on this base model, for {', '.join(keys[:3])} (of {len(keys)}) are "
            "not the whole of one module, or have a LoRA on them; train it with `fcit_method: disco`, or with "
            "`freeze_multi_modal_projector: true`."
        )


def check_projector(model: nn.Module, keys: Iterable[str]) -> None:
    """Refuse a base model whose subspaces cannot have projectors of their own, before anything is trained.

    Args:
        model: The base model.
        keys: Names of its parameters that are trained, its projector's.

    Raises:
        FcitError: The sentence says why.
    """
    advice = "train it with `fcit_method: disco`, or with `freeze_multi_modal_projector: true`."
    kind = getattr(model.config, "model_type", None)
    if kind not in FAMILIES:
        raise FcitError(
            "Subspaces with projectors of their own (`fcit_method`) are for models of the types "
            f"{', '.join(FAMILIES)}, where it is known which of the projector's features is whose; this one is "
            f"{kind}: {advice}"
        )
    check_one_module(model, keys)
    if any(hasattr(parameter, "ds_id") for parameter in model.get_submodule(module_of(keys)).parameters()):
        raise FcitError(
            "ZeRO-3 divides the projector among the processes, and subspaces with projectors of their own "
            f"(`fcit_method`) need it whole; take ZeRO-2, {advice}"
        )


def mean_projector(projectors: Sequence[Tensors], weights: Sequence[float], shared: Tensors) -> Tensors:
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
        FcitError: The projectors are not those of this model, or its weights are not all in memory.
    """

    def __init__(self, model: nn.Module, projectors: Sequence[Tensors], weights_of: Callable[[int], torch.Tensor]) -> None:
        check_one_module(model, projectors[0])
        path = module_of(projectors[0])
        module = model.get_submodule(path)
        if any(parameter.is_meta for parameter in module.parameters()):
            raise FcitError(
                f"The projector {path} is offloaded, and subspaces with projectors of their own need it in memory; load the "
                "model on devices that hold it all (`device_map`)."
            )
        self._own = [
            _copy_of(module, {key.removeprefix(f"{path}."): value for key, value in state.items()}) for state in projectors
        ]
        self._weights_of = weights_of
        self._handle = module.register_forward_hook(self._mixed, with_kwargs=True)

    def remove(self) -> None:
        """The projector gives its own features again."""
        self._handle.remove()

    def _mixed(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: torch.Tensor) -> torch.Tensor:
        if _UNUSED.get():
            return output
        like = next(module.parameters())
        flat = output.reshape(-1, output.shape[-1]).float()
        weights = self._weights_of(len(flat)).cpu().float().clamp(min=0)  # to see on a GPU which count would wait for it
        total = weights.sum(dim=1, keepdim=True)
        shares = weights / total.where(total > 0, 1)
        used = shares.any(dim=0).nonzero().flatten().tolist()
        shares = shares.to(flat.device)
        mixed = flat * (total == 0).to(flat.device)
        for k in used:
            own = self._own[k].to(like.device, like.dtype)  # the model may have been moved since
            mixed = mixed + shares[:, k : k + 1] * own(*args, **kwargs).reshape(flat.shape).float()
        return mixed.to(output.dtype).view_as(output)


def _copy_of(module: nn.Module, state: Tensors) -> nn.Module:
    """A module of its own with these weights, without what accelerate has hung on the model's."""
    from accelerate.hooks import remove_hook_from_module  # recipes are checked without it

    own: nn.Module = remove_hook_from_module(copy.deepcopy(module), recurse=True)
    own.load_state_dict(state)
    return own.requires_grad_(False).eval()
