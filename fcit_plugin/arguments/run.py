"""Keys that make something else of a recipe than the run it describes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .option import option
from .reasons import refuse

if TYPE_CHECKING:
    from . import FcitArguments


@dataclass
class RunArguments:
    """A look ahead, or a bound that the run is compared with."""

    fcit_dry_run: bool = option(
        False, "Say who would train what when, with steps, bytes and memory, and stop (also --dry-run)."
    )
    fcit_bound: str | None = option(
        None,
        "Run a bound instead of the method: zero_shot (the untuned model), centralized (all data in one place, at least one "
        "pass with num_train_epochs), centralized_equal (the same, with as many passes as the federated run makes), "
        "local (clients that learn alone), oracle (disco, told the task of each client and of each test record).",
        choices=["zero_shot", "centralized", "centralized_equal", "local", "oracle"],
    )


def check_run(args: "FcitArguments") -> None:
    """Refuse values that cannot work together."""
    if args.fcit_bound and args.fcit_eval_every == "never":
        refuse("`fcit_bound` is there to be compared, so it has to be evaluated; take `fcit_eval_every: never` out.")
