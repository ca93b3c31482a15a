"""What the next batch is made of, while this one is worked on."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


class Prefetch(Generic[Item, Made]):
    """Makes one thing after the other, each in a thread from the moment that the caller is busy with the one before.

    Opening and resizing the images of a batch takes as long as half of its answers; a GPU would wait for it. Only what is asked
    for by :meth:`prepare` is made in the thread: meanwhile the caller must not use what the maker does (a tokenizer is for one
    thread at a time). Used as a context; when it ends nothing runs any more.

    Args:
        make: Makes the thing of an item; draws no random numbers, which would depend on the moment.
        items: The items.
    """

    def __init__(self, make: Callable[[Item], Made], items: Iterable[Item]) -> None:
        self._make = make
        self._items = iter(items)
        self._pool = ThreadPoolExecutor(1, "fcit-prefetch")
        self._coming: Future[Made] | None = None

    def __enter__(self) -> "Prefetch[Item, Made]":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self) -> Made:
        """The thing of the next item; what went wrong with it is raised here.

        Raises:
            StopIteration: There is no further item.
        """
        if self._coming is None:
            return self._make(next(self._items))
        coming, self._coming = self._coming, None
        return coming.result()

    def prepare(self) -> None:
        """Begin with the next item, if there is one."""
        for item in self._items:
            self._coming = self._pool.submit(self._make, item)
            return
