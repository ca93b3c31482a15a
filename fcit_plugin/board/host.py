"""What the tab takes of LLaMA Board, which a seam hands over: so that nothing here knows LLaMA-Factory."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Elements(Protocol):
    """LLaMA Board's list of its elements, by ids such as ``top.lang``."""

    def get_elem_by_id(self, elem_id: str) -> Any:
        """The element."""
        ...

    def add_elems(self, tab_name: str, elem_dict: dict[str, Any]) -> None:
        """Add the elements of a tab; those whose names have texts follow the board's language."""
        ...


@dataclass(frozen=True)
class Host:
    """LLaMA Board.

    Attributes:
        elements: Its elements.
        inputs: Those that say how to train.
        texts: Its texts by name, language and property; ours are put in.
        alert: One of its own sentences, by name and language.
        training_keys: The recipe that its tab Train makes, of the values of its inputs.
        fields: What stands in these inputs for a recipe, by its keys, their defaults and the inputs' values now; and the keys
            that are not safe there.
        save_dir: The output folder, by model, kind of tuning and name.
        is_busy: Whether its own tabs train or evaluate.
        chat_box: Makes a chat in the place where it is called; gives the chat's messages, their history, and the elements.
        load_chat: Loads a model to chat with, of these keys; the one before is dropped.
        unload_chat: Drops it.
        chats: Whether one is loaded.
        sees: Whether it takes pictures.
        subspaces: Those of its model that can answer, by number what each is called.
        choose: Has one of them answer alone in a browser's session; None for those that each message activates.
    """

    elements: Elements
    inputs: Iterable[Any]
    texts: dict[str, dict[str, dict[str, Any]]]
    alert: Callable[[str, str], str]
    training_keys: Callable[[Mapping[Any, Any]], dict[str, Any]]
    fields: Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[Any, Any]], tuple[dict[Any, Any], Iterable[str]]]
    save_dir: Callable[..., Any]
    is_busy: Callable[[], bool]
    chat_box: Callable[[], tuple[Any, Any, dict[str, Any]]]
    load_chat: Callable[[dict[str, Any]], None]
    unload_chat: Callable[[], None]
    chats: Callable[[], bool]
    sees: Callable[[], bool]
    subspaces: Callable[[], Mapping[int, str]]
    choose: Callable[[str, int | None], None]
