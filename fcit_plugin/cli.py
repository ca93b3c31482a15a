"""``fcit-cli``: LLaMA-Factory's commands with the plugin loaded, and the plugin's own verbs.

``fcit-cli train x.yaml`` equals ``llamafactory-cli train x.yaml``; it serves environments where PyTorch's
autoload is switched off (``TORCH_DEVICE_BACKEND_AUTOLOAD=0``).
"""

import argparse
import os
import sys
from pathlib import Path

from .autoload import autoload

USAGE = """fcit-cli: federated continual instruction tuning on LLaMA-Factory

  fcit-cli data mini --out DIR            draw the embedded benchmark FCIT-mini
  fcit-cli data text --out DIR            write the text tasks of recipes/fcit_text_tiny.yaml
  fcit-cli data real --out DIR            write the real data sets of recipes/fcit_smollm2.yaml
  fcit-cli model smollm2-vl --out DIR     build the real base model of recipes/fcit_smollm2.yaml
  fcit-cli <command> ...                  any command of llamafactory-cli (train, export, chat, api, ...)
"""


def main() -> None:
    """Entry point of the console script."""
    command = sys.argv[1] if len(sys.argv) > 1 else "help"
    if command in ("help", "-h", "--help"):
        print(USAGE)
    elif command in ("data", "model"):
        _own_verb(sys.argv[1:])
    else:
        # children of torchrun have no fcit-cli in front of them: PyTorch's autoload has to serve them
        os.environ.pop("TORCH_DEVICE_BACKEND_AUTOLOAD", None)
        autoload()
        from llamafactory.cli import main as llamafactory_main

        llamafactory_main()


def _own_verb(argv: list[str]) -> None:
    verb = argv[0]
    parser = argparse.ArgumentParser(prog=f"fcit-cli {verb}", usage=USAGE)
    parser.add_argument("what", choices=sorted(what for v, what in _VERBS if v == verb))
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything drawn")
    args = parser.parse_args(argv[1:])
    try:
        _VERBS[verb, args.what](args)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"fcit-cli: {error}")
    print(f"Written to {args.out}.")


def _data_mini(args: argparse.Namespace) -> None:
    from .mini.build import build_mini

    if args.out.exists() and any(args.out.iterdir()):
        raise ValueError(f"{args.out} is not empty; name a new folder for --out.")
    build_mini(args.out, seed=args.seed)


def _data_text(args: argparse.Namespace) -> None:
    from .mini.text import write_text_tasks

    write_text_tasks(args.out, seed=args.seed)


def _data_real(args: argparse.Namespace) -> None:
    from .real.data import prepare

    prepare(args.out, seed=args.seed)


def _model_smollm2_vl(args: argparse.Namespace) -> None:
    from .real.smollm2_vl import build

    build(args.out)


_VERBS = {
    ("data", "mini"): _data_mini,
    ("data", "text"): _data_text,
    ("data", "real"): _data_real,
    ("model", "smollm2-vl"): _model_smollm2_vl,
}
