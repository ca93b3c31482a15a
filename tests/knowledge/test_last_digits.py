"""Last digits decide nothing: of tokens as another number of threads makes them, and of cosines that are equal."""

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from transformers import AutoTokenizer, LlavaForConditionalGeneration

from fcit_plugin.knowledge.activation import Router
from fcit_plugin.knowledge.embedding import EmbeddingEncoder
from fcit_plugin.knowledge.identity_tokens import ClientToken, SubspaceTokens
from fcit_plugin.knowledge.organizer import Organizer
from fcit_plugin.knowledge.prototypes import kinds_of
from fcit_plugin.knowledge.turns import learned_tokens
from fcit_plugin.knowledge.vectors import GRID_BITS, on_grid
from fcit_plugin.samples.mini.build import base_model_path

#: What adding up in another order changes of float32's numbers, relative to the largest.
NOISE = 2e-7


def noisy(rows, seed):
    largest = np.abs(rows).max(axis=-1, keepdims=True)
    return (rows + NOISE * largest * np.random.default_rng(seed).uniform(-1, 1, rows.shape)).astype(np.float32)


FLOATS = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=500, deadline=None)
@given(arrays.arrays(np.float32, (3, 5), elements=FLOATS))
def test_a_token_is_rounded_to_a_grid_of_its_own_and_stays_there(rows):
    found = on_grid(rows)
    assert on_grid(found).tobytes() == found.tobytes()
    for row, rounded in zip(rows.astype(np.float64), found.astype(np.float64), strict=True):
        above = 2.0 ** np.ceil(np.log2(np.abs(rounded).max() or 1))
        assert np.abs(row - rounded).max() <= above * 2.0**-GRID_BITS
        assert (rounded * 2.0**GRID_BITS / above * 2 % 1 == 0).all()
    assert not np.signbit(found[found == 0]).any(), "there is one zero, or its bytes would tell a rounded -1e-9 from 1e-9"
    assert on_grid(rows[0]).tobytes() == found[0].tobytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_and_two_threads_make_the_same_bytes_of_an_instruction(dtype, mini_instructions):
    """Without the grid, in float32: 98 numbers of 100 differ, by up to 3e-6 of the largest."""
    torch.manual_seed(0)
    embedding = torch.nn.Embedding(4000, 256).to(dtype)
    fast = tiny.tokenizer()
    said = [(text,) for part in mini_instructions.values() for text in part[:10]]
    found, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(learned_tokens(EmbeddingEncoder(embedding, fast, center=True), said, "first", lambda: []))
    finally:
        torch.set_num_threads(threads)
    assert found[0].tobytes() == found[1].tobytes()


#: Vectors whose cosines are often equal, and often exactly 0, 0.6, 0.8 or 1.
WHOLE = st.lists(st.sampled_from([0, 3, 4, -3, 5]), min_size=3, max_size=3).filter(any)


def unlike(rows, seed):
    """The vectors with noise: of the server's own sums, say, which lie on no grid."""
    return list(noisy(np.array(rows, np.float32).reshape(-1, 3), seed))


@settings(max_examples=500, deadline=None)
@given(
    st.lists(WHOLE, min_size=1, max_size=10),
    st.lists(WHOLE, max_size=4),
    st.sampled_from([0.0, 0.6, 0.8, 1.0]),
    st.sampled_from([None, 5]),
    st.integers(0, 1000),
)
def test_equal_cosines_are_equal_whatever_their_last_digits(clients, subspaces, threshold, bound, seed):
    organizer = Organizer(threshold, bound)
    found = []
    for tokens, known in ((clients, subspaces), (unlike(clients, seed), unlike(subspaces, seed + 1))):
        named = [ClientToken(i, np.array(row, np.float32), 1, 10) for i, row in enumerate(tokens)]
        state = SubspaceTokens(np.array(known, np.float32).reshape(-1, 3), np.ones(len(known), np.int64))
        found.append(organizer.assign(named, state))
    assert found[0].subspace == found[1].subspace
    assert found[0].opened == found[1].opened


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.lists(WHOLE, min_size=1, max_size=3), min_size=1, max_size=5),
    st.lists(WHOLE, min_size=1, max_size=4),
    st.integers(0, 1000),
)
def test_equal_subspaces_are_told_apart_by_their_number_and_turns_by_their_place(said, subspaces, seed):
    words = [row for turns in said for row in turns]
    conversations = [tuple(str(words.index(row)) for row in turns) for turns in said]
    decided = []
    for tokens, known in ((words, subspaces), (noisy(np.array(words, np.float32), seed), unlike(subspaces, seed + 1))):

        class Given:
            def encode(self, texts, tokens=tokens):
                return np.array([tokens[int(text)] for text in texts], np.float32)

        state = SubspaceTokens(np.array(known, np.float32), np.ones(len(known), np.int64))
        router = Router(Given(), state, "argmax", 0.05, "auto", fallback=0.6)
        decided.append((router.weights(conversations).tolist(), router.listen(conversations)[1]))
    assert decided[0] == decided[1]


@settings(max_examples=200, deadline=None)
@given(st.lists(WHOLE, min_size=1, max_size=30), st.integers(0, 1000))
def test_a_client_tells_the_same_kinds_of_instructions(rows, seed):
    exact, other = (kinds_of(np.array(given, np.float32)) for given in (rows, on_grid(np.array(unlike(rows, seed)))))
    assert exact.counts.tolist() == other.counts.tolist()
    np.testing.assert_array_equal(exact.means, other.means)


@pytest.mark.parametrize("center", [True, False])
def test_a_texts_token_is_the_same_whatever_it_is_encoded_with(mini_instructions, center):
    model = LlavaForConditionalGeneration.from_pretrained(base_model_path())
    encoder = EmbeddingEncoder(model.get_input_embeddings(), AutoTokenizer.from_pretrained(base_model_path()), center)
    texts = ["", *(text for some in mini_instructions.values() for text in some), " "]
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert len({*texts}) > 60 and on_grid(encoder.encode(texts)).tobytes() == on_grid(alone).tobytes()
