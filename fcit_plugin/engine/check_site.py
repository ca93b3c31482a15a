"""``fcit-cli site check``: everything that a site does, but for training, and whether the server would take it."""

import time
from pathlib import Path

from flwr.app import RecordDict

from ..deployment.connection import check_connection
from ..errors import FcitError, one_line
from ..federation.hello import KIND as HELLO
from .fingerprint import digest_of
from .rehearsal import rehearse
from .session import Session
from .site import SiteClient, answer, comparable, identity_of
from .site_processes import SiteProcesses

#: Seconds to wait for the server's question.
WAIT = 45.0


def check_site(session: Session, wait: float = WAIT) -> None:
    """Say what this site has, try the connection, and wait for a server that asks who is there.

    Args:
        session: Of the site: its data and its model are read already.
        wait: Seconds.

    Raises:
        FcitError: Something is wrong; the sentence says what.
    """
    args, identity = session.args, identity_of(session)
    processes = SiteProcesses(session)
    if not session.is_main:
        rehearse(session, session.evaluator({}))
        return
    site = SiteClient(session, identity.key, processes)
    print(f"Base model {session.base_model}, fingerprint {session.base_fingerprint}.")
    for task, records in site.records.items():
        print(f"Task {task}: {records:,} records.")
    print(f"Recipe {digest_of(comparable(session.keys, session.arguments))}; the server's dry run names its own.")
    rehearse(session, session.evaluator({}))
    print("The model answers through subspaces.")
    assert args.fcit_superlink is not None and args.fcit_certificate is not None  # the stage needs them
    until = check_connection(args.fcit_superlink, Path(args.fcit_certificate))
    print(f"The SuperLink at {args.fcit_superlink} is there; its certificate holds until {until:%Y-%m-%d}.")
    _wait_for_server(session, site, wait)


def _wait_for_server(session: Session, site: SiteClient, wait: float) -> None:
    """Answer a server's hello, and nothing else."""
    said: list[str | None] = []

    def hello_alone(kind: str, content: RecordDict) -> RecordDict:
        if kind != HELLO:
            raise FcitError("This site is only being checked; it trains once `llamafactory-cli train` runs it.")
        try:
            found = site.app(kind, content)
        except FcitError as error:
            said.append(one_line(error))
            raise
        said.append(None)
        return found

    end = time.monotonic() + wait
    answer(session, identity_of(session), hello_alone, lambda: bool(said) or time.monotonic() > end)
    if not said:
        print(f"No server has asked within {wait:g} s whether this site is there: compare the recipe above with its dry run.")
    elif said[-1] is not None:
        raise FcitError(said[-1])
    else:
        print("The server has asked, and its run is the one that this recipe describes.")
