"""Records that LLaMA-Factory leaves out with a warning: so do we, and say how many, of which dataset, and why."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from .catalogue import Catalogue
from .diagnosis import place_of, refusal
from .named import Named

logger = logging.getLogger(__name__)

#: Records whose indices are shown.
_SHOWN = 5


@dataclass(frozen=True)
class LeftOut:
    """Records that are not used.

    Attributes:
        dataset: Whose they are.
        total: How many records it has, with these.
        why: What is wrong with them, by their indices; at least with the first.
    """

    dataset: Named
    total: int
    why: Mapping[int, str]

    def tell(self, catalogue: Catalogue, strict: bool, log: bool = True) -> None:
        """Say so.

        Args:
            catalogue: Has the dataset.
            strict: They are refused.
            log: This process writes the log.

        Raises:
            FcitError: They are to be refused, or no other record is left; the sentence names the first.
        """
        if not self.why:
            return
        first, reason = next(iter(self.why.items()))
        if strict:
            raise refusal(self.dataset, catalogue, first, f"{reason}, which `fcit_strict_records` refuses")
        if len(self.why) == self.total:
            raise refusal(
                self.dataset, catalogue, first, f"{reason}, and none of the dataset's {self.total} records can be used"
            )
        if not log:
            return
        file, record = place_of(catalogue, self.dataset, first)
        shown = ", ".join(map(str, [*self.why][:_SHOWN])) + (" ..." if len(self.why) > _SHOWN else "")
        logger.warning(
            "Dataset `%s`: %d of %d records are left out, as LLaMA-Factory leaves them out (%s); the first, %s, record %d: %s. "
            "`fcit_strict_records: true` refuses them.",
            *(self.dataset, len(self.why), self.total, shown, file, record, reason),
        )
