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
    parser = argparse.ArgumentParser(prog="fcit-cli", usage=USAGE)
    parser.add_argument("verb", choices=["data", "model"])
    parser.add_argument("what", choices=["mini", "real", "smollm2-vl"])
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    try:
        if (args.verb, args.what) == ("data", "mini"):
            from .mini.build import build_mini

            build_mini(args.out, seed=args.seed)
        elif (args.verb, args.what) == ("data", "real"):
            from .real.data import prepare

            prepare(args.out, seed=args.seed)
        elif (args.verb, args.what) == ("model", "smollm2-vl"):
            from .real.smollm2_vl import build

            build(args.out)
        else:
            parser.error(f"there is no {args.verb} called {args.what}")
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"fcit-cli: {error}")
    print(f"Written to {args.out}.")
