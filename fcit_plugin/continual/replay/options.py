"""Keys of replay; no torch, for recipes are checked with it."""

from dataclasses import dataclass

from ...arguments.option import Options, option
from ...parts import Part


@dataclass
class ReplayOptions(Options):
    """Keys of ``fcit_method: replay``."""

    fcit_replay_samples: int = option(10, "Records of each task that a client keeps, to train on in later stages.", least=1)


REPLAY = Part("fcit_plugin.continual.replay.method:Replay", ReplayOptions)
