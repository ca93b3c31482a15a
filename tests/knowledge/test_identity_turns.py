"""Which turns tell a conversation: with words whose tokens are known, and bit for bit where there is one turn."""

import numpy as np
import pytest
import torch

from fcit_plugin.knowledge.activation import Router
from fcit_plugin.knowledge.embedding import EmbeddingEncoder
from fcit_plugin.knowledge.encoders import OncePerText
from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.knowledge.image_tokens import ImageEncoder, TextAndImageEncoder
from fcit_plugin.knowledge.prototypes import Prototypes
from fcit_plugin.knowledge.turns import learned_tokens
from fcit_plugin.knowledge.vectors import GRID_BITS, on_grid

RULES = ("first", "latest", "mean", "auto")
#: Cosines to the two subspaces in use, (1, 0, 0) and (0, 1, 0): a and b belong to one, "why" and "so" to neither, and "so" is
#: nearer; c belongs to one that is not in use.
WORDS = {"a": [2, 0, 0], "b": [0, 3, 1], "c": [0, 0.1, 1], "why": [0.1, 0, -1], "so": [0, 0.5, -1]}
#: How far a number below 4 may be rounded.
ROUNDED = 4 * 2.0**-GRID_BITS
TOKENS = SubspaceTokens(np.array([[5, 0, 0], [0, 7, 0], [0, 0, 0]], np.float32), np.array([5, 7, 0]))


class Given:
    def encode(self, texts):
        return np.array([WORDS[text] for text in texts], np.float32)


def no_images():
    raise AssertionError("an encoder of text asks for no images")


@pytest.mark.parametrize(
    ("said", "first", "latest", "auto"),
    [
        (("a",), "a", "a", "a"),
        (("why",), "why", "why", "why"),
        (("a", "why"), "a", "why", "a"),
        (("a", "b"), "a", "b", "b"),
        (("a", "b", "why", "so"), "a", "so", "b"),
        (("why", "a", "c"), "why", "c", "a"),
        (("why", "so", "why"), "why", "why", "so"),
        (("so", "so", "why"), "so", "why", "so"),
    ],
)
@pytest.mark.parametrize("kinds", [False, True])
def test_the_turns_that_decide(said, first, latest, auto, kinds):
    kept = tuple(Prototypes(np.array([row], np.float32), np.array([1])) for row in ([1, 0, 0], [0, 1, 0], [0, 0, 1]))
    tokens = SubspaceTokens(TOKENS.sums, TOKENS.counts, kept) if kinds else TOKENS
    for rule, expected in (("first", (first,)), ("latest", (latest,)), ("mean", said), ("auto", (auto,))):
        embedded, decided = Router(Given(), tokens, "softmax", 0.05, rule).listen([said, ("b",)], no_images)
        assert decided == [expected, ("b",)]
        np.testing.assert_allclose(embedded, [Given().encode(expected).mean(axis=0), WORDS["b"]], atol=ROUNDED)
        learned = learned_tokens(Given(), [said, ("b",)], rule, no_images)
        np.testing.assert_allclose(learned[0], WORDS[first] if rule == "auto" else embedded[0], atol=ROUNDED)


@pytest.mark.parametrize("rule", RULES)
def test_a_single_turn_is_its_own_token_to_the_bit(rule, mini_instructions):
    torch.manual_seed(0)

    class Bytes:
        def __call__(self, text, **options):
            return {"input_ids": [*text.encode()]}

    encoder = OncePerText(EmbeddingEncoder(torch.nn.Embedding(256, 48), Bytes(), center=True))
    texts = [text for part in mini_instructions.values() for text in part[:20]]
    before = on_grid(encoder.encode(texts))
    tokens = SubspaceTokens(before[:2], np.ones(2, np.int64))
    said = [(text,) for text in texts]
    assert learned_tokens(encoder, said, rule, no_images).tobytes() == before.tobytes()
    assert Router(encoder, tokens, "softmax", 0.05, rule).listen(said)[0].tobytes() == before.tobytes()


class Means:
    """A vision tower that sees the mean of each color."""

    width = 3

    def __call__(self, pixels):
        return pixels.mean(dim=(2, 3))


@pytest.mark.parametrize("rule", RULES)
def test_each_turn_is_seen_with_the_images_of_its_own_conversation(rule):
    generator = torch.Generator().manual_seed(0)
    pixels = [torch.rand(2, 3, 4, 4, generator=generator), None, torch.rand(1, 3, 4, 4, generator=generator)]
    said = [("a", "why"), ("b",), ("so", "b", "a")]
    image = ImageEncoder(Means(), None)
    both = TextAndImageEncoder(Given(), image)
    alone = Router(image, TOKENS, "softmax", 0.05, rule).listen(said, lambda: pixels)[0]
    expected = [part.mean(dim=(0, 2, 3)).numpy() if part is not None else np.zeros(3) for part in pixels]
    np.testing.assert_allclose(alone, expected, atol=2.0**-GRID_BITS)
    halves = learned_tokens(both, said, rule, lambda: pixels)[:, 3:]
    np.testing.assert_allclose(
        halves * np.sqrt(2), [row / (np.linalg.norm(row) or 1) for row in expected], atol=2.0**-GRID_BITS
    )


def test_a_text_in_place_of_a_conversation_is_refused_for_its_letters_would_be_turns():
    with pytest.raises(TypeError, match="a tuple of its user's turns"):
        Router(Given(), TOKENS, "softmax", 0.05, "latest").weights(["ab"])
