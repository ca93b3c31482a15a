"""LLaMA Board (``llamafactory-cli webui``) on what a run left: its list of checkpoints, chat, export and training.

Its tab FCIT is in test_board_tab.py.
"""

import json

import pytest
import tiny
import yaml
from llamafactory.chat import ChatModel
from llamafactory.train.tuner import export_model
from runs import infer_args, report_of, run_recipe
from safetensors.torch import load_file

gr = pytest.importorskip("gradio", exc_type=ImportError)  # some of its releases do not go with huggingface_hub 1

QUESTIONS = [f"{tiny.TASKS[task][0]} {color}" for color in ("red", "grey") for task in ("color", "letter")]


@pytest.fixture
def board(tmp_path, monkeypatch):
    """The elements and functions of LLaMA Board, started in a folder of its own."""
    from llamafactory.webui.components import create_infer_tab, create_top, create_train_tab
    from llamafactory.webui.engine import Engine

    monkeypatch.chdir(tmp_path)
    with gr.Blocks():
        engine = Engine()
        engine.manager.add_elems("top", create_top())
        engine.manager.add_elems("train", create_train_tab(engine))
        engine.manager.add_elems("infer", create_infer_tab(engine))
    return engine


@pytest.fixture
def filled_in(board, text_keys):
    """The values of the board's elements, with some filled in by their names."""

    def values(given):
        top = {"lang": "en", "model_name": "Custom", "model_path": text_keys["model_name_or_path"], "checkpoint_path": []}
        given = {f"top.{key}": value for key, value in {**top, "template": text_keys["template"]}.items()} | given
        data = {element: getattr(element, "value", None) for element in board.manager.get_elem_list()}
        return data | {board.manager.get_elem_by_id(name): value for name, value in given.items()}

    return values


def test_output_folders_are_among_the_checkpoints(board, text_run, tmp_path):
    from llamafactory.webui.control import list_checkpoints

    saves = tmp_path / "saves" / "Custom" / "lora"
    (saves / "empty").mkdir(parents=True)
    (saves / "disco").symlink_to(text_run)
    assert [value for _, value in list_checkpoints("Custom", "lora").choices] == ["disco"]


@pytest.mark.parametrize("by_name", [True, False])
def test_its_chat_answers_as_chat_does(board, filled_in, text_run, text_keys, tmp_path, by_name):
    (tmp_path / "saves" / "Custom" / "lora").mkdir(parents=True)
    (tmp_path / "saves" / "Custom" / "lora" / "disco").symlink_to(text_run)
    extra = json.dumps({"default_system": text_keys["default_system"]})
    data = filled_in({"top.checkpoint_path": ["disco" if by_name else str(text_run)], "infer.extra_args": extra})
    assert list(board.chatter.load_model(data))[-1] == "Model loaded, now you can chat with your model!"
    plain = ChatModel(infer_args(text_keys, text_run, infer_backend="huggingface"))
    for text in QUESTIONS:
        message, greedy = [{"role": "user", "content": text}], {"max_new_tokens": 4, "do_sample": False}
        (found,), (expected,) = (chat.chat(message, **greedy) for chat in (board.chatter, plain))
        assert found.response_text == expected.response_text


def test_its_export_is_that_of_the_command(board, text_run, text_keys, tmp_path):
    from llamafactory.webui.components.export import save_model

    extra = {"fcit_export_weights": "letter", "infer_dtype": "float32"}
    where = ("en", "Custom", text_keys["model_name_or_path"], "lora", [str(text_run)], text_keys["template"])
    said = list(save_model(*where, 5, "none", "", "cpu", False, "by_board", "", json.dumps(extra)))
    assert said[-1] == "Model exported."
    export_model(infer_args(text_keys, text_run, export_dir=str(tmp_path / "by_command"), **extra))
    found, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("by_board", "by_command"))
    assert found.keys() == expected.keys() and all(found[key].equal(expected[key]) for key in found)


def test_a_run_is_started_from_it_with_extra_arguments(board, filled_in, text_keys, tmp_path):
    """``dataset: null`` takes back the dataset that the board wants to be named."""
    kept = ("stage", "fcit_setting", "fcit_stages", "fcit_num_clients", "fcit_clients_per_round", "fcit_min_client_samples")
    kept += ("fcit_beta", "fcit_identity_encoder", "lora_rank", "lora_target", "default_system", "do_train")
    extra = {key: text_keys[key] for key in kept if key in text_keys}
    extra |= {"dataset": None, "bf16": False, "max_steps": 1, "fcit_num_rounds": 1, "fcit_eval_every": "never"}
    extra |= {"preprocessing_num_workers": 1, "use_cpu": True}
    given = {"train.dataset_dir": text_keys["dataset_dir"], "train.dataset": ["color"], "train.output_dir": "from_board"}
    given |= {"train.extra_args": json.dumps(extra), "train.report_to": "none"}
    keys = board.runner._parse_train_args(filled_in(given))
    keys = yaml.safe_load(yaml.safe_dump(keys))  # as it is handed to llamafactory-cli
    run_recipe(keys)
    assert report_of(tmp_path / keys["output_dir"])["stages"] == text_keys["fcit_stages"]
