"""Sites and a server of secure sums without anything around them: texts go from hand to hand, or are lost."""

import itertools
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fcit_plugin.errors import FcitError
from fcit_plugin.federation.secure_sum.parts import Place, SumBounds, Update
from fcit_plugin.federation.secure_sum.server import OpenedSum, ServerSums
from fcit_plugin.federation.secure_sum.site import SiteSums
from fcit_plugin.federation.secure_sum.statements import session_of
from fcit_plugin.federation.secure_sum.store import FileStore
from fcit_plugin.federation.secure_sum.texts import SHARED, STEPS

#: Another curve than sites have, ten times as fast: any one does for the protocol.
KEYS = [ec.generate_private_key(ec.SECP256R1()) for _ in range(12)]
PUBLIC = {client: key.public_key() for client, key in enumerate(KEYS)}
BOUNDS = SumBounds(3, 1.0, 1024)
LAUNCH = "ab" * 32
#: Five clients of one subspace.
FIVE = {"0": [0, 1, 2, 3, 4]}
SIZES = {"own": 5, SHARED: 2}
_FOLDERS = itertools.count()
#: In memory where that can be: every step is forced to the disk.
_ROOT = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)


def update_of(client: int, names: list[str], seed: int = 3) -> Update:
    """What a client trains, the same whenever it is asked."""
    drawn = np.random.default_rng([seed, client])
    sizes = {name: SIZES[SHARED if name == SHARED else "own"] for name in sorted(names)}
    changes = {name: {"b": drawn.normal(size=(size - 1, 1)), "a": drawn.normal(size=1)} for name, size in sizes.items()}
    as_float = {name: {key: (0.2 * x).astype(np.float32) for key, x in part.items()} for name, part in changes.items()}
    return Update(int(drawn.integers(1, BOUNDS.most_examples + 1)), float(drawn.uniform(0, 3)), as_float)


class Lab:
    """A session after another over the same sites.

    Args:
        groups: The clients of each subspace.
        shared: Whether there is a sum over all, too.
        gone: From which step on a client is not there; ``back``: at which steps alone it is not.
        change: Changes a request's text on its way: (step, client, text) -> text.
        bounds: Of server and sites.
    """

    def __init__(
        self,
        groups: Mapping[str, list[int]],
        shared: bool = True,
        gone: Mapping[int, str] | None = None,
        change: Callable[[str, int, str], str] = lambda step, client, text: text,
        bounds: SumBounds = BOUNDS,
    ) -> None:
        self.groups = dict(groups) | ({SHARED: sorted(c for each in groups.values() for c in each)} if shared else {})
        self.gone, self.change, self.bounds = dict(gone or {}), change, bounds
        self.clients = sorted({client for clients in groups.values() for client in clients})
        self.folders = {client: Path(_ROOT.name) / str(next(_FOLDERS)) for client in self.clients}
        self.stores = {client: FileStore(folder) for client, folder in self.folders.items()}
        self.sites = {client: self.site(client) for client in self.clients}
        self.update = update_of
        self.trained: list[int] = []
        self.sent: dict[int, dict[str, bytes]] = {
            client: {name: f"weights of {name}".encode() for name in self.names(client)} for client in self.clients
        }

    def site(self, client: int) -> SiteSums:
        """A site's part on its folder, as a process that has just begun has it."""
        return SiteSums(client, KEYS[client], PUBLIC, self.bounds, self.stores[client])

    def names(self, client: int) -> list[str]:
        return [name for name, clients in self.groups.items() if client in clients]

    def ask(self, step: str, client: int, text: str, place: Place | None = None) -> object:
        """What a site answers, None where the answer is not there; a refusal goes into ``refused``."""
        if client in self.gone and STEPS.index(step) >= STEPS.index(self.gone[client]):
            return None
        text = self.change(step, client, text)
        self.log.append((step, client, text))
        try:
            return self.answer(step, client, text, place or self.place)
        except FcitError as error:
            self.refused.append((step, client, str(error)))
            return None

    def answer(self, step: str, client: int, text: str, place: Place | None = None) -> object:
        site, place = self.sites[client], place or self.place
        if step != "train":
            return getattr(site, step)(place, text)

        def train() -> Update:
            self.trained.append(client)
            return self.update(client, self.names(client))

        return site.train(place, text, self.sent[client], train)

    def run(self, place: Place = Place("run", 0, 0), attempt: int = 0, launch: str = LAUNCH) -> dict[str, OpenedSum]:  # noqa: B008
        """One session; what every site said is in ``replies``, by step and client."""
        self.place, self.log, self.refused, self.dropped = place, [], [], []
        self.replies: dict[str, dict[int, object]] = {step: {} for step in STEPS}
        session = session_of(place.run, launch, place.stage, place.round, attempt)
        sizes = {name: SIZES[SHARED if name == SHARED else "own"] for name in self.groups}
        said = {"launch": launch, "attempt": attempt}
        self.server = server = ServerSums(session, said, self.groups, sizes, PUBLIC, self.bounds)

        def exchange(step: str, clients: list[int], ask: Callable, take: Callable) -> None:
            for client in clients:
                reply = self.ask(step, client, ask(client))
                if reply is None:
                    continue
                self.replies[step][client] = reply
                try:
                    take(client, reply)
                except FcitError as error:
                    self.dropped.append((step, client, str(error)))

        exchange("keys", self.clients, server.ask_keys, server.take_keys)
        exchange("shares", server.form_rosters(), server.ask_shares, server.take_shares)
        exchange("train", server.settle_present(), server.ask_train, self._take)
        exchange("agree", server.going(), server.ask_agree, server.take_agreed)
        exchange("unmask", server.agreed(), server.ask_unmask, server.take_unmasked)
        return server.opened(self.sent)

    def _take(self, client: int, arrays: dict[str, np.ndarray]) -> None:
        self.server.check_masked(client, arrays)
        self.server.add_masked(client, arrays)


def plain_sum(updates: list[Update], name: str, clients: int, bounds: SumBounds = BOUNDS) -> list[int]:
    """The weight, and the sum of the numbers, with Python's whole numbers: no masks, no arrays, no modulus."""
    scale = (2**31 - 1 - clients) / (clients * bounds.largest)
    total = [0] * sum(x.size for x in updates[0].changes[name].values())
    for update in updates:
        flat = [float(x) for key in sorted(update.changes[name]) for x in update.changes[name][key].ravel()]
        total = [
            before + round(x * (update.weight / bounds.most_examples * scale)) for before, x in zip(total, flat, strict=True)
        ]
    return [sum(update.weight for update in updates), *total]


def after(**kept):
    """A lab whose session has gone well."""
    lab = Lab(FIVE, **kept)
    assert set(lab.run()) == {"0", SHARED}
    return lab


def request(lab, step, client=1):
    """The request of a step as it was asked."""
    (text,) = [text for kind, to, text in lab.log if (kind, to) == (step, client)]
    return text


def changed(text, **changes):
    """A text with other values."""
    return json.dumps(json.loads(text) | changes, sort_keys=True)


def refuses(lab, step, text, match, client=1, place=None):
    """See that a site does not answer a step."""
    with pytest.raises(FcitError, match=match):
        lab.answer(step, client, text, place)


def scaled(update, by):
    """An update with larger numbers."""
    return {name: {key: x * np.float32(by) for key, x in part.items()} for name, part in update.changes.items()}
