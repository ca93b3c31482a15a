"""Adapters for servers that cannot run the run's encoder: another one's tokens, made of a dataset, and how routing differs."""

import json

import numpy as np
import pytest
import tiny
from llamafactory.chat import ChatModel
from llamafactory.hparams import get_train_args
from runs import infer_args, run_recipe
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from fcit_plugin.engine.open_session import open_session
from fcit_plugin.errors import FcitError
from fcit_plugin.knowledge.activation import Router
from fcit_plugin.knowledge.encoders import make_encoder
from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.knowledge.vectors import unit
from fcit_plugin.serving.export_adapters import export_adapters
from fcit_plugin.serving.other_router import other_router
from fcit_plugin.state.folder import StateFolder

COLORS = ("red", "green", "blue", "grey")


class Letters:
    """Tells texts by the letters that they have."""

    def encode(self, texts):
        return np.array([[text.count(letter) for letter in "abcdefghij"] for text in texts], np.float32)


class FirstLetter:
    """Tells texts by their first letter."""

    def encode(self, texts):
        return np.eye(26, dtype=np.float32)[[ord(text[0]) - 97 for text in texts]]


def test_tokens_are_made_of_every_second_instruction_and_the_others_are_asked():
    own = Router(FirstLetter(), SubspaceTokens(np.eye(26, dtype=np.float32)[:3], np.array([5, 5, 5])), "argmax", 1.0, "first")
    said = [("aaa",), ("ab",), ("bbb",), ("bbj",), ("ahh",), ("bia",), ("aaa",)]
    router, agreement = other_router(own, Letters(), said)
    rows = Letters().encode(["aaa", "bbb", "ahh"])
    expected = [rows[0] + rows[2], rows[1], 0 * rows[0]]
    np.testing.assert_array_equal(router.tokens.sums, expected)
    assert router.tokens.counts.tolist() == [2, 1, 0]
    assert (agreement.asked, agreement.lost) == (3, (2,))
    asked = Letters().encode(["ab", "bbj", "bia"])
    cosines = unit(asked) @ unit(np.array(expected)).T
    assert agreement.alike == sum(cosines[:, :2].argmax(axis=1) == [0, 1, 1])
    assert str(agreement) == "of 3 instructions it sends 2 (67%) where the run does, and never finds subspace 2"
    with pytest.raises(FcitError, match="two different instructions"):
        other_router(own, Letters(), [("a",), ("a",)])


@pytest.fixture(scope="module")
def prompt_run(text_keys, tmp_path_factory):
    """A run whose tokens are the base model's hidden states."""
    out = tmp_path_factory.mktemp("prompt_run") / "out"
    return run_recipe({**text_keys, "fcit_identity_encoder": "prompt", "output_dir": str(out)})


def test_a_run_by_prompt_is_written_for_servers_by_another_encoder(prompt_run, text_keys, text_data, tmp_path):
    out = tmp_path / "adapters"
    export_adapters(prompt_run, out, router_data=["color", "letter"], dataset_dir=str(text_data))
    router = json.loads((out / "router.json").read_text())
    assert router["encoder"]["kind"] == "table" and router["differs"].startswith("of 4 instructions it sends ")
    path = text_keys["model_name_or_path"]
    encoder = make_encoder(
        "embedding", "mean", True, AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    )
    tokens = load_file(out / "router.safetensors")["tokens"]
    assert len(tokens) == len(router["adapters"]) and tokens.shape[1] == 32
    own = encoder.encode([f"{tiny.TASKS['color'][0]} {color}" for color in COLORS]).mean(axis=0)
    assert (unit(tokens) @ unit(own[None])[0]).max() > 0.9


def test_it_is_served_as_it_was_evaluated(prompt_run, text_keys, tmp_path):
    chat = ChatModel(infer_args(text_keys, prompt_run, infer_backend="huggingface", max_new_tokens=4, do_sample=False))
    served = chat.engine.model.fcit_routing.router
    session = open_session(
        *get_train_args({**text_keys, "fcit_identity_encoder": "prompt", "output_dir": str(tmp_path / "out")})
    )
    state, shape = StateFolder(prompt_run).load(), ("softmax", 0.05, "auto")
    evaluated = Router(session.encoder, state.tokens, *shape)
    said = [(f"{text} {color}",) for text, _ in tiny.TASKS.values() for color in COLORS]
    said.append((f"blue blue? {tiny.TASKS['letter'][0]} red. {tiny.TASKS['number'][0]}!", "please"))
    np.testing.assert_allclose(served.weights(said), evaluated.weights(said), atol=1e-4)
    assert served.listen(said)[1] == evaluated.listen(said)[1]
    asked = {"role": "user", "content": said[0][0]}
    assert len({chat.chat([asked])[0].response_text for _ in range(2)}) == 1


#: What is asked of the run by prompt, and what is said.
REFUSED = {
    "no data": ({}, "tokens of `fcit_identity_encoder: prompt`.*--router-data.*--no-router"),
    "an encoder, no data": (
        {"router_encoder": "embedding"},
        "--router-encoder embedding is not the run's .prompt.*--router-data",
    ),
    "the run's own": ({"router_encoder": "prompt", "router_data": ["color"]}, "which servers without this plugin do not give"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_router_cannot_be_made_of_is_refused_before_anything_is_loaded(kind, prompt_run, tmp_path):
    changes, message = REFUSED[kind]
    with pytest.raises(FcitError, match=message):
        export_adapters(prompt_run, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_data_without_an_encoder_is_refused_where_the_runs_own_can_be_written(text_run, tmp_path):
    with pytest.raises(FcitError, match=r"--router-data is for another encoder than the run's .embedding"):
        export_adapters(text_run, tmp_path / "out", router_data=["color"])


def test_adapters_alone_need_no_router(prompt_run, tmp_path):
    export_adapters(prompt_run, tmp_path / "out", with_router=False)
    assert (tmp_path / "out" / "subspace_0" / "adapter_config.json").exists()
