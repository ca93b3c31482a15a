"""The secret that a run's noise is drawn from (``fcit_dp_secret: auto``): made at its beginning, read when it goes on.

It is in a file of the user's (:mod:`fcit_plugin.state.secret_files`) under the run's id. What a run writes holds the id alone.
The secret has two halves. That of the updates is each run's own, for a run that goes on from an earlier one with other data
must not have its noise. That of the tokens passes on, for a client has one noisy token for each of its tasks, ever.
"""

import contextlib
import hashlib
import hmac
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from flwr.app import Message

from ..arguments import FcitArguments
from ..errors import FcitError
from ..files import inside, read_as
from ..state.forms import NoiseForm
from ..state.secret_files import keep_secret, new_secret, read_secret, secret_file, write_private
from .noise import Noise, SecretNoise, noise_without_file

#: Folder of a site's output folder for what it carries over from round to round.
PRIVATE = "private"
_HALF = 32
_IN_WORDS = {
    "seed": "drawn from the recipe's seed (no `fcit_dp_secret`)",
    "number": "drawn from a number (`fcit_dp_secret`)",
    "file": "drawn from a secret in a file (`fcit_dp_secret: auto`)",
}


def begin(
    args: FcitArguments, seed: int, earlier: NoiseForm | None = None, folder: Path | None = None
) -> tuple[NoiseForm | None, Noise | None]:
    """The noise of a run that begins.

    Args:
        args: The recipe's fcit keys.
        seed: Seed of the run.
        earlier: Where the noise of the run came from that this one goes on from.
        folder: That one's folder; None without such a run.

    Returns:
        What is kept of it, and the noise; None for a recipe without noise.

    Raises:
        FcitError: The earlier run's noise came from elsewhere, its secret cannot be read, or the new one cannot be written.
    """
    if not args.adds_noise:
        return None, None
    if folder is not None:
        _check_source(args, earlier, folder)
    record: NoiseForm = {"run": new_secret(16).hex(), "source": _source(args)}
    if record["source"] != "file":
        return record, noise_without_file(args, seed)
    tokens = new_secret(_HALF) if earlier is None or folder is None else _read(earlier, folder).tokens
    _keep(_name(record), new_secret(_HALF) + tokens)
    return record, _read(record, folder)


def go_on(args: FcitArguments, seed: int, record: NoiseForm | None, folder: Path) -> tuple[NoiseForm | None, Noise | None]:
    """The noise of a run that goes on; what :func:`begin` gives.

    Args:
        args: The recipe's fcit keys.
        seed: Seed of the run.
        record: What was kept; None where an earlier version kept nothing.
        folder: Where the run goes on from.

    Raises:
        FcitError: The noise came from elsewhere, or the secret cannot be read; the sentence names the file.
    """
    if not args.adds_noise:
        return None, None
    _check_source(args, record, folder)
    if record is None or record["source"] != "file":
        return record, noise_without_file(args, seed)
    return record, _read(record, folder)


def noise_of_site(args: FcitArguments, seed: int, record: NoiseForm | None, folder: Path, took_part: bool) -> Noise:
    """The noise on a site's own tokens, from a secret of the site's own.

    Args:
        args: The site's fcit keys.
        seed: Seed of the run.
        record: What the server's state says of the run's noise; the server's secret may come from elsewhere.
        folder: The server's state.
        took_part: Whether the site has sent a token before, which has to be the same.

    Raises:
        FcitError: The secret can be neither read nor written; the sentence names the file.
    """
    if _source(args) != "file":
        return noise_without_file(args, seed)
    if record is None:
        raise FcitError(
            f"`fcit_dp_secret: auto` keeps a secret under the run's id, which {folder} does not name; let the server begin "
            "with this recipe, with its `fcit_dp_*` and `fcit_identity_noise`."
        )
    return own_noise(record, folder, took_part)


