"""``fcit-cli``: LLaMA-Factory's commands with the plugin loaded, and the plugin's own verbs.

``fcit-cli train x.yaml`` equals ``llamafactory-cli train x.yaml``; it serves environments where PyTorch's
autoload is switched off (``TORCH_DEVICE_BACKEND_AUTOLOAD=0``).
"""

import contextlib
import difflib
import os
import select
import signal
import sys
from collections.abc import Iterable

from . import __version__
from .autoload import autoload
from .commands import COMMANDS, GROUPS, THEIRS
from .commands.command import make_parser, usage_lines
from .errors import end_in_a_sentence, to_nowhere
from .plugins import blame

#: With what a shell says that a program has ended by writing into a closed pipe.
_UNREAD = 128 + signal.SIGPIPE


def main() -> None:
    """Entry point of the console script.

    Where whoever reads its output has had enough, as in ``fcit-cli help | head -3``, it ends without a word.
    """
    try:
        _run()
    except BrokenPipeError:
        if not _let_go_of_pipes():
            raise  # it was another one, such as a site's
        sys.exit(_UNREAD)
    finally:
        _let_go_of_pipes()  # or the interpreter says so, as it writes what is left


def _let_go_of_pipes() -> bool:
    """Write to nowhere what nobody would read.

    Returns:
        Whether there is any such thing.
    """
    found = False
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # it is no file, or is closed
            with contextlib.suppress(BrokenPipeError):
                stream.flush()
            poll = select.poll()
            poll.register(stream.fileno(), 0)  # errors alone, which a pipe has that is not read any more
            if any(event & select.POLLERR for _, event in poll.poll(0)):
                to_nowhere(stream)
                found = True
    return found


def _run() -> None:
    verb = sys.argv[1] if len(sys.argv) > 1 else "help"
    if verb in ("help", "-h", "--help"):
        print(usage())
    elif verb in ("--version", "-V"):
        print(f"fcit-plugin {__version__}")
    elif verb in {command.name.split()[0] for command in COMMANDS}:
        _own_verb(sys.argv[1:])
    elif verb in {theirs.name for theirs in THEIRS}:
        # children of torchrun have no fcit-cli in front of them: PyTorch's autoload has to serve them
        os.environ.pop("TORCH_DEVICE_BACKEND_AUTOLOAD", None)
        autoload()
        end_in_a_sentence(blame)
        from llamafactory.cli import main as llamafactory_main

        llamafactory_main()
    else:
        firsts = dict.fromkeys(known.name.split()[0] for group in GROUPS for known in group.verbs)
        print(misspelt(verb, firsts), file=sys.stderr)
        sys.exit(2)


def usage() -> str:
    """What ``fcit-cli help`` shows."""
    lines = ["fcit-cli: federated continual instruction tuning on LLaMA-Factory"]
    for group in GROUPS:
        calls = [(verb.usage(), verb.help) for verb in group.verbs]
        lines += ["", f"{group.title}:", *usage_lines(calls)]
    closing = f"{', '.join(verb.name for verb in THEIRS)} are llamafactory-cli's own."
    return "\n".join([*lines, "", closing, "fcit-cli VERB --help says more of one verb; fcit-cli --version.", ""])


def misspelt(typed: str, valid: Iterable[str], before: str = "") -> str:
    """What to say of a verb that is none.

    Args:
        typed: The word that is wrong.
        valid: What can stand there.
        before: The word before it, if it is a second one.
    """
    matches = difflib.get_close_matches(typed, list(valid), n=3, cutoff=0.5)
    alike = [name for name in matches if name[0] == typed[0]] or matches  # slips seldom are in the first letter
    hint = f"; did you mean `{' '.join(filter(None, ('fcit-cli', before, alike[0])))}`?" if alike else "."
    return f"fcit-cli: there is no verb `{f'{before} {typed}'.strip()}`{hint} `fcit-cli help` lists all of them."


def _own_verb(argv: list[str]) -> None:
    seconds = [command.name.split()[1] for command in COMMANDS if command.name.startswith(f"{argv[0]} ")]
    given = argv[1] if len(argv) > 1 else "-"
    if seconds and not given.startswith("-") and given not in seconds:
        print(misspelt(given, seconds, argv[0]), file=sys.stderr)
        sys.exit(2)
    args = make_parser(COMMANDS).parse_args(argv)
    try:
        code = args.command.run(args)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _let_go_of_pipes():
            sys.exit(_UNREAD)
        sys.exit(f"fcit-cli: {error.filename}: {error.strerror}" if error.filename else f"fcit-cli: {error}")
    except (ImportError, ValueError) as error:
        sys.exit(f"fcit-cli: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code)


if __name__ == "__main__":
    main()
