"""The tab FCIT of LLaMA Board: made by the board's own function, used through the functions that its buttons call."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import yaml
from runs import report_of, run_recipe

gr = pytest.importorskip("gradio", exc_type=ImportError)  # some of its releases do not go with huggingface_hub 1

from fcit_plugin.board.form import own_keys, widgets  # noqa: E402
from fcit_plugin.board.run import Status  # noqa: E402
from fcit_plugin.board.texts import LANGUAGES, locales  # noqa: E402
from fcit_plugin.recipe.read import read_yaml  # noqa: E402
from fcit_plugin.seams import components  # noqa: E402


@pytest.fixture
def filled_in(board, text_keys):
    """The values of all inputs, with some filled in by their ids."""
    _, engine, actions = board

    def values(**given):
        element = engine.manager.get_elem_by_id
        data = {one: getattr(one, "value", None) for one in actions.inputs}
        first = {
            "top.lang": "en",
            "top.model_name": "Custom",
            "top.model_path": text_keys["model_name_or_path"],
            "top.template": text_keys["template"],
            "top.checkpoint_path": [],
            "train.dataset": [],
            "train.compute_type": "fp32",
            "train.learning_rate": "0.01",
            "train.num_train_epochs": "1.0",
            "train.logging_steps": 1,
            "train.lora_target": text_keys["lora_target"],
            "fcit.dataset_dir": text_keys["dataset_dir"],
            "fcit.fcit_stages": "color letter",
            "fcit.fcit_num_clients": 3,
            "fcit.fcit_clients_per_round": 2,
            "fcit.fcit_num_rounds": 1,
            "fcit.fcit_min_client_samples": 4,
            "fcit.output_dir": "from_tab",
            "fcit.fcit_extra_args": json.dumps({"default_system": "", "fcit_identity_min_records": 1, "use_cpu": True}),
        }
        return data | {element(name): value for name, value in {**first, **given}.items()}

    return values


def recipe_in(shown: str) -> dict:
    """The recipe within a previewed command."""
    return yaml.safe_load(shown.partition("<<'END_OF_RECIPE'\n")[2].partition("\nEND_OF_RECIPE")[0])


def test_it_stands_behind_the_boards_own_tabs(board):
    page, engine, _ = board
    assert labels_of_tabs(page) == ["Train", "Evaluate & Predict", "Chat", "Export", "FCIT"]
    assert {*widgets()} <= {name.partition(".")[2] for name in engine.manager._id_to_elem if name.startswith("fcit.")}
    assert components._BEGUN == []


def labels_of_tabs(page):
    return [block.label for block in page.blocks.values() if isinstance(block, gr.Tab) and block.parent.parent is page]


def test_it_is_not_there_where_strangers_come(board):
    from llamafactory.webui import interface

    assert labels_of_tabs(interface.create_ui(demo_mode=True)) == ["Train", "Evaluate & Predict", "Chat"]


def test_the_board_is_there_without_it(board, monkeypatch, caplog):
    """As with a version of gradio that does not take what the tab asks for."""
    from llamafactory.webui import interface

    monkeypatch.setattr(logging.getLogger("fcit_plugin"), "parent", logging.getLogger())
    monkeypatch.setattr("fcit_plugin.board.tab.create_tab", lambda host: gr.Textbox(no_such=True))
    assert labels_of_tabs(interface.create_ui())[:4] == ["Train", "Evaluate & Predict", "Chat", "Export"]
    assert "no working tab FCIT: TypeError" in caplog.text


@pytest.mark.parametrize("lang", LANGUAGES)
def test_it_follows_the_boards_language(board, lang):
    _, engine, _ = board
    said = engine.change_lang(lang)
    for name, texts in locales(widgets()).items():
        shown = said[engine.manager.get_elem_by_id(f"fcit.{name}")]
        assert {key: getattr(shown, key) for key in texts[lang]} == texts[lang]
    assert len({element.elem_id for name, element in engine.manager._id_to_elem.items() if name.startswith("fcit.")}) > 40


def test_the_previewed_recipe_is_what_start_writes_and_it_runs(board, filled_in, tmp_path, monkeypatch):
    """From the form to a report: the recipe is the one that is shown, and the run has the stages that were typed."""
    _, _, actions = board
    notes, shown = actions.preview(filled_in(**{"fcit.fcit_method": "ewc", "fcit.fcit_ewc_samples": 3.0}))
    keys = recipe_in(shown.value)
    assert (keys["fcit_method"], keys["fcit_ewc_samples"], keys["fcit_stages"]) == ("ewc", 3, [["color"], ["letter"]])
    assert "fcit_local_stage" in notes and keys["output_dir"] == "saves/Custom/lora/from_tab"
    started = []
    monkeypatch.setattr(actions.run, "start", lambda recipe, folder: started.append((recipe, folder)))
    actions.start(filled_in(**{"fcit.fcit_method": "ewc", "fcit.fcit_ewc_samples": 3.0}))
    ((recipe, folder),) = started
    assert yaml.safe_load(recipe) == keys and folder == Path(keys["output_dir"])
    run_recipe(read_yaml(tiny.write_recipe(tmp_path / "recipe.yaml", yaml.safe_load(recipe))))
    report = report_of(tmp_path / folder)
    assert (report["stages"], report["method"]) == ([["color"], ["letter"]], "ewc")
    status, _, matrix, curve, _, _ = actions.watch("en", "Custom", "lora", "from_tab", None)
    assert status == "Finished." and "color" in matrix and curve.visible


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"top.model_name": None}, "select a model"),
        ({"top.model_path": ""}, "Model not found"),
        ({"fcit.output_dir": ""}, "output dir"),
        ({"fcit.fcit_stages": ""}, "fcit_stages"),
        ({"fcit.fcit_stages": "color leter"}, "letter"),
        ({"fcit.fcit_clients_per_round": 9}, "fcit_clients_per_round"),
        ({"fcit.fcit_extra_args": '{"fcit_num_clint": 3}'}, "fcit_num_clients"),
        ({"fcit.dataset_dir": "nowhere"}, "color"),
        ({"train.learning_rate": "fast"}, "fast"),
        ({"train.extra_args": "{"}, "Expecting"),
        ({"train.training_stage": "PPO"}, "ppo"),
        ({"top.finetuning_type": "full"}, "finetuning_type"),
    ],
)
def test_what_cannot_run_is_refused_where_it_is_typed(board, filled_in, given, named):
    _, _, actions = board
    for press in (actions.preview, actions.start):
        said, shown = press(filled_in(**given))
        assert named in said.replace("&#95;", "_") and said.startswith("**") and not shown.visible
    assert not actions.run.running


@pytest.mark.parametrize("choice", ["fcit_method", "fcit_server_rule"])
def test_a_chosen_part_shows_its_own_keys(board, choice):
    page, engine, _ = board
    element = engine.manager.get_elem_by_id(f"fcit.{choice}")
    (change,) = [fn for fn in page.fns.values() if (element._id, "input") in fn.targets]
    for name in widgets()[choice].choices:
        shown = {one.elem_id: value for one, value in zip(change.outputs, change.fn(name), strict=True)}
        expected = own_keys(choice, name)
        assert {elem_id.partition(".")[2]: value.visible for elem_id, value in shown.items()} == {
            key: has for key, (has, _) in expected.items()
        }
        assert all(value.value == expected[elem_id.partition(".")[2]][1] for elem_id, value in shown.items() if value.visible)


def test_nothing_is_sent_where_nothing_is_new(board, text_run):
    _, _, actions = board
    where = ("en", None, "lora", str(text_run))
    *_, seen = actions.watch(*where, None)
    assert all(value == gr.skip() for value in actions.watch(*where, seen))
    assert actions.watch("ru", *where[1:], seen)[0] != gr.skip()
    assert all(value == gr.skip() for value in actions.watch("en", None, "lora", "no path", None))


def test_a_damaged_folder_is_named(board, tmp_path):
    _, _, actions = board
    (tmp_path / "trainer_log.jsonl").write_text("{\n")
    assert "trainer" in actions.watch("en", None, "lora", str(tmp_path), None)[0]


def test_a_report_is_opened_in_a_frame(board, text_run, tmp_path):
    _, _, actions = board
    page, opened = actions.report("en", None, "lora", str(text_run))
    assert page.startswith("<iframe") and opened.open
    assert actions.report("en", None, "lora", f"{tmp_path}/none")[0] == ""


def answer(engine, task, session="one"):
    """What the page shows below the reply to a question of a task, in one browser's session."""
    from gradio.context import LocalContext

    chatbot, messages, _ = engine.chatter.append([], [], "user", f"{tiny.TASKS[task][0]} red", True)
    token = LocalContext.request.set(SimpleNamespace(session_hash=session))
    try:
        args = ("en", "", "", None, None, None, 4, 1.0, 0.01, True, True, True)
        *_, (chatbot, messages) = engine.chatter.stream(chatbot, messages, *args)
    finally:
        LocalContext.request.reset(token)
    assert [message["role"] for message in messages] == ["user", "assistant"] and "answered" not in messages[-1]["content"]
    assert chatbot[-1]["role"] == "assistant"
    return chatbot[-1]["content"]


