"""Which of a user's turns a conversation is told by (``fcit_identity_turns``), for training, evaluation and service alike.

Records and requests come here with all that their user has said (:func:`fcit_plugin.data.instructions.user_turns`); only here,
and in the router, does a rule choose among it. docs/guide/settings.md says what was measured.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from typing_extensions import override

from .image_tokens import Encoder, ImageEncoder, TextAndImageEncoder, encode, encoder_inputs
from .images import Images
from .nearness import nearness_of
from .sentences import sentences
from .vectors import on_grid

#: The turns of the user of one conversation, the first one first; at least one.
Turns: TypeAlias = tuple[str, ...]
#: Gives the images of conversations as the model is given them, None for one without; asked only where an encoder sees them.
Pixels: TypeAlias = Callable[[], Sequence[Images | None]]

FIRST, LATEST, MEAN, AUTO = "first", "latest", "mean", "auto"


def turns_that_count(turns: Turns, rule: str) -> Turns:
    """The turns that can have a part in a conversation's identity token.

    Args:
        turns: All turns of the user.
        rule: first, latest, mean, or auto, which chooses one of all by the subspaces that there are.

    Raises:
        TypeError: The conversation is a text, whose letters would be taken for turns.
    """
    if isinstance(turns, str):
        raise TypeError("a conversation is a tuple of its user's turns, and a text was given")
    if rule == FIRST:
        return turns[:1]
    return turns[-1:] if rule == LATEST else turns


def forget(encoder: Encoder) -> None:
    """Have an encoder drop the tokens that it keeps, if it keeps any.

    The last digits of what a model says of a text, in half precision more than those, depend on the texts beside it in a batch:
    a token that was kept depends on what was asked before, which a run that goes on was not.
    """
    told = encoder.text if isinstance(encoder, TextAndImageEncoder) else encoder
    if (drop := getattr(told, "forget", None)) is not None:
        drop()


def learned_tokens(encoder: Encoder, conversations: Sequence[Turns], rule: str, pixels: Pixels) -> np.ndarray:
    """Identity tokens of the conversations that a client learns from, float32 [n, D]: a function of these alone.

    With ``auto`` they are those of the first turns: a client knows no subspace to choose by, and a conversation opens with
    what it is about.

    Args:
        encoder: The encoder.
        conversations: What their users say.
        rule: first, latest, mean or auto.
        pixels: Their images.
    """
    forget(encoder)
    rows, counts = _encoded(encoder, conversations, FIRST if rule == AUTO else rule, pixels)
    return rows if len(rows) == len(conversations) else mean_tokens(_split(rows, counts))


def encoded_turns(encoder: Encoder, conversations: Sequence[Turns], rule: str, pixels: Pixels) -> list[np.ndarray]:
    """What an encoder makes of the turns that count, float32 [t, D] for each conversation.

    Args:
        encoder: The encoder; one that sees images is given those of the whole conversation with each turn.
        conversations: What their users say.
        rule: first, latest, mean or auto.
        pixels: Their images.
    """
    return _split(*_encoded(encoder, conversations, rule, pixels))


def ways_to_tell(encoder: Encoder, text: str) -> Turns:
    """What a turn may be told by at inference: itself, and its sentences where the encoder's tokens allow it."""
    return (text, *sentences(text)) if nearness_of(encoder).by_sentence else (text,)


def mean_tokens(rows: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of each conversation's turns [t, D], float32 [n, D]; of one turn exactly itself."""
    found = np.empty((len(rows), rows[0].shape[1]), rows[0].dtype)
    for row, part in zip(found, rows, strict=True):
        part.mean(axis=0, out=row)
    return found


def _encoded(encoder: Encoder, conversations: Sequence[Turns], rule: str, pixels: Pixels) -> tuple[np.ndarray, list[int]]:
    """The tokens of all turns that count, one conversation's after the other's, and how many each has."""
    if isinstance(encoder, ImageEncoder):
        rule = LATEST  # it reads no text: one turn is as good as many
    counting = [turns_that_count(turns, rule) for turns in conversations]
    owners = [i for i, turns in enumerate(counting) for _ in turns]
    texts = [text for turns in counting for text in turns]
    rows = encode(encoder, encoder_inputs(encoder, texts, lambda: _OfOwners(pixels(), owners)))
    return on_grid(rows), [len(turns) for turns in counting]


def _split(rows: np.ndarray, counts: Sequence[int]) -> list[np.ndarray]:
    return np.split(rows, np.cumsum(counts)[:-1])


class _OfOwners(Sequence[Images | None]):
    """The images of conversations, once for each of their turns; read when asked for."""

    def __init__(self, images: Sequence[Images | None], owners: Sequence[int]) -> None:
        self.images = images
        self.owners = owners

    def __len__(self) -> int:
        return len(self.owners)

    @override
    def __getitem__(self, turn: int) -> Images | None:  # type: ignore[override]  # nobody asks for a slice
        return self.images[self.owners[turn]]
