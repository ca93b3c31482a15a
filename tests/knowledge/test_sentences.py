"""Sentences of a prompt, and routing by the best of them."""

import numpy as np
import pytest

from fcit_plugin.knowledge.activation import Router
from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.knowledge.nearness import PLAIN, WHITENED
from fcit_plugin.knowledge.prototypes import Prototypes
from fcit_plugin.knowledge.sentences import sentences
from fcit_plugin.knowledge.vectors import on_grid, unit

#: Text -> its sentences.
CUT = {
    "Count the icons.": [],
    " Count the icons. ": [],
    "What is 3.14 times 2.5?": [],
    "": [],
    "?!": [],
    "Hi! Sort these numbers: 3, 1, 2. Thanks a lot!": ["Sort these numbers: 3, 1, 2.", "Thanks a lot!"],
    'He said: "Go home now!" Where does he live?': ['He said: "Go home now!', "Where does he live?"],
    "Well... Which letter is it\u2026 Tell me please": ["Which letter is it\u2026", "Tell me please"],
    "first line of it\nsecond line of it\n\nthird line": ["first line of it", "second line of it", "third line"],
    "\u4f60\u597d\uff01\u8bf7\u628a\u8fd9\u4e9b\u6570\u5b57\u6392\u5e8f\u3002\u8c22\u8c22\uff1f": [
        "\u4f60\u597d\uff01",
        "\u8bf7\u628a\u8fd9\u4e9b\u6570\u5b57\u6392\u5e8f\u3002",
        "\u8c22\u8c22\uff1f",
    ],
    "\u300c\u6570\u3048\u3066\u3002\u300d\u3042\u308a\u304c\u3068\u3046\u3002": [
        "\u300c\u6570\u3048\u3066\u3002",
        "\u3042\u308a\u304c\u3068\u3046\u3002",
    ],
    "Same again. Same again. Another one here.": ["Same again.", "Another one here."],
}


@pytest.mark.parametrize("text", CUT)
def test_sentences_of_latin_and_cjk_texts(text):
    assert sentences(text) == CUT[text]


def test_of_many_sentences_those_at_either_end_are_kept():
    many = [f"This is number {i}." for i in range(40)]
    assert sentences(" ".join(many)) == many[:4] + many[-4:]
    assert sentences(" ".join(many[:8])) == many[:8]


class Words:
    """Tells texts by their words; remembers how often it was asked."""

    def __init__(self, nearness=WHITENED):
        self.nearness, self.asked, self.known = nearness, [], []

    def encode(self, texts):
        self.asked.append(list(texts))
        words = ["sort", "letter", "icons", "please", "thanks", "numbers"]
        return np.array([[text.lower().count(word) for word in words] for text in texts], np.float32)

    def know(self, texts):
        self.known += texts


SORT, LETTER = [1, 0, 0, 0, 0, 1], [0, 1, 0, 1, 1, 0]
TOKENS = SubspaceTokens(np.array([SORT, LETTER], np.float32), np.array([1, 1]))
POLITE = "Please, please, if you please. Sort the numbers. Thanks, many thanks, thanks!"


def router(encoder, turns="first", tokens=TOKENS):
    """By the nearest subspace."""
    return Router(encoder, tokens, "argmax", 0.05, turns)


@pytest.mark.parametrize("turns", ["first", "latest", "mean", "auto"])
def test_the_best_sentence_tells_a_turn_where_the_encoder_allows_it(turns):
    encoder = Words()
    embedded, decided = router(encoder, turns).listen([(POLITE,), ("Which letter?",)])
    assert decided == [("Sort the numbers.",), ("Which letter?",)]
    np.testing.assert_array_equal(embedded, on_grid(Words().encode(["sort numbers", "letter"])))
    assert len(encoder.asked) == 1 and len(encoder.asked[0]) == 5  # one batch: the prompt, its three sentences, and the other
    plain = router(Words(PLAIN), turns)
    assert plain.listen([(POLITE,)])[1] == [(POLITE,)] and plain.weights([(POLITE,)]).argmax() == 1
    assert router(Words(), turns).weights([(POLITE,)]).argmax() == 0


def test_the_nearest_subspace_is_that_of_the_largest_cosine_of_prompt_and_sentences():
    generator, words = np.random.default_rng(0), ["sort", "letter", "icons", "please", "thanks", "numbers"]
    for _ in range(200):
        text = ". ".join(" ".join(generator.choice(words, 3)) for _ in range(generator.integers(1, 6))) + "."
        rows = unit(on_grid(Words().encode([text, *sentences(text)])))
        cosines = (rows @ unit(TOKENS.tokens).T).max(axis=0)
        assert cosines[router(Words()).weights([(text,)]).argmax()] >= cosines.max() - 1e-5


def test_sentences_are_of_the_turn_that_the_rule_takes():
    turns = (
        "Sort the numbers. Thanks a lot.",
        POLITE.replace("Sort the numbers", "What a day it is"),
        "Now sort numbers again. Icons, icons.",
    )
    assert router(Words(), "first").listen([turns])[1] == [("Sort the numbers.",)]
    assert router(Words(), "latest").listen([turns])[1] == [("Now sort numbers again.",)]
    assert [text[:5] for text in router(Words(), "mean").listen([turns])[1][0]] == ["Sort ", "Pleas", "Now s"]
    assert router(Words(), "auto").listen([turns])[1] == [("Now sort numbers again.",)]
    assert router(Words(), "auto").listen([(turns[0], "what a day it is")])[1] == [("Sort the numbers.",)]


def test_kinds_and_the_mean_beside_them_where_the_encoder_says_so():
    kinds = (
        Prototypes(np.array([[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]], np.float32), np.array([1, 1])),
        Prototypes(np.array([LETTER], np.float32), np.array([1])),
    )
    tokens = SubspaceTokens(np.array([[1, 0, 0, 0, 0, 1], LETTER], np.float32), np.array([2, 1]), kinds)
    text = on_grid(Words().encode(["sort numbers"]))
    nearest = [router(Words(nearness), tokens=tokens).cosines(text)[0, 0] for nearness in (PLAIN, WHITENED)]
    np.testing.assert_allclose(nearest, [np.sqrt(0.5), 1.0], atol=1e-3)
    assert router(Words(), tokens=tokens).listen([(POLITE,)])[1] == [("Sort the numbers.",)]


def test_what_is_to_be_known_ahead_is_all_that_a_turn_may_be_told_by():
    encoder = Words()
    router(encoder, "auto").know([("Sort the numbers. Thanks a lot.", "Which letter?")])
    assert encoder.known == ["Sort the numbers. Thanks a lot.", "Sort the numbers.", "Thanks a lot.", "Which letter?"]


def test_without_any_subspace_in_use_the_whole_prompt_counts():
    empty = SubspaceTokens(np.zeros((2, 6), np.float32), np.array([0, 0]))
    assert router(Words(), tokens=empty).listen([(POLITE,)])[1] == [(POLITE,)]
