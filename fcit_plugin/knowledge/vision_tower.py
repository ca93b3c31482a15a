"""What the frozen vision tower of the base model sees in an image, before the projector, which is trained."""

from typing import TYPE_CHECKING, Any

import torch

from ..adapters.projectors import projectors_unused
from ..errors import FcitError
from .images import Images, tiles_of

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

#: Types whose configuration says which layers of the tower are taken, and whether the class token is left out.
_CHOOSING = ("llava", "llava_next", "internvl")
#: Types that take all that the tower ends with.
_ALL = ("gemma3", "paligemma")
#: Types whose tower, with the projector at its end, sees the patches of all images as one sequence.
_SEQUENCE = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")
#: All types whose vision tower is known.
FAMILIES = (*_CHOOSING, *_ALL, *_SEQUENCE)
#: Images, or tiles of images, that the tower sees at a time.
_AT_ONCE = 16


def check_family(config: Any, source: str) -> None:
    """Refuse a base model whose vision tower is not known.

    Args:
        config: The base model's configuration.
        source: The ``fcit_identity_source`` that wants it.

    Raises:
        FcitError: The sentence names the key and the model's type.
    """
    kind = config.model_type
    if kind == "llava" and config.vision_config.model_type == "pixtral":
        kind = "llava with a pixtral tower"  # packs all images into one sequence of patches
    if kind not in FAMILIES:
        raise FcitError(
            f"`fcit_identity_source: {source}` takes the vision tower of a model of the types {', '.join(FAMILIES)}, and the "
            f"base model is of type {kind}; set `fcit_identity_source: text`."
        )


def _layers(config: Any) -> list[int]:
    layers = config.vision_feature_layer if config.model_type in _CHOOSING else -1
    return [layers] if isinstance(layers, int) else list(layers)


def tower_width(config: Any) -> int:
    """D, the length of a feature, from the configuration of a model whose vision tower is known."""
    vision = config.vision_config
    return int(vision.embed_dim if config.model_type == "qwen2_vl" else vision.hidden_size) * len(_layers(config))


class VisionTower:
    """The mean over an image's patches, and over its tiles, of the features that the projector would be given.

    Where the projector is given the patches of a square as one vector (InternVL, Qwen-VL), a feature is that of one patch.

    Args:
        model: A model with images, with or without PEFT's wrapper.

    Raises:
        TypeError: Its vision tower is not known.
    """

    def __init__(self, model: "PreTrainedModel | PeftModel") -> None:
        from peft import PeftModel

        base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
        self.config: Any = base.config
        if self.config.model_type not in FAMILIES:
            raise TypeError(f"A {type(base).__name__} has no vision tower that is known.")
        self.is_sequence = self.config.model_type in _SEQUENCE
        self.tower: Any = base.model.visual if self.is_sequence else base.model.vision_tower
        self.width = tower_width(self.config)

    @torch.no_grad()
    def __call__(self, images: Images) -> torch.Tensor:
        """Features of n images, float32 [n, D] on the CPU."""
        weight = next(self.tower.parameters())
        training = self.tower.training
        self.tower.eval()  # a client may have trained on the model before
        try:
            # half precision around a prediction must not give other tokens than a chat
            with torch.autocast(weight.device.type, enabled=False), projectors_unused():
                return self._sequence(images, weight) if self.is_sequence else self._tiles(images, weight)
        finally:
            self.tower.train(training)

    def _sequence(self, images: Images, weight: torch.Tensor) -> torch.Tensor:
        assert images.grids is not None
        grids = images.grids.to(weight.device)
        patches = self.tower(images.pixels.to(weight.device, weight.dtype), grid_thw=grids, return_dict=True).last_hidden_state
        parts = torch.split(patches.float(), images.grids.prod(-1).tolist())
        return torch.stack([part.mean(dim=0) for part in parts]).cpu()

    def _tiles(self, images: Images, weight: torch.Tensor) -> torch.Tensor:
        pixels, counts = images.pixels, tiles_of(images, self.config)
        if pixels.dim() == 5:
            pixels = torch.cat([tiles[:count] for tiles, count in zip(pixels, counts, strict=True)])
        means = torch.cat([self._means(some.to(weight.device, weight.dtype)) for some in torch.split(pixels, _AT_ONCE)])
        return torch.stack([part.mean(dim=0) for part in torch.split(means, counts)])

    def _means(self, pixels: torch.Tensor) -> torch.Tensor:
        """Of tiles [n, 3, H, W] the mean over their patches, float32 [n, D] on the CPU."""
        chooses, layers = self.config.model_type in _CHOOSING, _layers(self.config)
        # the last hidden state and what a tower ends with may differ by a norm; each model takes one of them
        ends = self.config.model_type == "internvl" and layers == [-1]
        output = self.tower(pixels, output_hidden_states=chooses and not ends)
        if not chooses or ends:
            patches = output.last_hidden_state
        else:
            patches = torch.cat([output.hidden_states[layer] for layer in layers], dim=-1)
        skips_first = chooses and self.config.vision_feature_select_strategy == "default"
        means: torch.Tensor = patches[:, int(skips_first) :].float().mean(dim=1).cpu()
        return means
