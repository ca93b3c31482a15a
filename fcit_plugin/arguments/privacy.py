"""Keys of differential privacy."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .option import check_positive, option
from .reasons import refuse

if TYPE_CHECKING:
    from . import FcitArguments


@dataclass
class PrivacyArguments:
    """Clipping and noise, on updates at the server and on identity tokens at the clients."""

    fcit_dp_clipping_norm: float | None = option(
        None, "Scale each update down to this L2 norm, all tensors together, and count all replies alike (default: no)."
    )
    fcit_dp_noise_multiplier: float | None = option(
        None, "Standard deviation of the Gaussian noise on a sum of updates, in units of fcit_dp_clipping_norm."
    )
    fcit_identity_noise: float | None = option(
        None,
        "Standard deviation of the Gaussian noise that clients add to their identity tokens, which are scaled to length 1.",
    )
    fcit_dp_delta: float = option(1e-5, "Delta at which the spent epsilon is reported.")
    fcit_dp_secret: int | None = option(
        None, "Secret number that the noise is drawn from, of the one who adds it (default: the run's seed, for simulations)."
    )


def check_privacy(args: "FcitArguments") -> None:
    """Refuse values that cannot work, alone or together."""
    check_positive(args, "fcit_dp_clipping_norm", "fcit_dp_noise_multiplier", "fcit_identity_noise", "fcit_dp_delta")
    if args.fcit_dp_noise_multiplier is not None and args.fcit_dp_clipping_norm is None:
        refuse("`fcit_dp_noise_multiplier` needs `fcit_dp_clipping_norm`, the norm that the noise has to hide.")
    if args.fcit_dp_delta * args.fcit_num_clients >= 1:
        refuse(
            f"`fcit_dp_delta` must be less than 1 / `fcit_num_clients` ({1 / args.fcit_num_clients:g}), "
            f"got {args.fcit_dp_delta}: else giving away one client's update would count as private."
        )
    if args.fcit_dp_clipping_norm is not None and args.server_rule.robust_from is not None:
        refuse(
            f"`fcit_dp_clipping_norm` goes with rules that average; `fcit_server_rule` is {args.fcit_server_rule}, "
            "whose result one client can change by more than its share."
        )
    noisy = [key for key in ("fcit_dp_noise_multiplier", "fcit_identity_noise") if getattr(args, key) is not None]
    if args.fcit_dp_secret is not None and not (noisy and args.fcit_dp_secret >= 0):
        refuse(
            f"`fcit_dp_secret` is {args.fcit_dp_secret}; it must be 0 or more, and goes with `fcit_dp_noise_multiplier` "
            "or `fcit_identity_noise`."
        )
    if noisy and find_spec("dp_accounting") is None:
        refuse(f'`{noisy[0]}` needs a package that adds up the spent epsilon: pip install "fcit-plugin[privacy]".')
