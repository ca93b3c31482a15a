"""Keys of federation by folders."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .option import check_texts, comma_separated, option

if TYPE_CHECKING:
    from . import FcitArguments


@dataclass
class FolderArguments:
    """Which folders a site or the aggregator reads."""

    fcit_state_dir: str | None = option(None, "Server state folder to start from (stages fcit_client, fcit_aggregate).")
    fcit_client: int | None = option(None, "Number of the client to train (stage fcit_client).")
    fcit_client_dir: str | None = option(
        None, "Folder of the client's own for what it carries over to its next round (stage fcit_client with int8 updates)."
    )
    fcit_update_dirs: str | None = option(None, "Update folders to fold in, a list or comma-separated (stage fcit_aggregate).")


def check_folders(args: "FcitArguments") -> None:
    """Refuse what names no folders."""
    check_texts(args, "fcit_update_dirs")


def parse_folders(args: "FcitArguments") -> None:
    """Turn text from the command line into the values that it means."""
    if isinstance(args.fcit_update_dirs, str):
        args.fcit_update_dirs = comma_separated(args.fcit_update_dirs)  # type: ignore[assignment]  # the command line has text alone
