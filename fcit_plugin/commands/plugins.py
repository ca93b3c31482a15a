"""``fcit-cli plugins``: what is registered, by whom, with which keys."""

import argparse

from .command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def _run(args: argparse.Namespace) -> int:
    from ..arguments.joined import in_words, part_keys
    from ..parts import KINDS
    from ..plugins import manager, registry, source

    keys = part_keys().values()
    for kind, (choice, _) in KINDS.items():
        print(kind.replace("_", " ") + (f", chosen by {choice}" if choice else ""))
        for name, part in registry(kind).items():
            own = [f"{key.name} ({in_words(key.owners[name])})" for key in keys if key.kind == kind and name in key.owners]
            print(f"  {name:<16}  {part.package:<20}  {', '.join(own)}".rstrip())
        print()
    intercepting = [source(found.plugin_name) for found in manager().hook.fcit_intercept_reply.get_hookimpls()]
    if intercepting:
        print(f"replies of clients are intercepted by {', '.join(intercepting)}\n")
    return 0


PLUGINS = Command("plugins", "list methods, rules and other parts, who registered them, and their keys", _arguments, _run)
