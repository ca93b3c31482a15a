"""Fixed-point numbers mod 2^32 that no sum of as many clients as there are can overflow.

With C the largest norm of an update, W the largest weight and n clients, a number x of a client of weight w becomes

    rint(x w / W s),  s = (2^31 - 1 - n) / (n C),

for |x| <= C and w <= W; n of them add up to less than 2^31. A sum of integers does not depend on its order, so a run with
secure sums ends in the same bits whoever drops out and comes back.
"""

from dataclasses import dataclass

import numpy as np

#: Largest training loss that can be told, in place of C; the loss of a model that guesses is the logarithm of its vocabulary.
LARGEST_LOSS = 128.0


@dataclass(frozen=True)
class Fixed:
    """The numbers of one sum.

    Attributes:
        clients: n, the most clients that it may have.
        largest: C, in whose range each number is.
        most_examples: W.
    """

    clients: int
    largest: float
    most_examples: int

    @property
    def scale(self) -> float:
        """s, steps for each unit of a number of the largest weight."""
        return (2**31 - 1 - self.clients) / (self.clients * self.largest)

    def encode(self, values: np.ndarray, weight: int) -> np.ndarray:
        """A client's part of a sum, uint32 of the shape of the values.

        Args:
            values: Finite numbers from -C to C.
            weight: w, from 1 to W.
        """
        steps = np.rint(values.astype(np.float64) * (weight / self.most_examples * self.scale))
        return steps.astype(np.int64).astype(np.uint32)

    def mean(self, total: np.ndarray, weights: int) -> np.ndarray:
        """The weighted mean, float64, of a sum of encoded values.

        Args:
            total: The sum, uint32.
            weights: The sum of the weights, at least 1.
        """
        return total.view(np.int32).astype(np.float64) * (self.most_examples / self.scale / weights)
