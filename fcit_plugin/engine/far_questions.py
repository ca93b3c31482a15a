"""Questions of an evaluation that are far from all that a run learned: how many of each dataset."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from llamafactory.extras import logging

from ..knowledge.activation import Router

logger = logging.get_logger(__name__)


class FarQuestions:
    """Weighs subspaces for records, and keeps which of these are far.

    A record that is answered again counts once, as do those that several processes have answered.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], bool] = {}

    def weights(self, router: Router, keys: list[tuple[str, int]], embedded: np.ndarray) -> np.ndarray:
        """What :meth:`.Router.weights_of` gives, float32 [n, K].

        Args:
            router: Weighs them.
            keys: Dataset and number of each record.
            embedded: Their identity tokens, [n, D].
        """
        self._found.update(zip(keys, router.far(embedded).tolist(), strict=True))
        return router.weights_of(embedded)

    def log(self, gather: Callable[[Any], list[Any]], is_main: bool) -> None:
        """Log in one line how many records of each dataset are far, if any are; all processes have to call it.

        Args:
            gather: Gives what each process has.
            is_main: Whether this process speaks for all.
        """
        found: Mapping[tuple[str, int], bool] = {key: far for part in gather(self._found) for key, far in part.items()}
        asked, far = Counter(name for name, _ in found), Counter(name for (name, _), is_far in found.items() if is_far)
        if far and is_main:
            listed = ", ".join(f"{far[name]} of {asked[name]} in {name}" for name in sorted(far))
            logger.info_rank0(f"Far from what this run learned (docs/guide/serving.md): {listed}.")
