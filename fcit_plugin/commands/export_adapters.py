"""``fcit-cli export-adapters``: standard adapters out of an output folder."""

import argparse
from pathlib import Path

from .command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="output_dir of a run")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write (default: RUN/adapters)")
    parser.add_argument("--model", metavar="NAME", help="the base model (default: the one that the run names)")
    parser.add_argument(
        "--weights", metavar="W", help="also one adapter of all subspaces with fixed weights, as fcit_export_weights"
    )
    parser.add_argument("--instruction", metavar="TEXT", help="for --weights auto, as fcit_export_instruction")
    parser.add_argument("--trusted-encoder", metavar="NAME", help="as fcit_trusted_encoder, for a folder from elsewhere")
    parser.add_argument("--dataset-dir", metavar="DIR", help="where --instruction and --router-data find your datasets")
    parser.add_argument(
        "--base-copy", type=Path, metavar="DIR", help="also a copy of the base model with the trained projector in it"
    )
    parser.add_argument("--adapters-only", action="store_true", help="leave a trained projector out")
    parser.add_argument(
        "--router-encoder",
        metavar="NAME",
        help="encoder of router.json, where it is not to be the run's (for prompt: embedding)",
    )
    parser.add_argument(
        "--router-data", nargs="+", default=(), metavar="DATASET", help="datasets whose instructions its tokens are made of"
    )
    parser.add_argument("--no-router", action="store_true", help="adapters without router.json")


def _run(args: argparse.Namespace) -> None:
    from ..arguments import FcitArguments
    from ..autoload import autoload

    autoload()  # also where PyTorch's is switched off
    from ..serving.export_adapters import export_adapters

    fcit = None
    if args.weights is not None or args.instruction is not None:
        fcit = FcitArguments(fcit_export_weights=args.weights, fcit_export_instruction=args.instruction)
    out = args.out or args.run / "adapters"
    export_adapters(
        args.run,
        out,
        model=args.model,
        fcit=fcit,
        base_copy=args.base_copy,
        adapters_only=args.adapters_only,
        with_router=not args.no_router,
        dataset_dir=args.dataset_dir,
        trusted_encoder=args.trusted_encoder,
        router_encoder=args.router_encoder,
        router_data=args.router_data,
    )
    print(f"Written to {out}.")


EXPORT_ADAPTERS = Command(
    "export-adapters",
    "write PEFT adapters and what picks one for a prompt",
    _add_arguments,
    _run,
)
