"""Seam: ``llamafactory.webui.components`` - LLaMA Board has a tab "FCIT", between its own and its foot.

Two functions of it are wrapped where they are defined: ``interface``, which calls them, may be half imported when we come.
"""

import logging
from collections.abc import Mapping
from typing import Any

import wrapt

logger = logging.getLogger(__name__)

#: Engines whose tab Train was made and whose foot was not yet.
_BEGUN: list[Any] = []


def install(module) -> None:
    """Wrap what makes the tab Train, which is handed the board's engine, or what makes the foot, which is not."""
    if module.__name__.endswith(".train"):
        wrapt.wrap_function_wrapper(module, "create_train_tab", _train)
    else:
        wrapt.wrap_function_wrapper(module, "create_footer", _footer)


def _train(wrapped, instance, args, kwargs):
    _BEGUN[:] = [*args, *kwargs.values()]
    return wrapped(*args, **kwargs)


def _footer(wrapped, instance, args, kwargs):
    engine = _BEGUN.pop() if _BEGUN else None
    if engine is not None and not engine.demo_mode:  # where strangers come, nothing is trained, and no folder read
        import gradio as gr

        try:
            with gr.Tab("FCIT"):
                _create(engine)
        except Exception as error:  # as with a seam: the board is there for others, too
            logger.warning("LLaMA Board has no working tab FCIT: %s: %s", type(error).__name__, error)
    return wrapped(*args, **kwargs)


def _create(engine: Any) -> None:
    """Make our tab of a board with this engine."""
    from gradio.components import FormComponent
    from llamafactory.chat import ChatModel
    from llamafactory.extras.misc import torch_gc
    from llamafactory.webui import common
    from llamafactory.webui.components import create_chat_box
    from llamafactory.webui.locales import ALERTS, LOCALES

    from ..board.host import Host
    from ..board.tab import create_tab
    from .board_fields import fields_of
    from .chatter import choose, subspaces

    manager, runner, chatter = engine.manager, engine.runner, engine.chatter

    def unload() -> None:
        chatter.engine = None
        torch_gc()

    def load(keys: dict[str, Any]) -> None:
        unload()
        ChatModel.__init__(chatter, keys)

    def training_keys(data: Mapping[Any, Any]) -> dict[str, Any]:
        """What its tab Train makes; which datasets are trained on, and where to, is ours to say."""
        not_asked: dict[str, Any] = {
            "train.dataset": [],
            "train.output_dir": "any",
            "top.model_name": data[name_of_model] or "Custom",
        }
        asked = {**data, **{manager.get_elem_by_id(name): value for name, value in not_asked.items()}}
        found: dict[str, Any] = common._clean_cmd(runner._parse_train_args(asked))
        return found

    name_of_model = manager.get_elem_by_id("top.model_name")
    theirs = {manager.get_id_by_elem(element): element for element in manager.get_elem_list()}
    inputs = {name: element for name, element in theirs.items() if isinstance(element, FormComponent) and _trains(name)}
    host = Host(
        elements=manager,
        inputs=inputs.values(),
        texts=LOCALES,
        alert=lambda name, lang: ALERTS[name][lang],
        training_keys=training_keys,
        fields=lambda keys, defaults, now: fields_of(inputs, keys, defaults, now),
        save_dir=common.get_save_dir,
        is_busy=lambda: runner.running,
        chat_box=lambda: create_chat_box(engine, visible=False),
        load_chat=load,
        unload_chat=unload,
        chats=lambda: chatter.loaded,
        sees=lambda: getattr(chatter.engine, "processor", None) is not None,
        subspaces=lambda: subspaces(chatter),
        choose=lambda session, subspace: choose(chatter, session, subspace),
    )
    run, initialize = create_tab(host).run, runner._initialize

    def check(data: dict[Any, Any], do_train: bool, from_preview: bool) -> str:
        """Its own tabs start nothing while ours trains."""
        busy = run.running and not from_preview
        lang = data[manager.get_elem_by_id("top.lang")]
        return ALERTS["err_conflict"][lang] if busy else initialize(data, do_train, from_preview)

    runner._initialize = check


def _trains(name: str) -> bool:
    """Whether an element is of those that say how to train."""
    return name.startswith(("top.", "train."))
