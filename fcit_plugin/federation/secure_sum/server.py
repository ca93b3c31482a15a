"""The server's part: it carries messages between sites, adds up what is masked, and takes the masks off sums alone.

An object of this is one session. What a client sends is taken or refused whole; who is refused is gone from there on.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from ...errors import FcitError
from ..versioned import read, written
from .fixed import LARGEST_LOSS, Fixed
from .masks import agreed_key, apply_mask, derived, pair_info, public_of, self_info
from .parts import HEAD, SumBounds, in_words
from .shares import combined, fewest, threshold
from .statements import is_signed, keys_statement, survivors_statement
from .texts import (
    AGREE,
    KEYS,
    REPLIES,
    SHARED,
    SHARES,
    UNMASK,
    AgreeReply,
    KeysReply,
    PublicKeys,
    SharesReply,
    UnmaskReply,
    texts,
)


@dataclass(frozen=True)
class OpenedSum:
    """A sum that was opened.

    Attributes:
        clients: Who is in it.
        weight: Sum of their examples.
        loss: Their mean loss, weighted by examples.
        numbers: uint32, the sum of their fixed-point numbers.
        fixed: What these are.
    """

    clients: tuple[int, ...]
    weight: int
    loss: float
    numbers: np.ndarray
    fixed: Fixed

    @property
    def mean(self) -> np.ndarray:
        """The weighted mean of the changes, float64."""
        return self.fixed.mean(self.numbers, self.weight)


class ServerSums:
    """One session.

    Args:
        session: Its name (:func:`.statements.session_of`).
        said: What every request of it says: launch and attempt.
        groups: For each sum its clients; no client is in two of subspaces. With one over all, all are in that.
        sizes: For each sum the numbers in it.
        sites: Public keys of the sites, by client.
        bounds: The same as the sites'.
    """

    def __init__(
        self,
        session: str,
        said: Mapping[str, str | int],
        groups: Mapping[str, list[int]],
        sizes: Mapping[str, int],
        sites: Mapping[int, ec.EllipticCurvePublicKey],
        bounds: SumBounds,
    ) -> None:
        self._session, self._said, self._sizes, self._sites, self._bounds = session, dict(said), sizes, sites, bounds
        self._groups = {name: sorted(clients) for name, clients in groups.items()}
        self._keys: dict[int, PublicKeys] = {}
        self._rosters: dict[str, list[int]] = {}
        self._sealed: dict[int, dict[str, str]] = {}
        self._hashes: dict[int, dict[str, str]] = {}
        self._present: dict[str, list[int]] = {}
        self._masked: dict[str, np.ndarray] = {}
        self._survivors: set[int] = set()
        self._signatures: dict[int, str] = {}
        self._given: dict[int, dict[str, dict[str, str]]] = {}
        #: Why sums and clients are left out, by what it is about.
        self.reasons: dict[str, str] = {}

    def names(self, client: int) -> list[str]:
        """The sums that a client is in."""
        return [name for name, clients in self._groups.items() if client in clients]

    def clients(self, name: str) -> list[int]:
        """The clients of a sum as the session began."""
        return self._groups[name]

    # keys

    def ask_keys(self, client: int) -> str:
        """The first request to a client."""
        return written({**self._said, **asdict(self._bounds), "sums": self.names(client)})

    def take_keys(self, client: int, text: object) -> None:
        """Take a client's public keys.

        Raises:
            FcitError: They are not its own.
        """
        reply: KeysReply = read(REPLIES[KEYS], text, "Its reply")
        if set(reply["sums"]) != set(self.names(client)):
            raise FcitError("its keys are of other sums")
        statement = keys_statement(self._session, client, reply["seal"], reply["sums"])
        if not is_signed(self._sites.get(client), statement, reply["signature"]):
            raise FcitError("its keys are not signed by the site that the recipe names")
        self._keys[client] = {"seal": reply["seal"], "sums": reply["sums"], "signature": reply["signature"]}

    def form_rosters(self) -> list[int]:
        """Who goes on: of each subspace all that gave keys, if they are enough. They are those of the session for good."""
        own = {name: self._enough(name, self._keys) for name in self._groups if name != SHARED}
        going = sorted(client for clients in own.values() for client in clients)
        self._rosters = {name: clients for name, clients in own.items() if clients}
        if SHARED in self._groups and going:
            self._rosters[SHARED] = going
        return going

    def _enough(self, name: str, there: Mapping[int, object] | set[int]) -> list[int]:
        """The clients of a sum that are there; none of them if they are too few."""
        clients = [client for client in self._groups[name] if client in there]
        of = len(self._rosters.get(name, clients))
        if len(clients) >= fewest(of, self._bounds.least):
            return clients
        if clients:
            self.reasons[name] = (
                f"{len(clients)} clients are left in the {in_words(name)}, of at least {fewest(of, self._bounds.least)} "
                "(`fcit_secure_min_clients`)"
            )
        return []

    # shares

    def ask_shares(self, client: int) -> str:
        """The keys of all clients that one has a sum with, and the rosters."""
        rosters = {name: self._rosters[name] for name in self.names(client)}
        everyone = sorted({peer for roster in rosters.values() for peer in roster})
        return written({**self._said, "keys": texts({peer: self._keys[peer] for peer in everyone}), "rosters": rosters})

    def take_shares(self, client: int, text: object) -> None:
        """Take the sealed shares of a client.

        Raises:
            FcitError: They are not for those that it has sums with.
        """
        reply: SharesReply = read(REPLIES[SHARES], text, "Its reply")
        names = self.names(client)
        peers = {peer for name in names for peer in self._rosters[name]} - {client}
        if set(reply["sealed"]) != {str(peer) for peer in peers} or set(reply["masks"]) != set(names):
            raise FcitError("its shares are for other clients or sums")
        self._sealed[client], self._hashes[client] = reply["sealed"], reply["masks"]

    def settle_present(self) -> list[int]:
        """Who is asked to train: those that gave shares, if their subspace has enough of them."""
        self._present = {
            name: [client for client in roster if client in self._sealed] for name, roster in self._rosters.items()
        }
        going = {name: self._enough(name, self._sealed) for name in self._rosters}
        if SHARED in going and not going[SHARED]:
            return []
        return sorted(client for name, clients in going.items() if name != SHARED for client in clients)

    # train

    def ask_train(self, client: int) -> str:
        """What goes with the weights: the shares that the others have sealed for a client."""
        sealed = {peer: mine[str(client)] for peer, mine in self._sealed.items() if str(client) in mine}
        return written({**self._said, "sealed": texts(sealed)})

    def check_masked(self, client: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Check all that can be judged of masked updates: their form.

        Raises:
            FcitError: It is another one.
        """
        forms = {name: (array.dtype, array.shape) for name, array in arrays.items()}
        if forms != {name: (np.dtype(np.uint32), (HEAD + self._sizes[name],)) for name in self.names(client)}:
            raise FcitError("its masked update is not of the form asked for")

    def add_masked(self, client: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Add a client's masked updates to the sums: it is a survivor."""
        assert client not in self._survivors, client
        for name, array in arrays.items():
            if name in self._masked:
                self._masked[name] += array
            else:
                self._masked[name] = array.copy()
        self._survivors.add(client)

    # agree, unmask

    def ask_agree(self, client: int) -> str:
        """The survivors, of those that a client has a sum with."""
        return written({**self._said, "survivors": self._survivors_for(client)})

    def _survivors_for(self, client: int) -> list[int]:
        known = {peer for name in self.names(client) for peer in self._present[name]}
        return sorted(self._survivors & known)

    def going(self) -> list[int]:
        """The survivors that are in a sum with enough of them."""
        alive = {client for name in self._present for client in self._enough(name, self._survivors)}
        return sorted(self._survivors & alive)

    def in_subspaces(self, going: list[int]) -> list[int]:
        """Those of some survivors whose subspace's sum has enough of them."""
        names = [name for name in self._present if name != SHARED]
        alive = {client for name in names for client in self._enough(name, self._survivors)}
        return sorted(alive & set(going))

    def take_agreed(self, client: int, text: object) -> None:
        """Take a client's signature over the survivors.

        Raises:
            FcitError: It is none.
        """
        reply: AgreeReply = read(REPLIES[AGREE], text, "Its reply")
        statement = survivors_statement(self._session, self._survivors_for(client))
        if not is_signed(self._sites.get(client), statement, reply["signature"]):
            raise FcitError("it has not signed the survivors")
        self._signatures[client] = reply["signature"]

    def ask_unmask(self, client: int) -> str:
        """The survivors with all signatures over the same list."""
        own = self._survivors_for(client)
        signatures = {peer: sign for peer, sign in self._signatures.items() if self._survivors_for(peer) == own}
        return written({**self._said, "survivors": own, "signatures": texts(signatures)})

    def agreed(self) -> list[int]:
        """Those that signed, and are in a sum with enough signatures."""
        going: set[int] = set()
        for name, roster in self._rosters.items():
            signed = {client for client in self._enough(name, self._survivors) if client in self._signatures}
            if len(signed) >= threshold(len(roster)):
                going |= signed
            elif signed:
                self.reasons[name] = (
                    f"{len(signed)} clients of the {in_words(name)} signed, of at least {threshold(len(roster))}"
                )
        return sorted(going)

    def take_unmasked(self, client: int, text: object) -> None:
        """Take the shares that a client gives.

        Raises:
            FcitError: They are of others than were asked for.
        """
        reply: UnmaskReply = read(REPLIES[UNMASK], text, "Its reply")
        for name, shares in reply["shares"].items():
            if name not in self.names(client) or set(shares) != {str(peer) for peer in self._present[name]}:
                raise FcitError("its shares are of other clients or sums")
        self._given[client] = reply["shares"]

    def opened(self, sent: Mapping[int, Mapping[str, bytes]]) -> dict[str, OpenedSum]:
        """The sums that open; :attr:`reasons` says of every other one why it does not.

        Args:
            sent: For each client and each of its sums the digest of what it was sent.
        """
        found = {}
        for name in self._present:
            alive = self._enough(name, self._survivors)
            try:
                if alive:
                    found[name] = self._open(name, alive, sent)
            except FcitError as error:
                self.reasons[name] = str(error)
        return found

    def _open(self, name: str, alive: list[int], sent: Mapping[int, Mapping[str, bytes]]) -> OpenedSum:
        total, present = self._masked[name].copy(), self._present[name]
        for client in present:
            if client in alive:
                mask = self._secret(name, client, partial(self._is_mask, name, client))
                apply_mask(total, derived(mask, self_info(self._session, name)), add=False)
                continue
            private = self._secret(name, client, partial(self._is_key, name, client))
            for peer in alive:  # what it put on for the one that is gone
                public = bytes.fromhex(self._keys[peer]["sums"][name])
                key = agreed_key(private, public, pair_info(self._session, name, present, sent[peer][name]))
                apply_mask(total, key, add=client < peer)
        fixed = self._bounds.fixed(len(self._rosters[name]))
        weight = int(total[0])
        opened = OpenedSum(tuple(alive), weight, 0.0, total[HEAD:], fixed)
        most = len(alive) * self._bounds.most_examples
        if not len(alive) <= weight <= most or float(np.linalg.norm(opened.mean)) > 1.001 * self._bounds.largest:
            raise FcitError(
                f"the {in_words(name)} is none of updates within the bounds; one of its clients has not kept to them"
            )
        loss = Fixed(fixed.clients, LARGEST_LOSS, fixed.most_examples).mean(total[1:HEAD], weight)
        return OpenedSum(tuple(alive), weight, float(loss[0]), total[HEAD:], fixed)

    def _secret(self, name: str, client: int, is_right: Callable[[bytes], bool]) -> bytes:
        roster = self._rosters[name]
        shares = {
            roster.index(giver): bytes.fromhex(given[name][str(client)])
            for giver, given in self._given.items()
            if name in given
        }
        if len(shares) < threshold(len(roster)):
            raise FcitError(
                f"{len(shares)} of at least {threshold(len(roster))} clients of the {in_words(name)} gave their shares"
            )
        secret = combined(shares, len(roster), is_right)
        if secret is None:
            raise FcitError(f"the shares of the {in_words(name)} do not fit together; one of its clients has given false ones")
        return secret

    def _is_mask(self, name: str, client: int, secret: bytes) -> bool:
        return hashlib.sha256(secret).hexdigest() == self._hashes[client][name]

    def _is_key(self, name: str, client: int, secret: bytes) -> bool:
        return public_of(secret).hex() == self._keys[client]["sums"][name]
