"""Stage 1: teach the vision tower to see, with dense labels."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from .labels import COUNT_HEADS, IGNORE, MAX_COUNT, PATCH_HEADS, count_labels, patch_labels
from .mixture import draw_scene
from .model import WIDTH, to_pixel_values


class TowerHeads(nn.Module):
    """Linear classifiers on the patches and on their mean; thrown away after the stage."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.patch = nn.ModuleDict({head: nn.Linear(WIDTH, classes) for head, classes in PATCH_HEADS.items()})
        self.count = nn.Linear(WIDTH, len(COUNT_HEADS) * MAX_COUNT)

    def forward(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits of each head from patch features [batch, patches, width]."""
        features = self.norm(features)
        logits = {head: layer(features).flatten(0, 1) for head, layer in self.patch.items()}
        logits["count"] = self.count(features.mean(1)).view(-1, MAX_COUNT)
        return logits


def draw_labeled(rng: np.random.Generator, batch: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Pixel values of fresh scenes and the flat labels of each head."""
    scenes = [draw_scene(rng) for _ in range(batch)]
    patches = [patch_labels(scene) for scene in scenes]
    labels = {head: torch.from_numpy(np.concatenate([p[head] for p in patches])) for head in PATCH_HEADS}
    labels["count"] = torch.from_numpy(np.concatenate([count_labels(scene) for scene in scenes]))
    return to_pixel_values([scene.pixels for scene in scenes]), labels


def see(tower: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Features of the patches, as the projector gets them."""
    return tower(pixels, output_hidden_states=True).hidden_states[-1][:, 1:]


def tower_loss(logits: dict[str, torch.Tensor], labels: dict[str, torch.Tensor]) -> torch.Tensor:
    """Sum over the heads of the mean cross entropy."""
    losses = [
        cross_entropy(logits[head], labels[head], ignore_index=IGNORE) for head in logits if (labels[head] != IGNORE).any()
    ]
    return torch.stack(losses).sum()


@torch.no_grad()
def tower_accuracy(tower: nn.Module, heads: TowerHeads, rng: np.random.Generator, batch: int = 400) -> dict[str, float]:
    """Accuracy of each head on fresh scenes, without ignored places and without empty patches."""
    pixels, labels = draw_labeled(rng, batch)
    logits = heads(see(tower, pixels))
    accuracy = {}
    for head, values in labels.items():
        counted = values != IGNORE
        if head in ("entity", "hue"):
            counted &= values != 0
        accuracy[head] = round((logits[head].argmax(-1) == values)[counted].float().mean().item(), 3)
    return accuracy
