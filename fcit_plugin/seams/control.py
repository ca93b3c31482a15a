"""Seam: ``llamafactory.webui.control`` - LLaMA Board offers a run's output folder as a checkpoint."""

from ..state.names import MANIFEST


def install(control) -> None:
    """Have the list of checkpoints tell an output folder by its manifest, as it tells others by their weights.

    The set is changed in this module alone: elsewhere LLaMA-Factory takes it for what must not be trained over.
    """
    control.CHECKPOINT_NAMES = {*control.CHECKPOINT_NAMES, MANIFEST}