@contextlib.contextmanager
def record_of_site(folder: Path, run: str, purpose: str = "") -> Iterator[tuple[NoiseForm, bool]]:
    """Within the block the secret of a site in a run is read, or made, under the id that is given.

    The id is kept in the site's folder once the block has ended well: a folder that is moved has the same noise, and one whose
    secret is gone is told of it.

    Args:
        folder: The site's output folder.
        run: Id of the run.
        purpose: What the secret is for, where a site has several.

    Yields:
        Names the secret; and whether it was used before, and has to be there.
    """
    path = folder / PRIVATE / f"noise-{run}{purpose.replace(' ', '-')}.json"
    if os.path.lexists(path):
        yield read_as(NoiseForm, inside(folder, f"{PRIVATE}/{path.name}")), True
        return
    own = hashlib.sha256(f"{run} {folder.resolve()}{purpose}".encode()).hexdigest()[:32]
    record = NoiseForm(run=own, source="file")
    yield record, False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, json.dumps(record))  # on the disk before a token is sent by it


def own_noise(record: NoiseForm, folder: Path, took_part: bool = False) -> SecretNoise:
    """Noise from a secret that this machine alone has.

    Args:
        record: Names the secret.
        folder: What it belongs to, for a sentence.
        took_part: Whether it was used before, and has to be there.

    Raises:
        FcitError: The secret can be neither read nor written; the sentence names the file.
    """
    if not took_part:
        _keep(_name(record), new_secret(2 * _HALF))
    return _read(record, folder)


def check_first_release(record: NoiseForm, stage: int, round: int, replies: Iterable[Message]) -> None:
    """Refuse to put a round's noise on other updates than before: it would drop out of the difference.

    Args:
        record: Where the noise comes from.
        stage: Stage.
        round: Round.
        replies: The updates that are used.

    Raises:
        FcitError: The round was aggregated from others.
    """
    if record["source"] != "file":
        return
    name, digest = f"noise-{record['run']}/stage{stage}_round{round}", hashlib.sha256()
    for reply in sorted(replies, key=lambda reply: reply.metadata.src_node_id):
        for where, part in sorted(reply.content.array_records.items()):
            for key, array in sorted(part.items()):
                digest.update(f"{reply.metadata.src_node_id} {where} {key} {len(array.data)};".encode() + array.data)
    _keep(name, digest.digest())
    again = f"take it away if nobody has the state that came of stage {stage}, round {round}"
    if not hmac.compare_digest(read_secret(name, digest.digest_size, again), digest.digest()):
        raise FcitError(
            f"Stage {stage}, round {round} of this run was aggregated before, from other updates: with the same noise the two "
            f"results would tell the difference; go on from the first one, or, if nobody has it, take {secret_file(name)} away."
        )


def _source(args: FcitArguments) -> Literal["seed", "number", "file"]:
    if args.fcit_dp_secret is None:
        return "seed"
    return "file" if args.fcit_dp_secret == "auto" else "number"


def _check_source(args: FcitArguments, record: NoiseForm | None, folder: Path) -> None:
    before, now = "seed" if record is None else record["source"], _source(args)
    if before != now:
        raise FcitError(
            f"The noise of the run in {folder} was {_IN_WORDS[before]} and would now be {_IN_WORDS[now]}, so that no epsilon "
            "would hold for all of it; take `fcit_dp_secret` back, or begin again."
        )


def _read(record: NoiseForm, folder: Path | None) -> SecretNoise:
    run = "this run" if folder is None else f"the run in {folder}"
    remedy = f"the noise of {run} is drawn from the secret in it: copy it from the machine that has it, or begin again"
    content = read_secret(_name(record), 2 * _HALF, remedy)
    return SecretNoise(content[:_HALF], content[_HALF:])


def _keep(name: str, content: bytes) -> None:
    try:
        keep_secret(name, content)
    except OSError as error:
        raise FcitError(
            f"{secret_file(name)} cannot be written ({error.strerror}), where `fcit_dp_secret: auto` has to keep a secret; "
            "name a folder of your own in the environment variable FCIT_SECRETS_DIR."
        ) from error


def _name(record: NoiseForm) -> str:
    return f"noise-{record['run']}/secret"
