"""The verbs that write data and models which the plugin makes itself."""

import argparse
from pathlib import Path

from .command import Command


def _out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")


def _out_and_seed(parser: argparse.ArgumentParser) -> None:
    _out(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of everything drawn")


def _data_mini(args: argparse.Namespace) -> None:
    from ..samples.mini.build import build_mini

    build_mini(args.out, seed=args.seed)
    _say_written(args)


def _data_text(args: argparse.Namespace) -> None:
    from ..samples.text import write_text_tasks

    write_text_tasks(args.out, seed=args.seed)
    _say_written(args)


def _data_hard(args: argparse.Namespace) -> None:
    from ..samples.hard import write_hard_cases

    write_hard_cases(args.out, seed=args.seed)
    _say_written(args)


def _data_real(args: argparse.Namespace) -> None:
    from ..samples.real.data import prepare

    prepare(args.out, seed=args.seed)
    _say_written(args)


def _data_reasoning(args: argparse.Namespace) -> None:
    from ..samples.real.reasoning import prepare

    prepare(args.out, seed=args.seed)
    _say_written(args)


def _model_smollm2(args: argparse.Namespace) -> None:
    from ..samples.real.smollm2 import build

    build(args.out)
    _say_written(args)


def _model_smollm2_vl(args: argparse.Namespace) -> None:
    from ..samples.real.smollm2_vl import build

    build(args.out)
    _say_written(args)


def _say_written(args: argparse.Namespace) -> None:
    print(f"Written to {args.out}.")


DATA_MINI = Command("data mini", "--out DIR", "draw the embedded benchmark FCIT-mini", _out_and_seed, _data_mini)
DATA_TEXT = Command("data text", "--out DIR", "write the text tasks of recipes/fcit_text_tiny.yaml", _out_and_seed, _data_text)
DATA_HARD = Command("data hard", "--out DIR", "write the data sets of recipes/compare/hard.yaml", _out_and_seed, _data_hard)
DATA_REAL = Command(
    "data real", "--out DIR", "write the real data sets of recipes/fcit_smollm2.yaml", _out_and_seed, _data_real
)
DATA_REASONING = Command(
    "data reasoning", "--out DIR", "write the real text tasks of recipes/compare/real.yaml", _out_and_seed, _data_reasoning
)
MODEL_SMOLLM2 = Command(
    "model smollm2", "--out DIR", "build the real text model of recipes/compare/real.yaml", _out, _model_smollm2
)
MODEL_SMOLLM2_VL = Command(
    "model smollm2-vl",
    "--out DIR",
    "build the real base model of recipes/fcit_smollm2.yaml",
    _out,
    _model_smollm2_vl,
)
