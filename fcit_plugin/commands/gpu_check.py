"""``fcit-cli gpu-check``: what runs on a GPU do as they do on a CPU, as a table for a bug report."""

import argparse
import sys

from ..errors import FcitError, nearest
from .command import Command

MINUTES = 10.0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checks", nargs="*", metavar="CHECK", help="names of checks; default: all")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: what of it can be checked there")
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, metavar="N", help=f"checks that are left after this are skipped ({MINUTES:g})"
    )
    parser.add_argument("--list", action="store_true", help="list the checks and stop")


def _run(args: argparse.Namespace) -> int:
    import torch

    from ..gpu_check.checks import CHECKS
    from ..gpu_check.runner import machine, make_all, table

    by_name = {check.name: check for check in CHECKS}
    for name in args.checks:
        if name not in by_name:
            raise FcitError(f"There is no check {name!r}: {nearest(name, by_name)}")
    if args.list:
        print("\n".join(f"{check.name:<14}  {check.asserts}" for check in CHECKS))
        return 0
    if args.device == "cuda" and not torch.cuda.is_available():
        raise FcitError(
            "PyTorch finds no GPU here (`torch.cuda.is_available()` is false); `--device cpu` makes the checks that a CPU can."
        )
    chosen = [by_name[name] for name in args.checks] or list(CHECKS)

    def told(outcome) -> None:
        print(f"{outcome.check.name}: {outcome.word} ({outcome.seconds:.0f} s) {outcome.told}", file=sys.stderr, flush=True)
        for line in outcome.log:
            print(f"    {line}", file=sys.stderr, flush=True)

    outcomes = make_all(chosen, args.device, told, 60 * args.minutes)
    count = {word: sum(one.word == word for one in outcomes) for word in ("held", "failed", "skipped")}
    print("\n".join(["", *(f"- {line}" for line in machine(args.device)), "", *table(outcomes), ""]))
    print(", ".join(f"{number} {word}" for word, number in count.items()) + ".")
    return 1 if count["failed"] else 0


GPU_CHECK = Command(
    "gpu-check",
    "check on this machine's GPUs what tests without one cannot, and print a table for a bug report",
    _add_arguments,
    _run,
)
