"""What is read of a dataset, its training or its test records: said outright, for a name may end in anything."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ..errors import FcitError

#: Suffix of the name of the entry of a dataset's test records.
TEST = "_test"


@dataclass(frozen=True)
class ForTest:
    """The test records of a dataset; where there may be either, the name alone stands for its training records.

    Attributes:
        dataset: The dataset.
    """

    dataset: str

    def __str__(self) -> str:
        return self.dataset + TEST


Named = str | ForTest


def refuse_trained_tests(trained: Collection[str], tested: Iterable[str]) -> None:
    """Refuse a dataset that is trained on and has the name of another one's test records: one name would mean both.

    Args:
        trained: Datasets that are trained on.
        tested: Datasets whose test records are asked about.

    Raises:
        FcitError: The sentence names both.
    """
    for name in tested:
        if str(ForTest(name)) in trained:
            raise FcitError(
                f"The dataset `{ForTest(name)}` is trained on, and by its name it is the test of the dataset `{name}`; rename "
                "one of the two in dataset_info.json."
            )
