"""A model of one number."""

import torch


class Scalar(torch.nn.Module):
    """The smallest model that the Trainer trains."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return {"loss": (self.weight * x).mean()}
