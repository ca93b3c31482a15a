"""The verbs that write data and models which the plugin makes itself."""

import argparse
from pathlib import Path

from .command import Command
from .data_convert import FEDLLM


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")


def _add_out_and_seed(parser: argparse.ArgumentParser) -> None:
    _add_out(parser)
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="seed of everything drawn")


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"it is a whole number, 0 or more, got {text!r}")
    return int(text)


def _make_mini(args: argparse.Namespace) -> None:
    from ..samples.mini.build import build_mini

    build_mini(args.out, seed=args.seed)
    _say_written(args)


def _make_text(args: argparse.Namespace) -> None:
    from ..samples.text import write_text_tasks

    write_text_tasks(args.out, seed=args.seed)
    _say_written(args)


def _make_hard(args: argparse.Namespace) -> None:
    from ..samples.hard import write_hard_cases

    write_hard_cases(args.out, seed=args.seed)
    _say_written(args)


def _add_benchmark(parser: argparse.ArgumentParser) -> None:
    from ..fcit_benchmark.benchmarks import OTHERS

    parser.add_argument("--benchmark", choices=[*OTHERS, FEDLLM], required=True, help="for which benchmark")
    _add_out_and_seed(parser)


def _make_standin(args: argparse.Namespace) -> None:
    from ..samples.standin import write_clients_standin, write_standin

    if args.benchmark == FEDLLM:
        write_clients_standin(args.out, seed=args.seed)
    else:
        write_standin(args.out, args.benchmark, seed=args.seed)
    _say_written(args)


def _make_real(args: argparse.Namespace) -> None:
    from ..samples.real.data import prepare

    prepare(args.out, seed=args.seed)
    _say_written(args)


def _make_reasoning(args: argparse.Namespace) -> None:
    from ..samples.real.reasoning import prepare

    prepare(args.out, seed=args.seed)
    _say_written(args)


def _make_smollm2(args: argparse.Namespace) -> None:
    from ..samples.real.smollm2 import build

    build(args.out)
    _say_written(args)


def _make_smollm2_vl(args: argparse.Namespace) -> None:
    from ..samples.real.smollm2_vl import build

    build(args.out)
    _say_written(args)


def _say_written(args: argparse.Namespace) -> None:
    print(f"Written to {args.out}.")


DATA_MINI = Command("data mini", "draw the embedded benchmark FCIT-mini", _add_out_and_seed, _make_mini)
DATA_TEXT = Command("data text", "write the text tasks of recipes/fcit_text_tiny.yaml", _add_out_and_seed, _make_text)
DATA_HARD = Command("data hard", "write the datasets of recipes/compare/hard.yaml", _add_out_and_seed, _make_hard)
DATA_STANDIN = Command("data standin", "write a small stand-in for another benchmark's data", _add_benchmark, _make_standin)
DATA_REAL = Command("data real", "write the real datasets of recipes/fcit_smollm2.yaml", _add_out_and_seed, _make_real)
DATA_REASONING = Command(
    "data reasoning", "write the real text tasks of recipes/compare/real.yaml", _add_out_and_seed, _make_reasoning
)
MODEL_SMOLLM2 = Command("model smollm2", "build the real text model of recipes/compare/real.yaml", _add_out, _make_smollm2)
MODEL_SMOLLM2_VL = Command(
    "model smollm2-vl",
    "build the real base model of recipes/fcit_smollm2.yaml",
    _add_out,
    _make_smollm2_vl,
)
