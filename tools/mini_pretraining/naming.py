"""Patches that speak: the projector is taught to put a patch beside the words for what it shows.

Without it a small Llama hardly learns to look things up ("which level has the *red* bar?"); with it the word in the
question and the patch on the image are near each other from the start.
"""

import string

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast

from fcit_plugin.samples.mini.drawing import COLORS, KINDS, STYLES
from fcit_plugin.samples.mini.scenes import BAR_LEVELS, TRENDS, Scene

from .labels import ENTITIES, HUES, IGNORE, patch_labels
from .questions import GRAINS, NAMES, PATHS

_SIGNS = (*string.ascii_uppercase, *string.digits)
_ENTITY_WORDS = tuple(NAMES[name] if name in KINDS else name if name in _SIGNS else "" for name in ENTITIES)
HEAD_WORDS = {
    "hue": tuple(name if name in COLORS else "" for name in HUES),
    "entity": _ENTITY_WORDS,
    "partner": _ENTITY_WORDS,
    "style": tuple(GRAINS[style] for style in STYLES),
    "level": tuple(str(level) for level in range(1, BAR_LEVELS + 1)),
    "trend": tuple(PATHS[trend] for trend in TRENDS),
}
"""Label head -> word of each class, empty where there is none."""

WORDS = tuple(sorted({word for words in HEAD_WORDS.values() for word in words} - {""}))
_COLUMNS = {head: np.array([WORDS.index(word) if word else -1 for word in words]) for head, words in HEAD_WORDS.items()}


def patch_words(scene: Scene) -> np.ndarray:
    """For each patch [patches, words], which of ``WORDS`` are true of it."""
    labels = patch_labels(scene)
    truth = np.zeros((len(labels["hue"]), len(WORDS)), dtype=np.float32)
    for head, columns in _COLUMNS.items():
        patches = np.flatnonzero(labels[head] != IGNORE)
        column = columns[labels[head][patches]]
        truth[patches[column >= 0], column[column >= 0]] = 1.0
    return truth


def word_ids(tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """The token of each of ``WORDS``."""
    return torch.tensor([tokenizer.encode(word, add_special_tokens=False)[-1] for word in WORDS])


def naming_loss(projected: torch.Tensor, embeddings: torch.Tensor, scenes: list[Scene]) -> torch.Tensor:
    """Cross entropy between a patch's own words, in equal shares, and a softmax of its products with all of ``WORDS``.

    Args:
        projected: Output of the projector [batch, patches, width].
        embeddings: Embeddings of ``WORDS`` [words, width].
        scenes: The scenes of the batch.
    """
    truth = torch.from_numpy(np.stack([patch_words(scene) for scene in scenes]))
    speaking = truth.sum(-1) > 0
    truth = truth[speaking]
    return cross_entropy(projected[speaking] @ embeddings.T, truth / truth.sum(-1, keepdim=True))
