"""What LLaMA Board's tab FCIT relies on in ``llamafactory.webui``, and in gradio."""

import inspect
from types import GeneratorType, SimpleNamespace

import pytest
import wrapt

gr = pytest.importorskip("gradio", exc_type=ImportError)  # some of its releases do not go with huggingface_hub 1

from llamafactory.webui import chatter, common, components, engine, interface, locales, manager, runner  # noqa: E402


def names(function):
    return [*inspect.signature(function).parameters]


def test_the_tab_train_is_made_with_the_engine_before_the_foot_which_is_in_no_tab():
    source = inspect.getsource(interface.create_ui)
    train, foot = source.index("create_train_tab(engine)"), source.index('        engine.manager.add_elems("footer"')
    assert train < foot and source.index('gr.Tab("Export")') < foot
    assert source[foot:].startswith(" " * 8 + "engine") and "\n" + " " * 9 not in source[foot : foot + 60]
    for name in ("create_train_tab", "create_footer"):
        assert isinstance(getattr(interface, name), wrapt.FunctionWrapper)
        assert getattr(interface, name) is getattr(components, name)


def test_the_functions_that_are_called_take_what_we_hand_them():
    assert names(components.create_chat_box) == ["engine", "visible"]
    assert names(common.get_save_dir) == ["paths"]
    assert names(common._clean_cmd) == ["args"] and names(runner.Runner._parse_train_args) == ["self", "data"]
    assert names(runner.Runner._initialize) == ["self", "data", "do_train", "from_preview"]
    assert names(manager.Manager.add_elems) == ["self", "tab_name", "elem_dict"]
    for method in ("get_elem_by_id", "get_id_by_elem", "get_elem_list"):
        assert hasattr(manager.Manager, method)
    assert common._clean_cmd({"a": None, "b": False, "c": "", "d": 0, "packing": False}) == {"d": 0, "packing": False}


def test_save_dirs_are_made_of_names_and_paths_are_taken_as_they_are():
    assert common.get_save_dir("A model", "lora", "x") == "saves/Amodel/lora/x"
    assert common.get_save_dir("any", "lora", "a/b") == "a/b"


def test_the_board_has_the_parts_that_the_tab_is_handed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = engine.Engine()
    assert (made.runner.running, made.demo_mode, made.chatter.loaded) == (False, False, False)
    made.chatter.engine = SimpleNamespace()
    assert made.chatter.loaded
    made.chatter.engine = None


def test_texts_are_found_by_an_elements_name_in_one_dictionary():
    assert engine.LOCALES is locales.LOCALES
    assert "LOCALES[elem_name][lang]" in inspect.getsource(engine.Engine.change_lang)
    assert not [name for name in locales.LOCALES if name.startswith("fcit_") and name not in _OURS()]
    for name in (
        "err_no_model",
        "err_no_path",
        "err_no_output_dir",
        "err_demo",
        "err_conflict",
        "info_loaded",
        "info_unloaded",
    ):
        assert {*locales.ALERTS[name]} >= {"en", "ru", "zh", "ko", "ja"}
    for name in ("cmd_preview_btn", "start_btn", "stop_btn", "unload_btn", "output_dir", "dataset_dir", "max_new_tokens"):
        assert name in locales.LOCALES


def _OURS():  # they are there once a board was made
    from fcit_plugin.board.form import widgets
    from fcit_plugin.board.texts import locales as ours

    return ours(widgets())


def test_a_model_is_chosen_by_these_elements():
    made = manager.Manager()
    with gr.Blocks():
        made.add_elems("top", components.create_top())
    for name in ("lang", "model_name", "model_path", "finetuning_type"):
        made.get_elem_by_id(f"top.{name}")
    forms = [element for element in made.get_elem_list() if isinstance(element, gr.components.FormComponent)]
    assert {*made.get_base_elems()} <= {*forms}


def test_replies_are_streamed_by_a_generator_that_asks_its_own_stream_chat():
    asked = []

    class Chat:
        engine = SimpleNamespace(template=SimpleNamespace(enable_thinking=None, thought_words=("<t>", "</t>")))

        def stream_chat(self, *args, **kwargs):
            asked.append(kwargs)
            yield "one"

    found = chatter.WebChatModel.stream.__wrapped__(
        Chat(), [], [], "en", "", "", None, None, None, 4, 1.0, 1.0, True, True, True
    )
    assert isinstance(found, GeneratorType)
    ((chatbot, messages),) = found
    assert chatbot == [{"role": "assistant", "content": "one"}] and messages[-1]["content"] == "one" and len(asked) == 1


def test_the_engine_of_a_chat_has_its_processor():
    from llamafactory.chat.hf_engine import HuggingfaceEngine

    assert "self.processor =" in inspect.getsource(HuggingfaceEngine.__init__)


def test_tabs_that_follow_each_other_are_one_row_of_tabs():
    with gr.Blocks() as page:
        with gr.Tab("a"):
            gr.Textbox()
        with gr.Tab("b"):
            gr.Textbox()
        gr.Textbox()
    first, second = (block for block in page.blocks.values() if isinstance(block, gr.Tab))
    assert first.parent is second.parent and isinstance(first.parent, gr.Tabs)


def test_an_update_changes_what_it_names_alone():
    update = gr.Number(visible=False)
    assert update.constructor_args == {"visible": False}


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The board's page and its elements."""
    monkeypatch.chdir(tmp_path)
    with gr.Blocks() as blocks:
        made = engine.Engine()
        made.manager.add_elems("top", components.create_top())
        made.manager.add_elems("train", components.create_train_tab(made))
    return blocks, made.manager


def test_the_fields_that_a_recipe_fills_in_are_there(page):
    from fcit_plugin.seams import board_fields

    _, held = page
    named = {*board_fields._KEYS, *board_fields._STAY, *board_fields._EMPTY, *board_fields._choices({}), board_fields._STAGE}
    assert [name for name in named if name not in held._id_to_elem] == []
    assert held.get_elem_by_id("train.extra_args").value == '{"optim": "adamw_torch"}'
    kinds = {type(held.get_elem_by_id(name)) for name in held._id_to_elem if name.startswith("top.")}
    assert kinds <= {gr.Dropdown, gr.Textbox}


def test_only_these_fields_change_when_others_are_filled_in(page):
    """What a recipe fills in shall stay: of these some stay as they are, the packing is said under Further keys."""
    blocks, held = page
    inputs = {
        element._id: name for name, element in held._id_to_elem.items() if isinstance(element, gr.components.FormComponent)
    }
    found = {}
    for function in blocks.fns.values():
        for source, event in function.targets:
            if event == "change" and source in inputs:
                outputs = {inputs[one._id] for one in function.outputs if one._id in inputs}
                found.setdefault(inputs[source], set()).update(outputs)
    assert {name: fields for name, fields in found.items() if fields} == {
        "top.model_name": {"top.model_path", "top.template", "train.output_dir"},
        "top.finetuning_type": {"top.quantization_bit", "train.output_dir"},
        "top.quantization_method": {"top.quantization_bit"},
        "train.resume_btn": {"train.progress_bar"},
        "train.training_stage": {"train.dataset", "train.packing"},
        "train.output_dir": {"train.output_dir"},
        "train.config_path": {"train.config_path"},
    }


def test_a_reply_knows_whose_browser_asks():
    from gradio.context import LocalContext
    from gradio.utils import get_function_with_locals

    def reply():
        yield LocalContext.request.get().session_hash

    asked = SimpleNamespace(session_hash="one")
    assert [*get_function_with_locals(reply, None, "event", True, asked, None)()] == ["one"]
    assert LocalContext.request.get() is None
