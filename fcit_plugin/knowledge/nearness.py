"""How near tokens are to each other that are of one kind: cosines that belong to the encoder which made the tokens."""

from dataclasses import dataclass, replace
from typing import Any

from .identity_encoders import MINILM, PROMPT
from .prototypes import OF_A_CLIENT, OF_ONE_KIND
from .token_forms import FORMS

#: The cosine from which a turn is of a subspace's kind. One that says nothing of a task ("and why?") stays below it, an
#: instruction of a task that was learned above (benchmarks/turns.py).
NEAR = 0.6


@dataclass(frozen=True)
class Nearness:
    """The cosines from which tokens of one encoder are of one kind.

    Those of other encoders than `embedding` were chosen on the public kinds (benchmarks/thresholds.py).

    Attributes:
        threshold: A client's token and a subspace's: what ``fcit_similarity_threshold: auto`` takes.
        turn: A turn of a conversation and a subspace: what ``fcit_identity_turns: auto`` takes for one of its kind.
        of_a_client: Two instructions of one client, which are then one of its kinds.
        of_one_kind: Kinds of several clients.
        mean_too: Whether a subspace of several kinds is as near as its mean is, where that is nearer: the mean of a kind's
            wordings is nearer to another wording than each of them is.
        by_sentence: Whether a prompt may be told by one of its sentences: only where the center knows what people say
            around an instruction. Else a sentence of politeness is near to whatever is polite.
        far: A question that is no nearer than this to any subspace is taken for one of none of the run's kinds: what
            ``fcit_fallback_threshold: auto`` takes. Some 96 % of known rewordings lie above it (benchmarks/foreign.py,
            development half). None: no cosine tells them apart, or none was measured.
    """

    threshold: float = 0.9
    turn: float = NEAR
    of_a_client: float = OF_A_CLIENT
    of_one_kind: float = OF_ONE_KIND
    mean_too: bool = False
    by_sentence: bool = False
    far: float | None = None


#: Tokens of `embedding`, of CLIP, and all that are not centered.
PLAIN = Nearness()
#: Those of sentence encoders: two rewordings are as near as two templates of one kind are with `embedding`.
SENTENCES = Nearness(threshold=0.75, far=0.25)
#: Those of the base model's hidden states, whitened.
WHITENED = Nearness(threshold=0.75, turn=0.25, of_a_client=0.15, of_one_kind=0.5, mean_too=True, by_sentence=True, far=0.2)

#: By the name of an encoder; a text encoder's own is not known by its name.
_BY_NAME = {MINILM: SENTENCES, PROMPT: WHITENED}


def nearness_of(encoder: Any) -> Nearness:
    """The cosines of an encoder's tokens: its attribute `nearness`, `PLAIN` for one from elsewhere that has none."""
    found: Nearness = getattr(encoder, "nearness", PLAIN)
    return found


def nearness_named(name: str, source: str, center: bool) -> Nearness:
    """The same by what a recipe or a manifest says, for those who load no encoder.

    Args:
        name: The encoder's name.
        source: What tokens are made of: text, image or both.
        center: Whether they are centered.
    """
    return _BY_NAME.get(name, PLAIN) if source == "text" and center else PLAIN


def nearness_of_recipe(args: Any) -> Nearness:
    """What a recipe's server goes by: the encoder's cosines, and of these the threshold as the recipe has it.

    This is the one place where keys become cosines: keys are always those of unrounded tokens, and the form of the tokens makes
    of them what its own have (:mod:`.token_forms`). A threshold that is still ``auto`` is `PLAIN`'s: nothing is assigned before
    the encoder is known.

    Args:
        args: The fcit keys.
    """
    of_encoder = nearness_named(args.fcit_identity_encoder, args.fcit_identity_source, args.fcit_identity_center)
    given = args.fcit_similarity_threshold
    of_full = replace(of_encoder, threshold=PLAIN.threshold if isinstance(given, str) else given)
    return FORMS[args.fcit_identity_form].nearness(of_full)
