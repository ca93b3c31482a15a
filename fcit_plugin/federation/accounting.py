"""How much privacy a run has spent, added up by Google's ``dp-accounting`` (extra ``[privacy]``)."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..arguments import FcitArguments
from ..evaluation.report import SIMULATED, privacy_statement

#: Two runs are neighbors if they differ in one client, whose contributions are nothing (zeros) in one of them.
RELATION = "one client's updates and tokens, or nothing in their place"


def spent(
    args: FcitArguments, assignments: Sequence[Mapping[str, Any]], asked: Sequence[Mapping[str, Any]], num_stages: int
) -> dict[str, Any] | None:
    """The spent epsilon, per stage and in all, for the report.

    Who took part in which round is taken as known, which it is to every site with the recipe: then a client pays for
    the rounds that it took part in, and no sampling hides it. The epsilon is that of the client who pays most.
    ``epsilon_sampled`` holds against those who do not know who took part: amplified by sampling S of N without
    replacement (Wang et al. 2019, arXiv 1808.00087, theorem 27), for which neighbors have one client's update
    replaced by another's: a difference of up to twice the clipping norm.

    Args:
        args: The recipe.
        assignments: Entries with stage, round, client and task of everyone whose update was used.
        asked: Entries with stage, client and task of everyone who was asked for a token, whatever became of the round.
        num_stages: T.

    Returns:
        None where the recipe adds no noise. Else the sentence about it ("statement"), what it adds, whether from a secret or
        from the recipe's seed ("noise"), the relation, and "stages" (a list) and "total" with epsilon_updates, epsilon_tokens,
        epsilon (of both together) and epsilon_sampled (of the updates); None for what has no noise.
    """
    if not args.adds_noise:
        return None
    by_stage = [_by_stage(rows, num_stages) for rows in (assignments, asked)]
    found = {
        "clipping_norm": args.fcit_dp_clipping_norm,
        "noise_multiplier": args.fcit_dp_noise_multiplier,
        "identity_noise": args.fcit_identity_noise,
        "noise": SIMULATED if args.fcit_dp_secret is None else "secret",
        "delta": args.fcit_dp_delta,
        "relation": RELATION,
        "stages": [_spent(args, *rows) for rows in zip(*by_stage, strict=True)],
        "total": _spent(args, assignments, asked),
    }
    return {"statement": privacy_statement(found), **found}


def _by_stage(rows: Iterable[Mapping[str, Any]], num_stages: int) -> list[list[Mapping[str, Any]]]:
    found: list[list[Mapping[str, Any]]] = [[] for _ in range(num_stages)]
    for row in rows:
        found[row["stage"]].append(row)
    return found


def _spent(
    args: FcitArguments, rows: Sequence[Mapping[str, Any]], asked: Sequence[Mapping[str, Any]]
) -> dict[str, float | None]:
    """Epsilons of the releases in some rounds.

    A noisy token is one release however often it is sent: a client has one for each of its tasks. It has left the client
    before anybody knows whether the client's update will be used.
    """
    z, sigma, delta = args.fcit_dp_noise_multiplier, args.fcit_identity_noise, args.fcit_dp_delta
    updates = Counter(row["client"] for row in rows)
    tokens = Counter(client for client, _ in {(row["client"], row["task"]) for row in [*rows, *asked]})
    counts = {(updates[client], tokens[client]) for client in updates | tokens}
    rounds = len({(row["stage"], row["round"]) for row in rows})

    def most(multipliers: tuple[float | None, float | None]) -> float | None:
        if multipliers == (None, None):
            return None
        releases = ([(m, n) for m, n in zip(multipliers, count, strict=True) if m is not None and n] for count in counts)
        return max((gaussian_epsilon(of_client, delta) for of_client in releases if of_client), default=0.0)

    return {
        "epsilon_updates": most((z, None)),
        "epsilon_tokens": most((None, sigma)),
        "epsilon": most((z, sigma)),
        "epsilon_sampled": (
            None if z is None else sampled_epsilon(z, args.fcit_clients_per_round, args.fcit_num_clients, rounds, delta)
        ),
    }


def gaussian_epsilon(releases: Iterable[tuple[float, int]], delta: float) -> float:
    """Epsilon of Gaussian releases together, by Renyi differential privacy.

    Args:
        releases: Noise multipliers (standard deviation over sensitivity), each with how often it was used.
        delta: Delta.
    """
    from dp_accounting import GaussianDpEvent, NeighboringRelation
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(neighboring_relation=NeighboringRelation.REPLACE_SPECIAL)
    for multiplier, count in releases:
        accountant.compose(GaussianDpEvent(multiplier), count)
    return float(accountant.get_epsilon(delta))


def sampled_epsilon(multiplier: float, sampled: int, population: int, rounds: int, delta: float) -> float:
    """Epsilon of rounds that each release the noisy sum over a secret sample without replacement.

    Args:
        multiplier: z, standard deviation of the noise in units of the clipping norm.
        sampled: S.
        population: N.
        rounds: Number of rounds.
        delta: Delta.
    """
    from dp_accounting import GaussianDpEvent, NeighboringRelation, SampledWithoutReplacementDpEvent
    from dp_accounting.rdp import RdpAccountant

    if not rounds:
        return 0.0
    accountant = RdpAccountant(neighboring_relation=NeighboringRelation.REPLACE_ONE)
    accountant.compose(SampledWithoutReplacementDpEvent(population, sampled, GaussianDpEvent(multiplier / 2)), rounds)
    return float(accountant.get_epsilon(delta))
