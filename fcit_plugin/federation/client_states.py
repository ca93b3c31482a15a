"""What clients keep to themselves between rounds: Flower's ``Context.state``, where there is no Flower runtime to keep it.

These numbers are the clients' own (:mod:`.compression` has put them there). In the simulation, whose one process is server
and clients, a run's commit has them in a folder apart, :data:`FOLDER`, one file a client; no part of the server reads it, and
it goes nowhere. A real site keeps them in a folder of its own (:class:`ClientFolder`). Array records only, as safetensors.
"""

import re
from pathlib import Path

from flwr.app import RecordDict

from ..files import inside, write_bytes
from ..state.names import round_in, round_name
from .messages import ClientConfig
from .stored import records_bytes, stored_records

#: Folder in a commit, and file in a kept reply (:mod:`.reply_cache`).
FOLDER, FILE = "clients_private", "client_private.safetensors"


class ClientStates:
    """The states of a run's simulated clients; most clients have none."""

    def __init__(self) -> None:
        self._states: dict[int, RecordDict] = {}

    def of(self, client: int) -> RecordDict:
        """A client's state, for its app to change: what comes of that counts once :meth:`keep` is called with it."""
        return RecordDict(dict(self._states.get(client, {})))

    def keep(self, client: int, state: RecordDict) -> None:
        """A client's state from now on."""
        if state:
            self._states[client] = state

    def write(self, commit: Path) -> None:
        """Write all states into a commit."""
        for client, state in sorted(self._states.items()):
            write_bytes(commit / FOLDER / f"client-{client}.safetensors", records_bytes(state))

    def read(self, commit: Path) -> None:
        """Go on with the states in a commit. Their arrays stay in it until they are used, so memory has none of them."""
        names = [re.fullmatch(r"client-(\d{1,18})\.safetensors", path.name) for path in sorted((commit / FOLDER).glob("*"))]
        self._states = {int(name[1]): stored_records(inside(commit, f"{FOLDER}/{name[0]}")) for name in names if name}


class ClientFolder:
    """What one client at a site of its own keeps: its state after each round that it took part in, by run.

    A round that is done again begins from the state before it, as it did the first time.

    Args:
        folder: The site's folder (``fcit_client_dir``).
        config: What the client has to do: run, client, stage, round.
    """

    def __init__(self, folder: Path, config: ClientConfig) -> None:
        self._folder = folder / config.run / f"client-{config.client}"
        self._now = (config.stage, config.round)

    def read(self) -> RecordDict:
        """The state after the client's last round before this one.

        Raises:
            FcitError: Its file is damaged.
        """
        before = self._before()
        if before is None:
            return RecordDict()
        return stored_records(self._path(before))

    def write(self, state: RecordDict) -> None:
        """Keep the state after this round, and besides only the one that this round began from."""
        write_bytes(self._path(self._now), records_bytes(state))
        for round in set(self._rounds()) - {self._now, self._before()}:
            self._path(round).unlink()

    def _before(self) -> tuple[int, int] | None:
        return max((round for round in self._rounds() if round < self._now), default=None)

    def _rounds(self) -> list[tuple[int, int]]:
        """Stage and round of each state that is there."""
        return [round for path in self._folder.glob("*.safetensors") if (round := round_in(path.stem)) is not None]

    def _path(self, round: tuple[int, int]) -> Path:
        return inside(self._folder, f"{round_name(*round)}.safetensors")
