"""Models on GPUs that are not there: PyTorch's fake tensors have a device, a dtype and a shape, and no numbers.

What mixes tensors of two devices fails as on a GPU, and so does what asks for a number, for which a GPU would be waited for.
Gradients are the exception: PyTorch's engine wants the real device, so :func:`fake_gradients` sets them by hand.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import dispatch_model
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv


class Mode(FakeTensorMode):
    """A mode whose tensors have copies, and may be picked by a mask: how many there are remains unknown."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True, shape_env=ShapeEnv(), static_shapes=True)
        # with weak references, as there are otherwise, no fake parameter could be moved or cast: swap_tensors refuses
        self.fake_tensor_converter.meta_converter.tensor_memo = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Mode":
        return self


@dataclass(frozen=True)
class Place:
    """Where a model is.

    Attributes:
        dtype: Precision of the base model.
        second: What of the tiny models is on the second of two GPUs, by ends of modules' names; nothing: there is one.
    """

    dtype: torch.dtype = torch.float32
    second: tuple[str, ...] = ()
    mode: Mode = field(default_factory=Mode, compare=False)

    def device_of(self, name: str) -> torch.device:
        """The device of a module or parameter of the model."""
        return torch.device("cuda", int(any(f".{part}." in f".{name}." for part in self.second)))

    def put(self, model: nn.Module, left_on: torch.device | None = None) -> nn.Module:
        """A model with fake weights on this place, in this precision; on two GPUs with accelerate's hooks.

        Args:
            model: With real ones, which are exchanged.
            left_on: Another device.
        """
        model = model.to(self.dtype)
        with self.mode:
            for name, module in model.named_modules():
                device = left_on or self.device_of(name)
                for key, weight in module._parameters.items():
                    if weight is not None:
                        module._parameters[key] = nn.Parameter(self.mode.from_tensor(weight.detach()).to(device))
                for key, buffer in module._buffers.items():
                    if buffer is not None:
                        module._buffers[key] = self.mode.from_tensor(buffer).to(device)
            if not self.second:
                return model
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # accelerate looks at data pointers, which fakes have none of
                return dispatch_model(model, self._device_map(model), main_device="cuda:0", force_hooks=True)

    def _device_map(self, model: nn.Module, name: str = "") -> dict[str, int]:
        """The largest modules that are on one device, as ``device_map: auto`` has them."""
        devices = {weight.device.index for weight in model.parameters()}
        if len(devices) == 1 and name:
            return {name: devices.pop()}
        children = ((f"{name}.{key}".strip("."), child) for key, child in model.named_children())
        return {key: device for of, child in children for key, device in self._device_map(child, of).items()}


_SECOND = ("layers.1", "norm", "lm_head")
#: By name: one GPU, and two of them with the base model in half precision, as by ``device_map: auto``.
PLACES: Mapping[str, Place] = {"one GPU, float32": Place(), "two GPUs, bfloat16": Place(torch.bfloat16, _SECOND)}


def fake_gradients(weights: Mapping[str, nn.Parameter]) -> None:
    """Gives each weight a gradient where it is, for PyTorch's own engine wants a real GPU."""
    for weight in weights.values():
        weight.grad = torch.ones_like(weight)


@contextmanager
def fake_numpy() -> Iterator[None]:
    """Within the block fake tensors on the CPU give arrays of zeros; those on a GPU refuse, as real ones do."""

    def to_numpy(tensor: FakeTensor) -> np.ndarray:
        if tensor.device.type != "cpu" or tensor.dtype == torch.bfloat16:
            raise TypeError(f"no array can be made of {tensor.dtype} on {tensor.device}")
        return np.zeros(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(FakeTensor, "numpy", to_numpy, raising=False)
        yield
