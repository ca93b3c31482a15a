"""Keys of secure sums: the server learns of each subspace the sum of its clients' updates, and of no update more."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .network import FLOWER
from .option import option
from .reasons import Unfit, refuse, refuse_beside

if TYPE_CHECKING:
    from . import FcitArguments

#: The fewest clients of a sum, whatever a recipe says: of two, each has the other's update by taking off its own.
FEWEST_IN_SUM = 3


@dataclass
class SecureSumArguments:
    """Whether updates are added up unseen, and of how many clients at least."""

    fcit_secure_sum: bool = option(
        False,
        "Sites mask their updates, so that the server learns sums alone (needs fcit_engine flower, fcit_max_update_norm and "
        "fcit_max_client_samples, at every site, too).",
    )
    fcit_secure_min_clients: int = option(
        FEWEST_IN_SUM,
        "Fewest clients of a sum that is opened; a subspace with fewer in a round is left out of it. At least "
        f"{FEWEST_IN_SUM}: of two, each would know the other's update.",
    )


def _default(key: str) -> Callable[["FcitArguments"], bool]:
    """Whether a key has another value than its default or none."""
    return lambda args: getattr(args, key) not in (None, getattr(type(args), key))


def _rule(args: "FcitArguments") -> bool:
    return not args.server_rule.sees_mean_alone


def _wants(args: "FcitArguments") -> bool:
    return bool(args.part("methods").load().wants_more())


def _products(args: "FcitArguments") -> bool:
    return bool(args.part("lora_aggregations").make_one().averages_products)


#: What does not go with secure sums.
FALLS_AWAY: Unfit = {
    "fcit_server_rule": (_rule, "makes more of updates than their weighted mean, and nobody sees them one by one"),
    "fcit_method": (_wants, "has clients send more than their updates, which would travel unmasked"),
    "fcit_lora_aggregation": (_products, "needs each client's own product of factors, and a sum has none"),
    "fcit_update_compression": (
        _default("fcit_update_compression"),
        "gives each client numbers of its own scale, which cannot be added up masked",
    ),
    "fcit_max_norm_ratio": (
        _default("fcit_max_norm_ratio"),
        "compares the norms of updates, which nobody sees; each site holds its own to `fcit_max_update_norm`",
    ),
    "fcit_max_count_ratio": (
        _default("fcit_max_count_ratio"),
        "changes the weights of updates once all are there, when they are masked",
    ),
    "fcit_keep_client_updates": (_default("fcit_keep_client_updates"), "keeps what nobody has"),
    "fcit_dp_clipping_norm": (
        _default("fcit_dp_clipping_norm"),
        "scales updates down, and adds its noise, where these are seen one by one",
    ),
}


def check_secure_sum(args: "FcitArguments") -> None:
    """Refuse what does not go with secure sums, each by name, and what they need and is not there."""
    if not args.fcit_secure_sum:
        if args.fcit_secure_min_clients != FEWEST_IN_SUM:
            refuse("`fcit_secure_min_clients` belongs to `fcit_secure_sum: true`; take it out, or set that.")
        return
    least, is_site = args.fcit_secure_min_clients, args.fcit_site_key is not None
    if args.fcit_engine != FLOWER and not is_site:
        refuse(
            f"`fcit_secure_sum` needs `fcit_engine: {FLOWER}`: in one process, or on its machine, whoever adds up sees "
            f"everything; the engine is {args.fcit_engine}."
        )
    if is_site and not args.fcit_sites:
        refuse("`fcit_secure_sum` needs `fcit_sites` at each site, too: a site has sums with those whose keys it knows alone.")
    if least < FEWEST_IN_SUM:
        refuse(
            f"`fcit_secure_min_clients` must be at least {FEWEST_IN_SUM}, got {least}: of two, each knows the other's update."
        )
    if least > args.fcit_clients_per_round:
        refuse(
            f"`fcit_secure_min_clients` ({least}) is larger than `fcit_clients_per_round` ({args.fcit_clients_per_round}), so "
            "no sum would ever open; ask more clients."
        )
    for key, what in (
        ("fcit_max_update_norm", "the norm that each site holds its update to, which the masked numbers are made for"),
        ("fcit_max_client_samples", "the largest weight of a client in a sum"),
    ):
        if getattr(args, key) is None:
            refuse(f"`fcit_secure_sum` needs `{key}`, {what}; set it alike at server and sites.")
    most = args.fcit_max_client_samples
    if most is not None and most * args.fcit_clients_per_round >= 2**32:
        refuse(
            f"`fcit_max_client_samples` ({most}) times `fcit_clients_per_round` ({args.fcit_clients_per_round}) must be less "
            "than 2^32 with `fcit_secure_sum`; lower it to what clients have."
        )
    refuse_beside(args, "fcit_secure_sum", FALLS_AWAY)
