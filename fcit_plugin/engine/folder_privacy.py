"""What federation by folders spends: the state hands on who took part, and where the noise comes from."""

from collections.abc import Mapping
from pathlib import Path

from ..errors import FcitError, tell
from ..federation.accounting import spent
from ..federation.messages import ClientConfig
from ..federation.noise import Noise
from ..federation.run_secret import begin, go_on, noise_of_site
from ..federation.server import RoundResult, asked_of, rows_of
from ..files import write_json
from ..state.checkpoints import PROGRESS
from ..state.folder import StateFolder
from ..state.progress import Progress
from ..state.server_state import ServerState
from .continuation import NOISE_KEYS, PRIVACY_KEYS
from .fingerprint import differing
from .session import Session


class FolderPrivacy:
    """The noise of a server that aggregates folders, and what it comes to; nothing for a recipe without noise.

    Args:
        session: Of the server; its program gets the noise.
        state: The state before the round; None where the first one is made.

    Raises:
        FcitError: The state does not say who took part, or its noise was another one; the sentence names it.
    """

    def __init__(self, session: Session, state: ServerState | None = None) -> None:
        self._session = session
        before = None if state is None else Path(session.args.fcit_state_dir or "")
        found = session.processes.from_main(self._open(before, state) if session.processes.is_main else None)
        self._progress: Progress | None = None
        if found is not None:
            self._progress, noise = found
            session.use_noise(self._progress.noise, noise)

    def _open(self, folder: Path | None, state: ServerState | None) -> tuple[Progress, Noise | None] | None:
        session, args = self._session, self._session.args
        seed = session.training_args.seed
        ours = {key: session.keys[key] for key in PRIVACY_KEYS if key in session.keys}
        if folder is None or not (folder / PROGRESS).is_file():
            if not args.adds_noise:
                return None
            if folder is not None and state is not None and (state.stage, state.round) != (0, 0):
                raise FcitError(
                    f"{folder} does not say who took part in its rounds ({PROGRESS} is missing), so that nobody could tell the "
                    "epsilon of them all; take the noise out of the recipe, or begin with it."
                )
            progress = Progress(recipes=[{"stage": 0, "arguments": ours, "data": {}}])
            progress.noise, noise = begin(args, seed)
            return progress, noise
        progress = StateFolder(folder).progress()
        before = progress.recipes[-1]["arguments"] if progress.recipes else {}
        if not any(keys.get(key) is not None for keys in (before, ours) for key in NOISE_KEYS):
            return None
        if found := differing(before, ours, session.arguments, PRIVACY_KEYS):
            raise FcitError(f"The privacy of the rounds in {folder} cannot be added up: {'; '.join(found)}; take these back.")
        progress.noise, noise = go_on(args, seed, progress.noise, folder)
        return progress, noise

    def add(self, state: ServerState, work: Mapping[int, ClientConfig], done: RoundResult) -> None:
        """Add a round.

        Args:
            state: The state before it.
            work: Everyone whose token has come, with what it had to do.
            done: What came of it.
        """
        if self._progress is None:
            return
        program = self._session.program
        self._progress.assignments += rows_of(program, state, work, done.assignment)
        self._progress.add_asked(asked_of(program, state.stage, work))

    def write(self) -> None:
        """Put it into the folder of the next state, before its manifest, and print the epsilon so far."""
        session, progress = self._session, self._progress
        if progress is None or not session.is_main:
            return
        write_json(session.output_dir / PROGRESS, progress.to_dict())
        found = spent(session.args, progress.assignments, progress.asked, session.scenario.num_stages)
        if found is not None and progress.asked:
            tokens = session.args.fcit_identity_noise is not None
            tell(
                f"{found['statement']}, over all rounds so far"
                + ("; its part for identity tokens holds for sites that set `fcit_dp_secret`" if tokens else "")
                + "; see docs/guide/privacy.md."
            )


def site_noise(session: Session, client: int) -> Noise:
    """Where the noise on a site's own identity tokens comes from.

    Args:
        session: Of the site.
        client: Its number.

    Raises:
        FcitError: Its secret cannot be read; the sentence names the file.
    """
    noise = None
    if session.processes.is_main:
        folder = Path(session.args.fcit_state_dir or "")
        kept = StateFolder(folder).progress() if (folder / PROGRESS).is_file() else Progress()
        took_part = client in {row["client"] for row in [*kept.assignments, *kept.asked]}
        noise = noise_of_site(session.args, session.training_args.seed, kept.noise, folder, took_part)
    found = session.processes.from_main(noise)
    assert found is not None  # it is the main process's
    return found
