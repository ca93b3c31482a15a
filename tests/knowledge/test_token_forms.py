"""Forms of identity tokens: signs against the closed form, sums, and what may pass for a client's token."""

import math
from typing import get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.knowledge.activation import Router
from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.knowledge.nearness import SENTENCES, nearness_of_recipe
from fcit_plugin.knowledge.prototypes import Prototypes
from fcit_plugin.knowledge.token_forms import FORMS, VERSION, TokenForm, sign_cosine
from fcit_plugin.state.forms import Manifest

SIGNS = [form for form in FORMS.values() if form.signs]


def pair(cosine: float, dimension: int, seed: int) -> np.ndarray:
    """Two dense vectors of length 1 with a given cosine, float32 [2, D]."""
    one, other = np.linalg.qr(np.random.default_rng(seed).normal(size=(dimension, 2)))[0].T
    return np.stack([one, cosine * one + math.sqrt(1 - cosine**2) * other]).astype(np.float32)


def test_recipes_and_manifests_know_the_same_forms():
    choices = FcitArguments.__dataclass_fields__["fcit_identity_form"].metadata["choices"]
    assert choices == list(FORMS) == list(get_args(get_type_hints(Manifest)["identity_form"]))


@pytest.mark.parametrize("form", SIGNS, ids=lambda form: form.name)
@pytest.mark.parametrize("cosine", [-0.5, 0.0, 0.3, 0.75, 0.9, 0.99])
def test_signs_have_the_cosine_of_the_closed_form_and_what_is_asked_is_not_rounded(form, cosine):
    pairs = [pair(cosine, 384, seed) for seed in range(40)]
    signs = np.stack([form.told(form.mixed(rows)) for rows in pairs])
    assert np.isin(signs, (-1, 1)).all() and signs.shape[2] == form.count
    found = (signs[:, 0] * signs[:, 1]).mean()
    assert found == pytest.approx(1 - 2 * math.acos(cosine) / math.pi, abs=4 / math.sqrt(40 * form.count))
    assert found == pytest.approx(sign_cosine(cosine), abs=4 / math.sqrt(40 * form.count))
    asked = []
    for rows, told in zip(pairs, signs, strict=True):
        query = form.mixed(rows[:1])[0]
        asked.append(float(form.cosines(query @ told[1] / np.linalg.norm(query) / math.sqrt(form.count))))
    assert np.mean(asked) == pytest.approx(cosine, abs=0.05 + 3 / math.sqrt(40 * form.count))


@pytest.mark.parametrize("form", [form for form in FORMS.values() if form.count], ids=lambda form: form.name)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(2, 80))
def test_a_mixture_is_linear_and_the_same_for_all(form, seed, count, dimension):
    rows = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    assert form.mixed(rows.mean(axis=0, keepdims=True))[0] == pytest.approx(form.mixed(rows).mean(axis=0), abs=5e-3)
    again = TokenForm(form.name, form.count, form.signs).mixed(rows)
    assert again.tobytes() == form.mixed(rows).tobytes() and again.dtype == np.float32


def test_the_directions_never_change():
    told = FORMS["signs_64"].told(FORMS["signs_64"].mixed(np.arange(1, 33, dtype=np.float32)[None]))
    bits = np.packbits(told[0] > 0).tobytes().hex()
    assert (VERSION, bits) == (1, "17201cd6006de702")


def test_full_tokens_are_left_to_the_bit():
    rows, full = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32), FORMS["full"]
    assert full.told(full.mixed(rows)) is rows
    assert full.key == "mean" and full.width(7) == 7 and full.nearness(SENTENCES) is SENTENCES


@pytest.mark.parametrize("name", FORMS)
def test_a_recipes_cosine_is_that_of_unrounded_tokens(name):
    near = nearness_of_recipe(FcitArguments(fcit_identity_form=name, fcit_similarity_threshold=0.75))
    expected = 0.75 if not FORMS[name].signs else 1 - 2 * math.acos(0.75) / math.pi
    assert near.threshold == pytest.approx(expected)
    assert FORMS[name].key == ("mean" if name == "full" else f"{name}-{VERSION}")


@pytest.mark.parametrize("form", SIGNS, ids=lambda form: form.name)
def test_other_numbers_are_no_signs(form):
    good = np.ones(form.count, np.float32)
    assert form.is_told(good) and form.is_told(-good)
    for bad in (0.0, 0.5, 1.0000001, -2.0, np.nan, np.inf):
        assert not form.is_told(np.append(good[1:], np.float32(bad)))
    kinds = form.told_kinds(Prototypes(np.array([[0.2, -3.0]], np.float32), np.array([5])))
    assert kinds.means.tolist() == [[1.0, -1.0]] and kinds.counts.tolist() == [5]


class Words:
    """Each text is a vector of its own."""

    def __init__(self, vectors):
        self.vectors = vectors

    def encode(self, texts):
        return np.stack([self.vectors[text] for text in texts])


@pytest.mark.parametrize("name", FORMS)
def test_a_router_finds_the_subspace_by_what_clients_have_told(name):
    form, generator = FORMS[name], np.random.default_rng(1)
    vectors = {text: generator.normal(size=300).astype(np.float32) for text in "abc"}
    told = form.told(form.mixed(np.stack(list(vectors.values()))))
    tokens = SubspaceTokens(5 * told, np.full(3, 5, np.int64))
    router = Router(Words(vectors), tokens, "argmax", 0.05, "first", form=form)
    assert router.weights([("a",), ("b",), ("c",)]).tolist() == np.eye(3).tolist()
