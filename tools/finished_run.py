"""What tools that look at a finished run share: it is opened again, and a subspace is told to answer."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from llamafactory.hparams import get_train_args
from omegaconf import OmegaConf

from fcit_plugin.engine.open_session import open_session
from fcit_plugin.engine.session import Session
from fcit_plugin.knowledge.activation import Distance, Weighed


class Fixed:
    """A router that gives every sample the same weights.

    Args:
        subspace: The one that gets all weight.
        num_subspaces: K.
    """

    def __init__(self, subspace: int, num_subspaces: int) -> None:
        self._weights = np.eye(num_subspaces, dtype=np.float32)[subspace]

    def forget(self) -> None:
        """Nothing is kept."""

    def listen(self, conversations, pixels) -> tuple[np.ndarray, list]:
        """As many empty tokens as there are conversations: nothing is looked at."""
        return np.zeros((len(conversations), 0), np.float32), list(conversations)

    def weigh(self, embedded: np.ndarray) -> Weighed:
        """The same weights for each, and no conversation is far."""
        weights, nothing = np.tile(self._weights, (len(embedded), 1)), np.full(len(embedded), np.nan)
        return Weighed(weights, weights, Distance(nothing, np.zeros(len(embedded), np.int64), nothing, nothing))


@contextlib.contextmanager
def opened(recipe: Path) -> Iterator[tuple[Session, Path]]:
    """Within the block: the session of a finished run, opened again to look at it, and the run's folder.

    Args:
        recipe: What the run was made with.
    """
    keys = OmegaConf.to_container(OmegaConf.load(recipe))
    folder = Path(keys["output_dir"])
    with tempfile.TemporaryDirectory() as scratch:
        again = {"do_train": False, "adapter_name_or_path": str(folder), "output_dir": scratch, "save_total_limit": None}
        keys = {key: value for key, value in (keys | again).items() if value is not None}
        yield open_session(*get_train_args(keys)), folder


def png(path: Path) -> Path:
    """The path of a picture that was named with or without its ending; what follows another dot stays."""
    return path if path.suffix == ".png" else path.with_name(f"{path.name}.png")
