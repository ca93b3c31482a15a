"""``fcit-cli``: LLaMA-Factory's commands with the plugin loaded, and the plugin's own verbs.

``fcit-cli train x.yaml`` equals ``llamafactory-cli train x.yaml``; it serves environments where PyTorch's
autoload is switched off (``TORCH_DEVICE_BACKEND_AUTOLOAD=0``).
"""

import os
import sys

from .autoload import autoload
from .commands import COMMANDS
from .commands.command import make_parser, usage_lines
from .errors import end_in_a_sentence
from .plugins import blame


def main() -> None:
    """Entry point of the console script."""
    verb = sys.argv[1] if len(sys.argv) > 1 else "help"
    if verb in ("help", "-h", "--help"):
        print(usage())
    elif verb in {command.name.split()[0] for command in COMMANDS}:
        _own_verb(sys.argv[1:])
    else:
        # children of torchrun have no fcit-cli in front of them: PyTorch's autoload has to serve them
        os.environ.pop("TORCH_DEVICE_BACKEND_AUTOLOAD", None)
        autoload()
        end_in_a_sentence(blame)
        from llamafactory.cli import main as llamafactory_main

        llamafactory_main()


def usage() -> str:
    """What ``fcit-cli help`` shows."""
    calls = [(command.usage(), command.help) for command in COMMANDS]
    calls.append(("fcit-cli <command> ...", "any command of llamafactory-cli (train, export, chat, api, ...)"))
    return "\n".join(["fcit-cli: federated continual instruction tuning on LLaMA-Factory", "", *usage_lines(calls), ""])


def _own_verb(argv: list[str]) -> None:
    args = make_parser(COMMANDS).parse_args(argv)
    try:
        code = args.command.run(args)
    except OSError as error:
        sys.exit(f"fcit-cli: {error.filename}: {error.strerror}" if error.filename else f"fcit-cli: {error}")
    except (ImportError, ValueError) as error:
        sys.exit(f"fcit-cli: {error}")
    sys.exit(code)


if __name__ == "__main__":
    main()
