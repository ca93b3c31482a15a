"""Keys of differential privacy."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .option import check_positive, option
from .reasons import refuse

if TYPE_CHECKING:
    from . import FcitArguments


#: Least noise, in units of what it hides, for which sums in steps of 2**-26 of it fit into 64 bits.
_LEAST = 1e-6


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
    fcit_dp_secret: str | None = option(
        None,
        "What the noise is drawn from, by the one who adds it: auto, a secret of the operating system's that the plugin keeps "
        "in FCIT_SECRETS_DIR, or a secret number of your own (default: the run's seed, which is for simulations and protects "
        "nobody).",
        shown=False,
    )

    @property
    def adds_noise(self) -> bool:
        """Whether anything gets noise."""
        return self.fcit_dp_noise_multiplier is not None or self.fcit_identity_noise is not None


def parse_privacy(args: "FcitArguments") -> None:
    """Take a secret number as its digits; YAML reads it as a number.

    Raises:
        FcitError: It is neither a number nor ``auto``; the sentence does not tell what it is.
    """
    if args.fcit_dp_secret is None:
        return
    secret = str(args.fcit_dp_secret).strip()
    if isinstance(args.fcit_dp_secret, bool) or not (secret == "auto" or (secret.isascii() and secret.isdigit())):
        refuse("`fcit_dp_secret` must be auto, or a whole number, 0 or more (it is not shown here).")
    args.fcit_dp_secret = secret if secret == "auto" else secret.lstrip("0") or "0"


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
    if args.fcit_dp_clipping_norm is not None and args.fcit_max_norm_ratio not in (None, type(args).fcit_max_norm_ratio):
        refuse(
            "`fcit_max_norm_ratio` has no effect with `fcit_dp_clipping_norm`, which bounds every update by itself, so that no "
            "client decides about others; take it out."
        )
    noisy = [key for key in ("fcit_dp_noise_multiplier", "fcit_identity_noise") if getattr(args, key) is not None]
    if args.fcit_dp_secret is not None and not noisy:
        refuse("`fcit_dp_secret` goes with `fcit_dp_noise_multiplier` or `fcit_identity_noise`: without noise there is no use.")
    for key in noisy if args.fcit_dp_secret is not None else ():
        if getattr(args, key) < _LEAST:
            refuse(f"`{key}` must be at least {_LEAST:g} with `fcit_dp_secret`, got {getattr(args, key)}: less hides nothing.")
    if noisy and find_spec("dp_accounting") is None:
        refuse(f'`{noisy[0]}` needs a package that adds up the spent epsilon: pip install "fcit-plugin[privacy]".')
