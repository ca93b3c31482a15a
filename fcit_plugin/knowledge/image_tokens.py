"""Identity tokens of images, and of instruction and image together: the paper's ablation of what a token is made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import torch

from .images import Images
from .vectors import unit

if TYPE_CHECKING:
    from .encoders import IdentityEncoder


@dataclass(frozen=True)
class Samples:
    """Samples of which more than the instruction counts.

    Attributes:
        texts: Their instructions.
        images: Their images, None for a sample without; may be read when asked for.
    """

    texts: Sequence[str]
    images: Sequence[Images | None]

    def __len__(self) -> int:
        return len(self.texts)


class ImageFeatures(Protocol):
    """What a vision tower makes of images."""

    width: int

    def __call__(self, images: Images) -> torch.Tensor:
        """Features of n images, float32 [n, D]."""
        ...


class ImageEncoder:
    """The mean of the features of a sample's images, less the center; zeros for a sample without an image.

    A zero token has the cosine 0 with every subspace: all weigh alike in a softmax, none in the activation ``cosine``.

    Args:
        features: The vision tower.
        references: Public images whose mean feature is the center; None leaves tokens raw.
        batch_size: Images that the tower sees at a time.
    """

    def __init__(self, features: ImageFeatures, references: Images | None, batch_size: int = 16) -> None:
        self.features = features
        self.batch_size = batch_size
        self.center = np.zeros(features.width, np.float32) if references is None else self._features(references).mean(axis=0)

    def encode(self, samples: Samples) -> np.ndarray:
        """Identity tokens of the samples, float32 [n, D]."""
        rows = np.zeros((len(samples), self.features.width), np.float32)
        for start in range(0, len(samples), self.batch_size):
            asked = range(start, min(start + self.batch_size, len(samples)))
            at_hand = {i: images for i in asked if (images := samples.images[i]) is not None}
            if at_hand:
                found = self._features(Images.join([*at_hand.values()])) - self.center
                ends = np.cumsum([len(images) for images in at_hand.values()])
                rows[[*at_hand]] = [part.mean(axis=0) for part in np.split(found, ends[:-1])]
        return rows

    def _features(self, images: Images) -> np.ndarray:
        return torch.cat([self.features(part) for part in images.batches(self.batch_size)]).numpy()


class TextAndImageEncoder:
    """Text token and image token side by side, each of length 1 / sqrt(2).

    So the cosine of two samples is the mean of the cosines of their texts and of their images. Where a sample has no image
    its text alone counts.

    Args:
        text: Encoder of the instructions.
        image: Encoder of the images.
    """

    def __init__(self, text: "IdentityEncoder", image: ImageEncoder) -> None:
        self.text = text
        self.image = image

    def encode(self, samples: Samples) -> np.ndarray:
        """Identity tokens of the samples, float32 [n, D of the text + D of the image]."""
        halves = unit(self.text.encode(samples.texts)), unit(self.image.encode(samples))
        tokens: np.ndarray = (np.concatenate(halves, axis=1) / np.sqrt(2)).astype(np.float32)
        return tokens


Encoder: TypeAlias = "IdentityEncoder | ImageEncoder | TextAndImageEncoder"


def encoder_inputs(
    encoder: Encoder,
    texts: Sequence[str],
    images: Callable[[], Sequence[Images | None]],
) -> Sequence[str] | Samples:
    """What an encoder is given of some samples: texts, or texts and images.

    Args:
        encoder: The encoder.
        texts: The samples' instructions.
        images: Gives their images; asked only by an encoder that sees them.
    """
    return Samples(texts, images()) if isinstance(encoder, (ImageEncoder, TextAndImageEncoder)) else texts


def encode(encoder: Encoder, inputs: Sequence[str] | Samples) -> np.ndarray:
    """Identity tokens of some samples, float32 [n, D].

    Args:
        encoder: The encoder.
        inputs: What :func:`encoder_inputs` gives for it.
    """
    if isinstance(encoder, (ImageEncoder, TextAndImageEncoder)):
        if isinstance(inputs, Samples):
            return encoder.encode(inputs)
    elif not isinstance(inputs, Samples):
        return encoder.encode(inputs)
    raise TypeError(f"a {type(encoder).__name__} was given a {type(inputs).__name__}")


def token_width(encoder: Encoder) -> int:
    """D, the length of an encoder's tokens."""
    return int(encode(encoder, encoder_inputs(encoder, ["."], lambda: [None])).shape[1])
