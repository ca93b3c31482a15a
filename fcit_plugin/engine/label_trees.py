"""Answers restricted to the labels of a dataset: the labels as prefix trees of token ids."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from ..data.answers import ASSISTANT, CALL, AnswerTexts

#: Each token id that may come next, and the tree behind it; an empty one ends.
Tree = dict[int, Any]


class Detour(NamedTuple):
    """A free answer that is no label.

    Attributes:
        start: How many of its tokens are a thought, after which the answer is given again.
        tree: The labels, after it.
    """

    start: int
    tree: Tree


class LabelTrees:
    """The labels of one dataset.

    Args:
        texts: Encodes them as training does.
        labels: The answers in the dataset's training records, without thoughts.
        roles: Those of its test records' answers.
    """

    def __init__(self, texts: AnswerTexts, labels: Sequence[str], roles: Collection[str]) -> None:
        self._texts = texts
        self._plain: Tree = {}
        self._after_thought: Tree = {}
        for label in labels:
            plain, after_thought = _paths(texts, label, roles)
            _grow(self._plain, [plain])
            _grow(self._after_thought, after_thought)

    def detour(self, ids: Sequence[int], limit: int) -> Detour | None:
        """Where a free answer leaves the labels; None for one that is a label, thought aside.

        Args:
            ids: The generated tokens.
            limit: As many tokens are generated at most: an answer cut off there may be the beginning of a label.
        """
        start = self._texts.thought_length(ids)
        tree = self._after_thought if start else self._plain
        cut = len(ids) == limit
        starts = (start, start + self._texts.blank_length(ids[start:])) if start else (start,)
        return None if any(_is_path(tree, ids[first:], cut) for first in starts) else Detour(start, tree)


def next_ids(tree: Tree, so_far: Iterable[int], stop_ids: Sequence[int]) -> list[int]:
    """The token ids that may follow those generated so far."""
    for token in so_far:
        tree = tree.get(token, {})
    return [*tree] or [*stop_ids[:1]]


def _paths(texts: AnswerTexts, label: str, roles: Collection[str]) -> tuple[list[int], list[list[int]]]:
    if CALL in roles:
        try:
            return texts.paths(label, CALL)
        except (RuntimeError, ValueError, LookupError, TypeError):  # an answer in words among the calls
            pass
    return texts.paths(label, ASSISTANT)


def _grow(tree: Tree, paths: Iterable[Iterable[int]]) -> None:
    for path in paths:
        node = tree
        for token in path:
            node = node.setdefault(token, {})


def _is_path(tree: Tree, ids: Sequence[int], cut: bool) -> bool:
    """Whether each of these generated tokens was one that the labels allow."""
    for token in ids:
        if token not in tree:
            return False
        tree = tree[token]
        if not tree:
            return True
    return cut
