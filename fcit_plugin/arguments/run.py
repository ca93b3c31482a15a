"""Keys that make something else of a recipe than the run it describes."""

from dataclasses import dataclass

from .option import option


@dataclass
class RunArguments:
    """A look ahead."""

    fcit_dry_run: bool = option(
        False, "Say who would train what when, with steps, bytes and memory, and stop (also --dry-run)."
    )

    def parse(self) -> None:
        """Nothing to turn."""

    def check(self) -> None:
        """Nothing to check."""
