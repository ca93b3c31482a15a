"""LLaMA Board with our tab."""

import gc

import pytest


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The board as `llamafactory-cli webui` makes it: its page, its engine, what our tab's buttons do."""
    pytest.importorskip("gradio", exc_type=ImportError)  # some of its releases do not go with huggingface_hub 1
    from llamafactory.webui import interface

    from fcit_plugin.board.actions import Actions

    engines, found = [], []
    patch = pytest.MonkeyPatch()
    patch.chdir(tmp_path_factory.mktemp("board"))
    patch.setattr(interface, "Engine", lambda **given: engines.append(_engine(**given)) or engines[-1])
    patch.setattr(Actions, "__init__", _remembering(found, Actions.__init__))
    page = interface.create_ui()
    yield page, engines[0], found[0]
    patch.undo()
    gc.collect()


def _engine(**given):
    from llamafactory.webui.engine import Engine

    return Engine(**given)


def _remembering(found, wrapped):
    def init(self, *args):
        found.append(self)
        wrapped(self, *args)

    return init


@pytest.fixture
def board(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return made
