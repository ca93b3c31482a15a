"""What a client tells of itself beside its update: its identity token or the subspace that it has picked, and its counts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord

from ..arguments import FcitArguments
from ..continual.record_limits import RecordLimits
from ..knowledge.identity_tokens import ClientToken, WithoutToken
from ..knowledge.own_cosines import BINS
from ..knowledge.prototypes import FEWEST, MAX_KINDS
from ..knowledge.token_forms import FORMS, FULL, TokenForm
from .messages import (
    CHOICE,
    CONFIG,
    KIND_COUNTS,
    KIND_MEANS,
    LOSS,
    METRICS,
    NUM_EXAMPLES,
    OWN_COSINES,
    TOKEN,
    TOKEN_COUNT,
    TOKENS,
    arrays_of,
    client_token,
    metrics_of,
)
from .privacy import tells_own_cosines
from .reply_parts import Unusable, check_records, listed, numbers_in, read_array, short

#: Bounds that hold whatever the recipe says, far beyond anything honest: within them no sum, square or product that the
#: server forms leaves float32 and int64.
MAX_COUNT, MAX_TOKEN_NORM, MAX_NORM = 2**31 - 1, 1e6, 1e15
#: The same for a record that is wanted beside the weights, all its tensors together. It is less, for there is more to come: the
#: server adds such records up over stages, other clients get the sum and multiply it by changes of their weights and by a
#: factor of the recipe, and their optimizer squares that: with 1e12 these two may be 1e7 together. Honest ones are far below:
#: the Fisher information of gradients of norm 1000 has one of 1e6 at most.
MAX_EXTRA_NORM = 1e12
#: A norm that such a record may have whatever the others of the round have: it takes the place of a smaller median. What is
#: measured of a loss goes to 0 with it, and clients who have learned their task must not make one odd that begins with another
#: task: of five honest clients of a round four had a Fisher information of norm 3e-13 to 7e-10, and the fifth one of 2.7.
USUAL_EXTRA_NORM = 1.0


@dataclass(frozen=True)
class Bounds:
    """What a reply may hold at most.

    Attributes:
        dimension: D, numbers in an identity token.
        max_samples: Most examples of a client.
        max_norm: Largest L2 norm of an update: what came back minus what was sent, all tensors together.
        max_norm_ratio: Largest norm of an update, of a token, and of a record beside the weights (there to the power that
            its limits name), relative to the median of the round's good replies; None for no such bound, as always with
            clipping. It takes three replies to tell which one is odd.
        kinds: Whether tokens tell the client's kinds of instructions.
        form: What is told of a token.
        min_records: A client with fewer sends no token.
        subspaces: How many there are, of which such a client picks its own.
        own_cosines: Whether a client may tell how near its instructions lie to its token.
        limits: What records beside the weights may hold, by name; of those that it does not name, the default.
    """

    dimension: int
    max_samples: int = MAX_COUNT
    max_norm: float = MAX_NORM
    max_norm_ratio: float | None = None
    kinds: bool = False
    form: TokenForm = FULL
    min_records: int = 1
    subspaces: int = 0
    own_cosines: bool = False
    limits: Mapping[str, RecordLimits] = field(default_factory=dict)

    @classmethod
    def from_args(
        cls,
        args: FcitArguments,
        dimension: int,
        kinds: bool,
        by_tokens: bool = False,
        subspaces: int = 0,
        limits: Mapping[str, RecordLimits] | None = None,
    ) -> "Bounds":
        """The bounds that a recipe sets.

        Args:
            args: The fcit keys.
            dimension: D.
            kinds: Whether tokens tell the client's kinds of instructions.
            by_tokens: Whether tokens decide who trains what.
            subspaces: How many there are.
            limits: What the method and the server rule say of the records that they want.
        """
        return cls(
            dimension,
            min(args.fcit_max_client_samples or MAX_COUNT, MAX_COUNT),
            min(args.fcit_max_update_norm or MAX_NORM, MAX_NORM),
            # what is clipped has to be judged by itself: the median would have one client decide about others
            args.fcit_max_norm_ratio if args.fcit_dp_clipping_norm is None else None,
            kinds,
            FORMS[args.fcit_identity_form],
            args.fcit_identity_min_records if by_tokens else 1,
            subspaces,
            tells_own_cosines(args, by_tokens),
            limits or {},
        )


def waiting(token: WithoutToken | ClientToken, bounds: Bounds) -> str:
    """Why a client without a token takes no part in a round, of the client as "it"."""
    return (
        f"it waits, for it has {token.num_examples} records, fewer than {bounds.min_records} (`fcit_identity_min_records`), "
        "and no subspace is its own yet"
    )


def tells_token(reply: Message) -> bool:
    """Whether a reply has a token, or says that it has."""
    scalars = reply.content.get(METRICS)
    return TOKEN in reply.content or (isinstance(scalars, MetricRecord) and TOKEN_COUNT in scalars)


def read_few(reply: Message, bounds: Bounds, names: set[str]) -> WithoutToken:
    """What a client without a token tells: how many records it has, and the subspace that it has picked if it was to."""
    check_records(reply, {METRICS, CONFIG} | (set(reply.content) - {TOKENS} if LOSS in names else set()))
    scalars = metrics_of(reply)
    _check_scalars(scalars, {NUM_EXAMPLES, *names})
    count = _read_count(scalars, NUM_EXAMPLES, bounds)
    if count >= bounds.min_records:
        raise Unusable(
            f"it sends no identity token of its {count} records, and only those with fewer than {bounds.min_records} "
            "(`fcit_identity_min_records`) send none"
        )
    if CHOICE in names:
        chosen = scalars[CHOICE]
        if not isinstance(chosen, int) or not -1 <= chosen < bounds.subspaces:
            raise Unusable(f"it has picked subspace {short(chosen)} of {bounds.subspaces}")
        if chosen == -1:
            raise Unusable(waiting(WithoutToken(reply.metadata.src_node_id, count), bounds))
    found = client_token(reply)
    assert isinstance(found, WithoutToken)  # there is no token in it
    return found


def _check_scalars(scalars: MetricRecord, names: set[str]) -> None:
    if set(scalars) != names:
        raise Unusable(f"it reports {listed(scalars)}, not {listed(names)}")
    loss = scalars[LOSS] if LOSS in names else 0.0
    if not isinstance(loss, (int, float)) or not math.isfinite(loss):
        raise Unusable(f"it reports {LOSS} {short(loss)}, which is not a finite number")


def read_token(reply: Message, bounds: Bounds, names: set[str]) -> ClientToken:
    """The identity token and the counts in a reply whose records are of the right kind."""
    scalars, form = metrics_of(reply), bounds.form
    # a client of few records, and one of an earlier version, tells no cosines
    optional = {OWN_COSINES} & set(scalars) if bounds.own_cosines else set()
    _check_scalars(scalars, names | optional)
    _read_count(scalars, NUM_EXAMPLES, bounds)
    count = _read_count(scalars, TOKEN_COUNT, bounds)
    record = arrays_of(reply, TOKEN)
    expected = {form.key, KIND_MEANS, KIND_COUNTS} if bounds.kinds else {form.key}
    if set(record) != expected:
        raise Unusable(f"its token record holds {listed(record)}, not {listed(expected)} (`fcit_identity_form: {form.name}`)")
    mean = read_array(record[form.key], (bounds.dimension,), "its identity token")
    if not form.is_told(mean):
        raise Unusable(f"its identity token holds other numbers than 1 and -1 (`fcit_identity_form: {form.name}`)")
    norm = np.linalg.norm(mean.astype(np.float64))
    if not 0 < norm <= MAX_TOKEN_NORM:
        raise Unusable(f"its identity token has norm {norm:.4g}, not over 0 and up to {MAX_TOKEN_NORM:g}")
    if bounds.kinds:
        _check_kinds(record, bounds, count)
    if optional:
        _check_own_cosines(scalars[OWN_COSINES], count)
    found = client_token(reply)
    assert isinstance(found, ClientToken)  # its record was checked
    return found


def _read_count(scalars: MetricRecord, name: str, bounds: Bounds) -> int:
    count = scalars[name]
    if not isinstance(count, int) or not 1 <= count <= bounds.max_samples:
        raise Unusable(
            f"it reports {name} {short(count)}; it must be a whole number from 1 to {bounds.max_samples} "
            "(`fcit_max_client_samples`)"
        )
    return count


def _check_kinds(token: ArrayRecord, bounds: Bounds, count: int) -> None:
    """Are the kinds of instructions of sound form, and no more of them than there are instructions?"""
    number = token[KIND_COUNTS].shape[0] if len(token[KIND_COUNTS].shape) == 1 else 0
    if not 1 <= number <= MAX_KINDS:
        raise Unusable(f"it tells {short(tuple(token[KIND_COUNTS].shape))} kinds of instructions, not 1 to {MAX_KINDS}")
    means = read_array(token[KIND_MEANS], (number, bounds.dimension), "its kinds of instructions")
    if not bounds.form.is_told(means):
        raise Unusable(f"its kinds of instructions hold other numbers than 1 and -1 (`fcit_identity_form: {bounds.form.name}`)")
    norms = np.linalg.norm(means.astype(np.float64), axis=1)
    if not ((norms > 0) & (norms <= MAX_TOKEN_NORM)).all():
        raise Unusable(f"one of its kinds of instructions has a norm not over 0 and up to {MAX_TOKEN_NORM:g}")
    counts = numbers_in(token[KIND_COUNTS], (number,), "the counts of its kinds of instructions", "int64")
    if counts.min() < 1 or sum(counts.tolist()) > count:  # as Python adds: not even sums that int64 cannot hold
        raise Unusable(f"its kinds of instructions have {short(counts.tolist())} of its {count} instructions")


def _check_own_cosines(told: object, count: int) -> None:
    """Are they counts of the right number, of no more instructions than there are, and none of a few records?"""
    if not isinstance(told, list) or len(told) != BINS or not all(isinstance(each, int) for each in told):
        raise Unusable(f"its {OWN_COSINES} are {short(told)}, not {BINS} whole numbers")
    if any(each != 0 and not FEWEST <= each <= count for each in told) or not 0 < sum(told) <= count:
        raise Unusable(f"its {OWN_COSINES} do not count its {count} instructions, {FEWEST} or more or none at a time")
