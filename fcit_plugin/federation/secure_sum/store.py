"""What a site keeps: the session that is going on, and forever which there were and of which updates a sum was opened.

It lies in a folder of the site's own, with mode 600, and is no part of any backup: with an older one the site would answer
again.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from ...files import read_as, read_bytes, writing
from ...locks import take
from ...schema import Count, Sum, Word
from ...state.secret_files import write_private
from ..versioned import LONGEST, written
from .texts import ClientNumber, Clients, Name, PublicKeys

_SESSION, _OPENED, _SINCE, _LOCK = "session.json", "opened", "since.json", ".lock"
_REMEDY = "stop the site and take its folder of secure sums away; it sits out until the next round"

#: Two shares of 32 bytes: of a self mask, and of a private key.
TwoShares = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class Answer(TypedDict):
    """What a step was answered: the request's digest, and the reply."""

    request: Sum
    reply: Annotated[str, Field(max_length=LONGEST)]


class Round(TypedDict):
    """A round of a run."""

    run: Word
    stage: Count
    round: Count


class Session(Round):
    """All that a site knows of a session; private keys and self masks stand in it."""

    session: Sum
    launch: Sum
    attempt: Count
    answers: dict[Word, Answer]
    seal: Sum
    private: dict[Name, Sum]
    rosters: NotRequired[dict[Name, Clients]]
    peers: NotRequired[dict[ClientNumber, PublicKeys]]
    masks: NotRequired[dict[Name, Sum]]
    shares: NotRequired[dict[Name, dict[ClientNumber, TwoShares]]]
    present: NotRequired[dict[Name, Clients]]
    updates: NotRequired[dict[Name, Sum]]
    survivors: NotRequired[Clients]


class FileStore:
    """The folder of one site, which one process has at a time.

    Args:
        folder: The folder; made where it is not there.

    Raises:
        FcitError: Another process of the site has it.
        OSError: It cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with writing(folder):
            (folder / _OPENED).mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.chmod(0o700)
        busy = f"Another process of this site is at work in {folder}; stop it first."
        self._lock = take(folder / _LOCK, str(folder), "a second process of this site", busy)

    def close(self) -> None:
        """Let another process have the folder."""
        self._lock.release()

    def session(self) -> Session | None:
        """The session that is going on.

        Raises:
            FcitError: The file is not what was written.
        """
        path = self._folder / _SESSION
        return read_as(Session, path, _REMEDY, LONGEST) if path.exists() else None

    def keep(self, session: Session) -> None:
        """Keep a session in place of the one that was kept: what was secret of that is gone."""
        write_private(self._folder / _SESSION, written(session))

    def since(self) -> Round | None:
        """The round in which the site first made keys here."""
        path = self._folder / _SINCE
        return read_as(Round, path, _REMEDY, LONGEST) if path.exists() else None

    def begin(self, first: Round) -> None:
        """Keep what :meth:`since` tells."""
        write_private(self._folder / _SINCE, written(first))

    def opened_in(self, what: bytes) -> str | None:
        """The session in which a sum was opened over something, or which has begun; None for none.

        Args:
            what: A digest of it.
        """
        path = self._folder / _OPENED / what.hex()
        return read_bytes(path, _REMEDY, LONGEST).decode(errors="replace") if path.exists() else None

    def remember(self, whats: Iterable[bytes], session: str) -> None:
        """Keep forever that a session has opened sums over these, or has begun."""
        for what in whats:
            write_private(self._folder / _OPENED / what.hex(), session)
