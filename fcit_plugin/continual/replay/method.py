"""Replay: clients keep some records of earlier tasks."""

from typing_extensions import override

from ..method import ContinualMethod
from .options import ReplayOptions


class Replay(ContinualMethod[ReplayOptions]):
    """A client trains on its task's records and on m records of each task that it has worked on in earlier stages.

    Experience replay (Chaudhry et al. 2019, arXiv 1902.10486). An upper reference, not a rival: it breaks the rule of the
    setting that a client which moves on no longer has the old data.
    """

    @override
    def num_remembered(self) -> int:
        return self.options.fcit_replay_samples