def test_a_chat_with_a_run_shows_who_answered(board, text_run, tmp_path):
    _, engine, actions = board
    where = ("en", None, "lora")
    said, *_, box, pictures, who = actions.load_chat(*where, f"{tmp_path}/none")
    assert "no finished run" in said and not box.visible and not who.visible
    said, *_, box, pictures, who = actions.load_chat(*where, str(text_run))
    assert said == "Model loaded, now you can chat with your model!" and box.visible and not pictures.visible
    for task in ("color", "letter"):
        assert f"({task}) answered, weight" in answer(engine, task)
    *_, box, _, who = actions.unload_chat("en")
    assert not box.visible and not engine.chatter.loaded and not who.visible


def test_a_subspace_is_asked_for_in_one_browser_and_as_long_as_the_model_is_there(board, text_run):
    _, engine, actions = board
    *_, who = actions.load_chat("ru", None, "lora", str(text_run))
    choices = dict(who.choices)
    assert [*choices] == ["маршрутизация", "0 (color)", "1 (letter)"] and who.value == choices["маршрутизация"] and who.visible
    actions.choose(choices["1 (letter)"], SimpleNamespace(session_hash="one"))
    assert "subspace 1 (letter) answered, weight 1.00, cosine" in answer(engine, "color")
    assert "subspace 0 (color) answered" in answer(engine, "color", session="another")
    actions.choose(choices["0 (color)"], SimpleNamespace(session_hash="one"))
    assert "subspace 0 (color) answered, weight 1.00" in answer(engine, "letter")
    actions.choose(who.value, SimpleNamespace(session_hash="one"))
    assert "(letter) answered" in answer(engine, "letter")
    actions.choose(choices["0 (color)"], SimpleNamespace(session_hash="one"))
    actions.unload_chat("en")
    actions.load_chat("en", None, "lora", str(text_run))
    assert "(letter) answered" in answer(engine, "letter")
    actions.unload_chat("en")
    actions.choose(choices["0 (color)"], SimpleNamespace(session_hash="one"))  # of a page that still shows the choice


def test_the_boards_own_tabs_and_ours_do_not_train_at_once(board, filled_in, monkeypatch):
    _, engine, actions = board
    data = filled_in(**{"train.dataset": ["color"], "train.output_dir": "x"})
    conflict = "A process is in running, please abort it first."
    monkeypatch.setattr(type(actions.run), "running", property(lambda run: True))
    assert engine.runner._initialize(data, True, False) == conflict and engine.runner._initialize(data, True, True) == ""
    monkeypatch.undo()
    monkeypatch.setattr(engine.runner, "running", True)
    assert conflict in actions.start(filled_in())[0]
    assert actions.run.status(Path("saves/Custom/lora/from_tab")) is Status.NONE
