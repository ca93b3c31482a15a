"""Images as a model is given them, and which of them are whose in a batch of prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch

from ..errors import FcitError


@dataclass(frozen=True)
class Images:
    """What a model's image processor makes of n images; where it cuts an image into crops, each crop is one.

    Attributes:
        pixels: [n, 3, H, W]; [n, tiles, 3, H, W] where each image is seen in tiles, too, of which the last ones may be
            padding; or [patches, ...], the patches of all images one after the other.
        grids: [n, 3], frames, rows and columns of patches of each image, where they are one sequence (Qwen-VL).
        sizes: [n, 2], heights and widths in pixels, where images are seen in tiles (LLaVA-NeXT).
    """

    pixels: torch.Tensor
    grids: torch.Tensor | None = None
    sizes: torch.Tensor | None = None

    @classmethod
    def of(cls, inputs: Mapping[str, Any]) -> "Images | None":
        """The images among a model's inputs; None if there are none."""
        pixels = inputs.get("pixel_values")
        return None if pixels is None else cls(pixels, inputs.get("image_grid_thw"), inputs.get("image_sizes"))

    @classmethod
    def join(cls, parts: Sequence["Images"]) -> "Images":
        """All of them, one after the other."""
        pixels = [part.pixels for part in parts]
        if pixels[0].dim() == 5:
            most = max(len(tiles) for part in pixels for tiles in part)
            pixels = [torch.cat([part, part.new_zeros(len(part), most - part.shape[1], *part.shape[2:])], 1) for part in pixels]
        beside = [[more for part in parts if (more := getattr(part, name)) is not None] for name in ("grids", "sizes")]
        return cls(torch.cat(pixels), *(torch.cat(rows) if rows else None for rows in beside))

    def __len__(self) -> int:
        return len(self.pixels if self.grids is None else self.grids)

    def split(self, counts: Sequence[int]) -> list["Images"]:
        """As many images each, in their order; the counts add up to their number."""
        grids, sizes = (
            [None] * len(counts) if rows is None else torch.split(rows, list(counts)) for rows in (self.grids, self.sizes)
        )
        lengths = [count if grid is None else int(grid.prod(-1).sum()) for count, grid in zip(counts, grids, strict=True)]
        return [Images(*parts) for parts in zip(torch.split(self.pixels, lengths), grids, sizes, strict=True)]

    def batches(self, most: int) -> list["Images"]:
        """So many images at a time, the last ones fewer."""
        whole, rest = divmod(len(self), most)
        return self.split([most] * whole + [rest] * bool(rest))


def tiles_of(images: Images, config: Any) -> list[int]:
    """How many tiles a model sees each image in, the image as a whole included; 1 where it has no tiles.

    Args:
        images: The images.
        config: The base model's configuration.
    """
    if images.sizes is None or config.model_type != "llava_next":
        return [1] * len(images)
    from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

    side = config.vision_config.image_size
    return [image_size_to_num_patches(size, config.image_grid_pinpoints, side) for size in images.sizes.tolist()]


def _tokens_of(images: Images, config: Any) -> list[int] | None:
    """How many tokens of the prompt stand for each image; None where it is the same for all."""
    if images.grids is not None:
        each: list[int] = (images.grids.prod(-1) // config.vision_config.spatial_merge_size**2).tolist()
        return each
    if images.sizes is not None and config.model_type == "llava_next":
        return [_tokens_of_tiles(size, config) for size in images.sizes.tolist()]
    return None


def _patches_of_tile(config: Any) -> int:
    vision = config.vision_config
    keeps_first = config.vision_feature_select_strategy == "full" and vision.model_type == "clip_vision_model"
    return int((vision.image_size // vision.patch_size) ** 2 + keeps_first)


def _tokens_of_tiles(size: list[int], config: Any) -> int:
    """The whole image's patches, then those of the tiles without what pads them, with a mark behind each row."""
    from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape, unpad_image

    vision = config.vision_config
    high, wide = get_anyres_image_grid_shape(size, config.image_grid_pinpoints, vision.image_size)  # type: ignore[no-untyped-call]
    side = vision.image_size // vision.patch_size
    padded = torch.empty(1, high * side, wide * side, device="meta")
    _, rows, columns = unpad_image(padded, size).shape  # type: ignore[no-untyped-call]
    return int(_patches_of_tile(config) + rows * (columns + 1))


def images_by_row(ids: torch.Tensor, mask: torch.Tensor, images: Images | None, config: Any) -> list[Images | None]:
    """The images of each prompt of a batch.

    Args:
        ids: Token ids [batch, length].
        mask: [batch, length], 0 for what is not part of a prompt: LLaMA-Factory puts an image behind such tokens where a
            batch has none, so that no process waits for another.
        images: All images, in the order of the rows, or None.
        config: The base model's configuration.

    Returns:
        For each row its images, None for a row without one.

    Raises:
        FcitError: The image tokens are not those of the images.
    """
    if images is None:
        return [None] * len(ids)
    marks = ids == config.image_token_id
    counts = _images_by_row(marks.sum(dim=1).tolist(), images, config)
    seen = (marks & mask.bool()).any(dim=1).tolist()
    return [row if shown else None for row, shown in zip(images.split(counts), seen, strict=True)]


def _images_by_row(tokens: list[int], images: Images, config: Any) -> list[int]:
    """How many images each row has, by its number of image tokens."""
    misfit = FcitError(
        f"{len(images)} images do not fit to {tokens} image tokens in the rows of a batch; a prompt was cut within an image, "
        "raise `cutoff_len`."
    )
    left = _tokens_of(images, config) or [max(sum(tokens) // len(images), 1)] * len(images)
    counts = []
    for row in tokens:
        ends = [0, *accumulate(left)]
        if row not in ends:
            raise misfit
        counts.append(ends.index(row))
        left = left[counts[-1] :]
    if left:
        raise misfit
    return counts


def features_by_row(ids: torch.Tensor, inputs: Mapping[str, Any], config: Any) -> list[int] | None:
    """How many features of the projector each row of token ids [batch, length] has, up to a common factor.

    None for a model of text alone, and for a batch with videos: the same projector gives their features, too.

    Args:
        ids: The token ids.
        inputs: The model's other inputs, for a model that sees images in tiles and leaves out some of their features.
        config: The base model's configuration.
    """
    token, video = (getattr(config, f"{kind}_token_id", None) for kind in ("image", "video"))
    if token is None or (video is not None and (ids == video).any()):
        return None
    tokens: list[int] = (ids == token).sum(dim=1).tolist()
    images = Images.of(inputs)
    if images is None or config.model_type != "llava_next":
        return tokens
    tiles, counts = tiles_of(images, config), _images_by_row(tokens, images, config)
    return [sum(tiles[start:end]) * _patches_of_tile(config) for start, end in pairwise(accumulate(counts, initial=0))]
