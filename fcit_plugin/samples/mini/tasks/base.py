"""What a task makes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..scenes import Scene


@dataclass(frozen=True)
class Sample:
    """One question about one drawn scene.

    Attributes:
        scene: What is on the image.
        question: The instruction, without image tag.
        answer: The answer to train on and to score against.
        references: Captions that count as correct (Flickr30k only).
        box: Normalized xyxy box of the referred thing (Grounding only).
    """

    scene: Scene
    question: str
    answer: str
    references: tuple[str, ...] = ()
    box: tuple[float, float, float, float] | None = None


Task = Callable[[np.random.Generator], Sample]
