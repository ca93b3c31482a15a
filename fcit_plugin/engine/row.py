"""A record that the model is asked, as the evaluation and its rehearsal hand it on."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from ..knowledge.turns import Turns
from .label_trees import Tree
from .likelihood import with_answer


@dataclass(frozen=True)
class Row:
    """One record to be answered; the labels that its answer is restricted to as a tree, None for any answer."""

    name: str
    number: int
    feature: dict[str, Any]
    turns: Turns
    tree: Tree | None = None

    @property
    def key(self) -> tuple[str, int]:
        """The dataset and the number of the record."""
        return self.name, self.number

    def answered(self) -> "Row":
        """The record with its right answer behind the prompt."""
        return dataclasses.replace(self, feature=with_answer(self.feature))
