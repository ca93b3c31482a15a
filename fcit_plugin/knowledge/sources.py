"""What an identity token is made of (``fcit_identity_source``): the instruction, the image, or both."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from .encoders import make_encoder, token_dimension
from .image_tokens import Encoder, ImageEncoder, TextAndImageEncoder
from .images import Images
from .reference_images import reference_images
from .vision_tower import VisionTower, tower_width

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Makes of images what the base model is given of them.
Read = Callable[[Sequence[Image.Image]], Images]


def make_source(
    source: str,
    name: str,
    pooling: str,
    center: bool,
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    read: Read,
) -> Encoder:
    """The encoder of a recipe's identity tokens.

    Args:
        source: text, image or both.
        name: See :func:`fcit_plugin.knowledge.encoders.make_encoder`, as for the next four.
        pooling: Of a text encoder.
        center: Whether to take away what all instructions, and all images, share.
        model: The base model.
        tokenizer: Its tokenizer.
        read: Makes of images what the base model is given of them.

    Raises:
        FcitError: The text encoder cannot be loaded.
    """
    if source == "text":
        return make_encoder(name, pooling, center, model, tokenizer)
    image = ImageEncoder(VisionTower(model), read(reference_images()) if center else None)
    if source == "image":
        return image
    return TextAndImageEncoder(make_encoder(name, pooling, center, model, tokenizer), image)


def source_dimension(
    source: str, name: str, pooling: str, center: bool, model: Any, tokenizer: "PreTrainedTokenizerBase"
) -> int:
    """D of a recipe's identity tokens, from shapes alone; the arguments are those of :func:`make_source`.

    Raises:
        FcitError: There is no such text encoder.
    """
    of_text = 0 if source == "image" else token_dimension(name, pooling, center, model, tokenizer)
    return of_text + (0 if source == "text" else tower_width(model.config))
