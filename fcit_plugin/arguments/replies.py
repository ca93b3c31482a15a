"""Keys of what is asked of clients' replies, and what happens without good ones."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .option import check_at_least, check_positive, option
from .reasons import refuse

if TYPE_CHECKING:
    from . import FcitArguments


@dataclass
class ReplyArguments:
    """When a client's reply is used, and when a round is."""

    fcit_min_replies: int = option(1, "Fewest good replies with which a round goes on.")
    fcit_max_round_retries: int = option(2, "How often a round with too few good replies is tried again, with other clients.")
    fcit_client_timeout: float | None = option(None, "Seconds after which a client's answer comes too late (default: none).")
    fcit_max_client_samples: int | None = option(None, "Most examples that a client may report (default: no bound).")
    fcit_max_update_norm: float | None = option(
        None, "Largest L2 norm of a client's update: what it returns minus what it was sent (default: no bound)."
    )
    fcit_max_norm_ratio: float | None = option(
        100.0,
        "Largest norm of a client's update, of its identity token, and (squared, or as the method says) of what it sends "
        "beside its weights, relative to the median of the round, from three replies on; none with fcit_dp_clipping_norm.",
    )
    fcit_max_count_ratio: float | None = option(
        10.0,
        "A client's number of examples, and the count of its identity token, weigh at most this many times the median of the "
        "round; null, and with fcit_secure_sum: as they are named.",
    )


def check_replies(args: "FcitArguments") -> None:
    """Refuse values that cannot work."""
    check_at_least(args, 1, "fcit_min_replies", "fcit_max_client_samples", "fcit_max_norm_ratio")
    check_at_least(args, 0, "fcit_max_round_retries")
    check_at_least(args, 1, "fcit_max_count_ratio")
    check_positive(args, "fcit_client_timeout", "fcit_max_update_norm", "fcit_max_count_ratio")
    if args.fcit_min_replies > args.fcit_clients_per_round:
        refuse(
            f"`fcit_min_replies` ({args.fcit_min_replies}) is larger than "
            f"`fcit_clients_per_round` ({args.fcit_clients_per_round}); lower it or ask more clients."
        )
