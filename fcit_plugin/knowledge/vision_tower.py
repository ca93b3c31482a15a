"""What the frozen vision tower of the base model sees in an image, before the projector, which is trained.

Known is LLaVA's layout: every image is one row of ``pixel_values``, and stands in the prompt as equally many image tokens.
"""

from typing import TYPE_CHECKING, Any

import torch

from ..errors import FcitError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


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
    if kind != "llava":
        raise FcitError(
            f"`fcit_identity_source: {source}` takes the vision tower of a LLaVA model, and the base model is of type {kind}; "
            "set `fcit_identity_source: text`."
        )


def _layers(config: Any) -> list[int]:
    layers = config.vision_feature_layer
    return [layers] if isinstance(layers, int) else list(layers)


def tower_width(config: Any) -> int:
    """D, the length of a feature, from a LLaVA model's configuration."""
    return int(config.vision_config.hidden_size) * len(_layers(config))


class VisionTower:
    """The mean over an image's patches of the features that the projector would be given.

    Args:
        model: A LLaVA model, with or without PEFT's wrapper.
    """

    def __init__(self, model: "PreTrainedModel | PeftModel") -> None:
        from peft import PeftModel
        from transformers import LlavaForConditionalGeneration

        base = model.get_base_model() if isinstance(model, PeftModel) else model
        if not isinstance(base, LlavaForConditionalGeneration):
            raise TypeError(f"A {type(base).__name__} has no vision tower that is known.")
        self.tower = base.model.vision_tower
        self.layers = _layers(base.config)
        self.skips_first = base.config.vision_feature_select_strategy == "default"
        self.width = tower_width(base.config)

    @torch.no_grad()
    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features of n images, float32 [n, D] on the CPU.

        Args:
            pixels: [n, 3, H, W], as the model's image processor makes them.
        """
        weight = next(self.tower.parameters())
        training = self.tower.training
        self.tower.eval()  # a client may have trained on the model before
        try:
            # half precision around a prediction must not give other tokens than a chat
            with torch.autocast(weight.device.type, enabled=False):
                output = self.tower(pixels.to(weight.device, weight.dtype), output_hidden_states=True)
        finally:
            self.tower.train(training)
        patches = torch.cat([output.hidden_states[layer] for layer in self.layers], dim=-1)
        return patches[:, int(self.skips_first) :].float().mean(dim=1).cpu()


def image_tokens_by_row(ids: torch.Tensor, config: Any) -> list[int] | None:
    """How many image tokens each row of token ids [batch, length] has, by the model's configuration.

    None for a model of text alone, and for a batch with videos: the same projector gives their features, too.
    """
    token, video = (getattr(config, f"{kind}_token_id", None) for kind in ("image", "video"))
    if token is None or (video is not None and (ids == video).any()):
        return None
    counts: list[int] = (ids == token).sum(dim=1).tolist()
    return counts


def images_by_row(
    ids: torch.Tensor, mask: torch.Tensor, pixels: torch.Tensor | None, image_token: int
) -> list[torch.Tensor | None]:
    """The images of each prompt of a batch.

    Args:
        ids: Token ids [batch, length].
        mask: [batch, length], 0 for what is not part of a prompt: LLaMA-Factory puts an image behind such tokens where a
            batch has none, so that no process waits for another.
        pixels: [images, 3, H, W] in the order of the rows, or None.
        image_token: Id of an image token.

    Returns:
        For each row [m, 3, H, W], None for a row without an image.

    Raises:
        FcitError: There are not equally many image tokens for each image.
    """
    if pixels is None:
        return [None] * len(ids)
    marks = ids == image_token
    tokens = marks.sum(dim=1)
    per_image = int(tokens.sum()) // len(pixels)
    if not per_image or (tokens % per_image).any() or int(tokens.sum()) != per_image * len(pixels):
        raise FcitError(
            f"{len(pixels)} images do not fit to {tokens.tolist()} image tokens in the rows of a batch; a prompt was cut "
            "within an image, raise `cutoff_len`."
        )
    seen = (marks & mask.bool()).any(dim=1).tolist()
    rows = torch.split(pixels, (tokens // per_image).tolist())
    return [row if shown else None for row, shown in zip(rows, seen, strict=True)]
