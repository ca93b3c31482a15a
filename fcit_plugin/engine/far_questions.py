"""Questions of an evaluation: what the subspaces weigh for each, and how many are far from all that a run learned."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from llamafactory.extras import logging

from ..knowledge.activation import Router

logger = logging.get_logger(__name__)


class FarQuestions:
    """Weighs subspaces for records, and keeps the weights and which of these are far.

    A record that is answered again counts once, as do those that several processes have answered.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], tuple[bool, np.ndarray]] = {}

    def weights(self, router: Router, keys: list[tuple[str, int]], embedded: np.ndarray) -> np.ndarray:
        """What :meth:`.Router.weights_of` gives, float32 [n, K].

        Args:
            router: Weighs them.
            keys: Dataset and number of each record.
            embedded: Their identity tokens, [n, D].
        """
        weighed = router.weigh(embedded)
        self._found.update(zip(keys, zip(weighed.distance.is_far.tolist(), weighed.weights, strict=True), strict=True))
        return weighed.weights

    def log(self, gather: Callable[[Any], list[Any]], is_main: bool) -> Mapping[tuple[str, int], np.ndarray]:
        """Log in one line how many records of each dataset are far, if any are; all processes have to call it.

        Args:
            gather: Gives what each process has.
            is_main: Whether this process speaks for all.

        Returns:
            What the subspaces weigh for the records of all processes, [K] each.
        """
        found = {key: known for part in gather(self._found) for key, known in part.items()}
        asked, far = Counter(name for name, _ in found), Counter(name for (name, _), (is_far, _) in found.items() if is_far)
        if far and is_main:
            listed = ", ".join(f"{far[name]} of {asked[name]} in {name}" for name in sorted(far))
            logger.info_rank0(f"Far from what this run learned (docs/guide/serving.md): {listed}.")
        return {key: weights for key, (_, weights) in found.items()}
