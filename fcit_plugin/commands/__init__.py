"""The plugin's own verbs of ``fcit-cli``: one module each, all listed in :data:`.groups.GROUPS`.

A new verb is one module with a :class:`.command.Command` and one line there. A module imports what it needs when it runs, so
that ``fcit-cli help`` stays quick.
"""

from .groups import COMMANDS, GROUPS, THEIRS

__all__ = ["COMMANDS", "GROUPS", "THEIRS"]
