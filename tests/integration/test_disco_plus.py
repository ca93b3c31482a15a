"""disco_plus in whole runs: trained like DISCO to the bit, activated and exported by the kinds of instructions."""

import json

import numpy as np
import pytest
import tiny
from runs import report_of, run_recipe, weight_bytes
from test_export_adapters import run_docs

from fcit_plugin.federation.state import load_state
from fcit_plugin.integration.learnt import Learnt
from fcit_plugin.knowledge.activation import Router
from fcit_plugin.knowledge.bundle import write_router
from fcit_plugin.knowledge.encoders import make_encoder


@pytest.fixture(scope="module")
def outputs(text_model, text_data, tmp_path_factory):
    """A run of each method on the same data: a task of two data sets, then one of one."""
    stages, made = [["color", "letter"], ["number"]], {}
    for method in ("disco", "disco_plus"):
        output = tmp_path_factory.mktemp(method) / "out"
        keys = tiny.recipe(text_model, text_data, output, fcit_method=method, fcit_stages=stages, fcit_zero_shot=False)
        made[method] = run_recipe(keys)
    return made


def test_what_is_trained_is_disco_s_to_the_bit_and_little_more_travels(outputs):
    def weights(output):
        return {name: data for name, data in weight_bytes(output).items() if name.startswith(("subspaces", "shared"))}

    assert weights(outputs["disco"]) == weights(outputs["disco_plus"])
    reports = [report_of(outputs[method]) for method in ("disco", "disco_plus")]
    assert reports[0]["assignments"] == reports[1]["assignments"]
    assert reports[0]["bytes_up"] < reports[1]["bytes_up"] < 2 * reports[0]["bytes_up"]
    assert reports[0]["bytes_down"] == reports[1]["bytes_down"]


def test_each_subspace_knows_its_kinds_and_weighs_by_the_nearest(outputs, text_model):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokens, plain = (load_state(outputs[method])[0].tokens for method in ("disco_plus", "disco"))
    assert plain.kinds is None and tokens.sums.tobytes() == plain.sums.tobytes()
    assert len(tokens.kinds) == tokens.num_subspaces and all(len(part.counts) for part in tokens.kinds)
    model = AutoModelForCausalLM.from_pretrained(text_model)
    router = Learnt.read(outputs["disco_plus"]).router(model, AutoTokenizer.from_pretrained(text_model))
    asked = np.concatenate([part.means for part in tokens.kinds])
    owners = np.repeat(np.arange(len(tokens.kinds)), [len(part.counts) for part in tokens.kinds])
    rows = asked / np.linalg.norm(asked, axis=1, keepdims=True)
    near = np.stack([(rows @ rows[owners == k].T).max(axis=1) for k in range(len(tokens.kinds))], axis=1)
    expected = np.exp(near / 0.05) / np.exp(near / 0.05).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(router.weights_of(asked), expected, atol=1e-4)


def test_the_lines_in_the_docs_pick_the_subspace_of_the_nearest_kind(outputs, text_model, tmp_path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(text_model)
    encoder = make_encoder("embedding", "mean", True, model, tiny.tokenizer())
    tokens = load_state(outputs["disco_plus"])[0].tokens
    names = [{"name": str(k)} for k in range(tokens.num_subspaces)]
    router = Router(encoder, tokens, "softmax", 0.05)
    write_router(tmp_path / "adapters", router, names, "base")
    pick = run_docs(tmp_path, "router")["adapter_for"]
    rows = json.loads((tmp_path / "adapters" / "router.json").read_text())["adapters"]
    assert len(rows) == sum(len(part.counts) for part in tokens.kinds) >= len(names)
    for text in ("which color is the sky", "which letter is first", "which number is next"):
        assert pick(text)[0] == str(router.weights([text])[0].argmax())


def test_noise_on_tokens_is_refused_for_kinds_would_tell_what_it_hides(text_recipe):
    with pytest.raises(ValueError, match="`fcit_identity_noise` cannot be used with `fcit_method: disco_plus`"):
        run_recipe(text_recipe(fcit_method="disco_plus", fcit_identity_noise=0.1))
