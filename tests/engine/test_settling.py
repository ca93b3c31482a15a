"""Encoder and threshold of `auto`: what they become, who decides, and who goes on with it."""

import json

import numpy as np
import pytest
import tiny
from llamafactory.hparams import get_train_args
from runs import report_of, run_recipe

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.engine.open_session import open_session
from fcit_plugin.engine.settling import choose
from fcit_plugin.errors import FcitError
from fcit_plugin.knowledge import prompt_encoder
from fcit_plugin.knowledge.nearness import nearness_of_recipe
from fcit_plugin.samples.mini.build import base_model_path
from fcit_plugin.samples.text import text_model_path
from fcit_plugin.state.folder import StateFolder

WORDS = [*(word for instruction, _ in tiny.TASKS.values() for word in instruction.split()), "red", "green"]
#: Pairs that a model of these words tells apart, for both of a pair are the same.
EASY = [[f"{word} {other}"] * 2 for word, other in zip(WORDS, WORDS[1:] + WORDS[:1], strict=True)][:20]


@pytest.fixture
def easy(monkeypatch, tmp_path):
    """Public pairs that the tiny models tell; nothing of other pairs is in the cache."""
    monkeypatch.setenv("FCIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(prompt_encoder, "public_pairs", lambda: EASY)


def opened(keys):
    """A session of a recipe."""
    return open_session(*get_train_args(keys))


def manifest_of(folder):
    return json.loads((folder / "fcit_manifest.json").read_text())


@pytest.mark.parametrize("path", [base_model_path, text_model_path], ids=["fcit-mini", "fcit-mini-text"])
def test_the_embedded_models_keep_their_embedding(path):
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

    kind = AutoModelForImageTextToText if (path() / "processor_config.json").exists() else AutoModelForCausalLM
    name, reason = choose(kind.from_pretrained(path()).eval(), AutoTokenizer.from_pretrained(path()))
    told = int(reason.split()[4])
    assert name == "embedding" and "of 20 public pairs" in reason
    assert told <= 10  # far below the 15 that are wanted: no rounding moves it


def test_a_run_of_auto_is_that_of_the_encoder_it_becomes(text_keys, text_run, tmp_path):
    manifest, report = manifest_of(text_run), report_of(text_run)
    assert (manifest["identity_encoder"], manifest["similarity_threshold"]) == ("embedding", 0.9)
    assert report["arguments"]["fcit_identity_encoder"] == "embedding"
    assert report["arguments"]["fcit_similarity_threshold"] == 0.9
    assert report["encoder_choice"].startswith("embedding: the base model tells ")
    named = {"fcit_identity_encoder": "embedding", "fcit_similarity_threshold": 0.9}
    other = run_recipe({**text_keys, **named, "output_dir": str(tmp_path / "out")})
    for k in range(len(manifest["subspaces"])):
        weights = [(run / f"subspaces/{k}/adapter_model.safetensors").read_bytes() for run in (text_run, other)]
        assert weights[0] == weights[1]
    assert "encoder_choice" not in report_of(other)


@pytest.mark.usefixtures("easy")
def test_a_base_model_that_tells_rewordings_is_its_own_encoder(text_keys, tmp_path, monkeypatch):
    keys = {**text_keys, "output_dir": str(tmp_path / "out")}
    run = run_recipe(keys)
    manifest = manifest_of(run)
    assert (manifest["identity_encoder"], manifest["similarity_threshold"]) == ("prompt", 0.75)
    assert report_of(run)["encoder_choice"] == "prompt: the base model tells 20 of 20 public pairs of rewordings"
    state = StateFolder(run).load()
    assert state.tokens.sums.shape[1] == 2 * 32

    # whoever goes on does as the run did, whatever it would find of the model itself
    monkeypatch.setattr(prompt_encoder, "public_pairs", lambda: [["x", "y"]] * 20)
    monkeypatch.setenv("FCIT_CACHE", str(tmp_path / "another"))
    for stages in (text_keys["fcit_stages"], [["number"]]):
        more = {"adapter_name_or_path": str(run)} if stages == [["number"]] else {}
        session = opened({**keys, "fcit_stages": stages, **more, **({"output_dir": str(tmp_path / "more")} if more else {})})
        assert session.args.fcit_identity_encoder == "prompt" and session.args.fcit_similarity_threshold == 0.75
        assert (session.start is None) == bool(more)
    evaluated = opened({**keys, "do_train": False, "adapter_name_or_path": str(run), "output_dir": str(tmp_path / "again")})
    assert evaluated.args.fcit_identity_encoder == "prompt"


@pytest.mark.usefixtures("easy")
def test_sites_and_the_one_that_averages_go_by_the_state(text_keys, tmp_path, monkeypatch):
    aggregate = {**text_keys, "stage": "fcit_aggregate", "output_dir": str(tmp_path / "state")}
    for key in ("fcit_keep_client_updates", "report_to"):
        aggregate.pop(key, None)
    first = run_recipe(aggregate)
    assert manifest_of(first)["identity_encoder"] == "prompt" and manifest_of(first)["similarity_threshold"] == 0.75
    monkeypatch.setattr(prompt_encoder, "public_pairs", lambda: [["x", "y"]] * 20)
    site = {**aggregate, "fcit_state_dir": str(first)}
    update = run_recipe({**site, "stage": "fcit_client", "fcit_client": 0, "output_dir": str(tmp_path / "update")})
    following = run_recipe({**site, "fcit_update_dirs": str(update), "output_dir": str(tmp_path / "next")})
    assert manifest_of(following)["identity_encoder"] == "prompt"
    assert StateFolder(following).load().tokens.counts.sum() > 0
    with pytest.raises(FcitError, match=r"`fcit_identity_encoder` is 'embedding', but the state .* was made with 'prompt'"):
        opened(
            {
                **site,
                "stage": "fcit_client",
                "fcit_client": 0,
                "fcit_identity_encoder": "embedding",
                "output_dir": str(tmp_path),
            }
        )


#: A recipe in which nobody has to ask the base model -> why.
AT_ONCE = {
    "no tokens decide": ({"fcit_method": "sequential"}, "`fcit_method: sequential` does not go by tokens"),
    "raw": ({"fcit_identity_center": False}, "`fcit_identity_center: false` wants raw tokens"),
}


@pytest.mark.usefixtures("easy")
@pytest.mark.parametrize("kind", AT_ONCE)
def test_where_no_model_has_to_be_asked_it_is_embedding(kind, text_keys, tmp_path):
    changes, reason = AT_ONCE[kind]
    session = opened({**text_keys, **changes, "output_dir": str(tmp_path / "out")})
    assert session.args.fcit_identity_encoder == "embedding"
    assert session.encoder_choice == f"embedding: {reason}" and session.args.fcit_similarity_threshold == 0.9


def test_a_number_is_never_changed_and_a_named_encoder_brings_its_own(text_keys, text_model, tmp_path):
    changes = {"fcit_identity_encoder": "prompt", "fcit_similarity_threshold": 0.6, "output_dir": str(tmp_path / "out")}
    assert opened({**text_keys, **changes}).args.fcit_similarity_threshold == 0.6
    clip = tiny.clip(tmp_path / "clip")
    for encoder, threshold in ((str(clip), 0.9), (str(text_model), 0.75)):
        session = opened({**text_keys, **changes, "fcit_identity_encoder": encoder, "fcit_similarity_threshold": "auto"})
        assert session.args.fcit_similarity_threshold == threshold


def test_what_a_server_goes_by_is_the_encoders_but_for_a_threshold_of_the_recipe():
    plain = nearness_of_recipe(FcitArguments())
    assert (plain.threshold, plain.of_one_kind) == (0.9, 0.9)
    for source, center, of_one_kind in (("text", True, 0.5), ("both", True, 0.9), ("text", False, 0.9)):
        keys = {"fcit_identity_source": source, "fcit_identity_center": center, "fcit_similarity_threshold": 0.8}
        near = nearness_of_recipe(FcitArguments(fcit_identity_encoder="prompt", **keys))
        assert (near.threshold, near.of_one_kind) == (0.8, of_one_kind)


@pytest.mark.usefixtures("easy")
def test_a_model_whose_code_fails_is_given_its_embedding_with_the_reason(text_model):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(text_model).eval()
    model.model.layers[0].register_forward_pre_hook(lambda *args: np.zeros(3)[7])
    name, reason = choose(model, AutoTokenizer.from_pretrained(text_model))
    assert name == "embedding" and reason.startswith("the base model gives no hidden states (IndexError: ")
