"""A site's part: what it says of its secrets to whom, and that it never says more.

Every step is answered once: the same request gets the same answer, another one in its place a refusal. What decides about
that is on the disk before an answer leaves. The bounds are the site's own and come from no message.
"""

import hashlib
import math
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from ...errors import FcitError
from ..versioned import read, written
from . import once
from .fixed import LARGEST_LOSS, Fixed
from .masks import agreed_key, apply_mask, derived, digest, new_private, pair_info, public_of, self_info
from .parts import HEAD, Place, SumBounds, Update, in_words
from .shares import SECRET, fewest, sealed, split, threshold, unsealed
from .statements import is_signed, keys_statement, session_of, signed, survivors_statement
from .store import FileStore, Session
from .texts import (
    AGREE,
    KEYS,
    SHARED,
    SHARES,
    TRAIN,
    UNMASK,
    AgreeRequest,
    KeysRequest,
    PublicKeys,
    SharesRequest,
    TrainRequest,
    UnmaskRequest,
    is_ordered,
    numbers,
    texts,
)

#: Bytes of a share of a self mask and one of a private key.
_TWO = 2 * SECRET


class SiteSums:
    """One site in its sums.

    Attributes:
        client: Its number.

    Args:
        client: Its number.
        key: Its private key, on whose public one the others go.
        sites: The public keys of all sites, by client, from the site's own recipe.
        bounds: Its own bounds.
        store: What it keeps.
    """

    def __init__(
        self,
        client: int,
        key: ec.EllipticCurvePrivateKey,
        sites: Mapping[int, ec.EllipticCurvePublicKey],
        bounds: SumBounds,
        store: FileStore,
    ) -> None:
        self.client, self._key, self._sites, self._bounds, self._store = client, key, sites, bounds, store

    def keys(self, place: Place, text: str) -> str:
        """Make keys for a session; what was secret of the one before is gone then."""
        request: KeysRequest = read(KeysRequest, text, "The request for keys")
        name = session_of(place.run, request["launch"], place.stage, place.round, request["attempt"])
        before = self._store.session()
        if before is not None and before["session"] == name:
            answer = self._answer(before, KEYS, text)
            assert answer is not None  # it was kept with the session
            self._store.remember([once.session(name)], name)
            return answer
        self._check_new(place, name)
        self._check_bounds(request)
        own = [each for each in request["sums"] if each != SHARED]
        if len(own) != 1 or len(request["sums"]) != len(set(request["sums"])):
            raise FcitError(f"The sums {request['sums']} are not one of a subspace and one of the projector.")
        seal = new_private()
        private = {each: new_private() for each in request["sums"]}
        public = {each: public_of(value).hex() for each, value in private.items()}
        statement = keys_statement(name, self.client, public_of(seal).hex(), public)
        reply = written({"seal": public_of(seal).hex(), "sums": public, "signature": signed(self._key, statement)})
        session: Session = {
            "run": place.run,
            "stage": place.stage,
            "round": place.round,
            "session": name,
            "launch": request["launch"],
            "attempt": request["attempt"],
            "answers": {},
            "seal": seal.hex(),
            "private": {each: value.hex() for each, value in private.items()},
        }
        self._kept(session, KEYS, text, reply)
        self._store.remember([once.session(name)], name)
        return reply

    def shares(self, place: Place, text: str) -> str:
        """Check whom it is to have sums with, and give each of them shares of its secrets."""
        request: SharesRequest = read(SharesRequest, text, "The request for shares")
        session = self._session(place, request["launch"], request["attempt"])
        if (answer := self._answer(session, SHARES, text)) is not None:
            return answer
        peers = numbers(request["keys"])
        self._check_rosters(session, request["rosters"], peers)
        self._check_keys(session, peers, request["rosters"])
        masks = {name: secrets.token_bytes(SECRET) for name in session["private"]}
        own: dict[str, dict[str, str]] = {name: {} for name in masks}
        outgoing: dict[int, dict[str, bytes]] = {peer: {} for peer in peers if peer != self.client}
        for name, mask in masks.items():
            roster = request["rosters"][name]
            secret = bytes.fromhex(session["private"][name])
            for peer, *parts in zip(roster, split(mask, len(roster)), split(secret, len(roster)), strict=True):
                if peer == self.client:
                    own[name][str(peer)] = b"".join(parts).hex()
                else:
                    outgoing[peer][name] = b"".join(parts)
        slots = _slots(session["private"])
        texts_out = {}
        for peer, parts_by_sum in outgoing.items():
            plain = b"".join(parts_by_sum.get(name, bytes(_TWO)) for name in slots)
            about = digest("share", session["session"], self.client, peer)
            texts_out[peer] = sealed(self._sealing_key(session, peers[peer]), plain, about).hex()
        session["rosters"], session["peers"] = request["rosters"], request["keys"]
        session["masks"], session["shares"] = {name: mask.hex() for name, mask in masks.items()}, own
        hashes = {name: hashlib.sha256(mask).hexdigest() for name, mask in masks.items()}
        return self._kept(session, SHARES, text, written({"sealed": texts(texts_out), "masks": hashes}))

    def train(self, place: Place, text: str, sent: Mapping[str, bytes], train: Callable[[], Update]) -> dict[str, np.ndarray]:
        """Train, and mask what came of it.

        Args:
            place: What the request is for.
            text: What goes with the weights.
            sent: For each sum a digest of what all its clients were sent: who was sent something else has other masks, and
                no sum with it opens.
            train: Gives the update; called once everything else is right.

        Returns:
            For each sum uint32 [HEAD + numbers of its arrays, in the order of their keys].
        """
        request: TrainRequest = read(TrainRequest, text, "What goes with the weights")
        session = self._session(place, request["launch"], request["attempt"])
        if "rosters" not in session:
            raise FcitError("It has given no shares in this session.")
        if set(sent) != set(session["private"]):
            raise FcitError(f"The request is for the sums {sorted(sent)}, and its keys are of {sorted(session['private'])}.")
        said = written({"text": text, "sent": {name: sent[name].hex() for name in sorted(session["private"])}})
        if self._answer(session, TRAIN, said) is None:
            self._take_shares(session, numbers(request["sealed"]))
            self._kept(session, TRAIN, said, "masked")
        update = train()
        self._check_update(session, update)
        return {name: self._masked(session, name, sent[name], update) for name in sorted(session["private"])}

    def agree(self, place: Place, text: str) -> str:
        """Sign who has survived: one list in a session, and one that leaves enough in some sum."""
        request: AgreeRequest = read(AgreeRequest, text, "The request to agree")
        session = self._session(place, request["launch"], request["attempt"])
        if (answer := self._answer(session, AGREE, text)) is not None:
            return answer
        survivors = request["survivors"]
        self._check_unopened(session["session"], _all_of(session))
        if "updates" not in session:
            raise FcitError("It has sent no update in this session.")
        known = {client for present in session["present"].values() for client in present}
        if not is_ordered(survivors) or not set(survivors) <= known:
            raise FcitError("The survivors are not of those that it has shares of.")
        if self.client not in survivors:
            raise FcitError("It is not among the survivors.")
        if not self._sums_to_open(session, survivors):
            raise FcitError(f"No sum has enough survivors, at least {self._bounds.least} and more than half of its clients.")
        session["survivors"] = survivors
        signature = signed(self._key, survivors_statement(session["session"], survivors))
        return self._kept(session, AGREE, text, written({"signature": signature}))

    def unmask(self, place: Place, text: str) -> str:
        """Give the shares that open the sums, once enough of their clients have signed the same survivors."""
        request: UnmaskRequest = read(UnmaskRequest, text, "The request to unmask")
        session = self._session(place, request["launch"], request["attempt"])
        if (answer := self._answer(session, UNMASK, text)) is not None:
            return answer
        survivors = request["survivors"]
        if session.get("survivors") != survivors:
            raise FcitError("The survivors are others than those that it has signed.")
        self._check_unopened(session["session"], _all_of(session))
        statement = survivors_statement(session["session"], survivors)
        good = {
            client
            for client, signature in numbers(request["signatures"]).items()
            if is_signed(self._sites.get(client), statement, signature)
        }
        given: dict[str, dict[str, str]] = {}
        for name, alive in self._sums_to_open(session, survivors).items():
            if len(good & set(alive)) < threshold(len(session["rosters"][name])):
                continue
            given[name] = {
                str(peer): session["shares"][name][str(peer)][:_TWO]
                if peer in alive
                else session["shares"][name][str(peer)][_TWO:]
                for peer in session["present"][name]
            }
        if not given:
            raise FcitError("No sum has more than half of its clients' signatures over these survivors.")
        self._store.remember(_all_of(session, given), session["session"])
        return self._kept(session, UNMASK, text, written({"shares": given}))

    # what is kept

    def _session(self, place: Place, launch: str, attempt: int) -> Session:
        name = session_of(place.run, launch, place.stage, place.round, attempt)
        session = self._store.session()
        if session is None or session["session"] != name:
            raise FcitError("It has no keys of this session: another one has begun, or its folder is another one.")
        return session

    def _answer(self, session: Session, step: str, text: str) -> str | None:
        """What a step was answered in this session, None where it has not come to it."""
        answer = session["answers"].get(step)
        if answer is None:
            return None
        if answer["request"] != digest(step, text).hex():
            raise FcitError(f"The step `{step}` of this session was answered to another request.")
        return answer["reply"]

    def _kept(self, session: Session, step: str, text: str, reply: str) -> str:
        session["answers"][step] = {"request": digest(step, text).hex(), "reply": reply}
        self._store.keep(session)
        return reply

    def _check_new(self, place: Place, name: str) -> None:
        """Refuse a session of a round that is over for this site, and one that was there before another.

        It would have other keys, and what was signed in it would count again.
        """
        self._check_unopened(name, [once.round(place.run, place.stage, place.round)])
        if self._store.opened_in(once.session(name)) is not None:
            raise FcitError("This session is over for this site; another one has begun.")
        first = self._store.since()
        if first is None:
            first = {"run": place.run, "stage": place.stage, "round": place.round}
            self._store.begin(first)
        late = (place.stage, place.round) != (0, 0)
        if late and (first["run"], first["stage"], first["round"]) == (place.run, place.stage, place.round):
            raise FcitError(
                f"It knows of no session before stage {place.stage}, round {place.round}, so it cannot tell whether it has "
                "answered in it already; it takes part from the next round on."
            )

    def _check_unopened(self, session: str, whats: Iterable[bytes]) -> None:
        """Refuse a second sum over one update, in whatever attempt, run or process."""
        for what in whats:
            if self._store.opened_in(what) not in (None, session):
                raise FcitError(
                    "A sum over this update was opened before, and another one would tell it by their difference; a new run "
                    "needs another `seed`."
                )

    # what is checked

    def _check_bounds(self, request: KeysRequest) -> None:
        """Refuse a server with other bounds: its numbers would be of another scale. The site's own are not changed."""
        own = self._bounds
        for key, theirs, ours in (
            ("fcit_secure_min_clients", request["least"], own.least),
            ("fcit_max_update_norm", request["largest"], own.largest),
            ("fcit_max_client_samples", request["most_examples"], own.most_examples),
        ):
            if theirs != ours:
                raise FcitError(f"`{key}` is {theirs:g} at the server and {ours:g} at this site; make them the same.")

    def _check_rosters(self, session: Session, rosters: Mapping[str, Sequence[int]], peers: Mapping[int, PublicKeys]) -> None:
        if set(rosters) != set(session["private"]):
            raise FcitError(f"The rosters are of the sums {sorted(rosters)}, its keys of {sorted(session['private'])}.")
        for name, roster in rosters.items():
            if not is_ordered(roster) or self.client not in roster:
                raise FcitError(f"The roster of the {in_words(name)} is not sound.")
            if len(roster) < self._bounds.least:
                raise FcitError(
                    f"{len(roster)} of at least {self._bounds.least} clients are in the {in_words(name)} "
                    "(`fcit_secure_min_clients`)."
                )
            if len(roster) * self._bounds.most_examples >= 2**32:
                raise FcitError("So many clients of so many examples overflow; lower `fcit_max_client_samples`.")
        everyone = {client for roster in rosters.values() for client in roster}
        if set(peers) != everyone or not all(set(roster) <= set(rosters.get(SHARED, everyone)) for roster in rosters.values()):
            raise FcitError("The rosters are not of the clients whose keys come with them.")

    def _check_keys(self, session: Session, peers: Mapping[int, PublicKeys], rosters: Mapping[str, Sequence[int]]) -> None:
        for client, public in peers.items():
            statement = keys_statement(session["session"], client, public["seal"], public["sums"])
            if not is_signed(self._sites.get(client), statement, public["signature"]):
                raise FcitError(f"The keys of client {client} are not signed by the site that the recipe names.")
            if not {name for name, roster in rosters.items() if client in roster} <= set(public["sums"]):
                raise FcitError(f"Client {client} has no key of a sum that it is in.")
        mine = peers[self.client]
        private = {"": session["seal"], **session["private"]}
        if {"": mine["seal"], **mine["sums"]} != {name: public_of(bytes.fromhex(key)).hex() for name, key in private.items()}:
            raise FcitError("Its own keys were changed on their way.")

    def _take_shares(self, session: Session, incoming: Mapping[int, str]) -> None:
        """Open what the others have sealed for it; who has sealed nothing is in no sum."""
        peers, slots = numbers(session["peers"]), _slots(session["private"])
        if self.client in incoming or not set(incoming) <= set(peers):
            raise FcitError("Shares came of clients that it has no sum with.")
        shares = {name: dict(held) for name, held in session["shares"].items()}
        for client, text in incoming.items():
            about = digest("share", session["session"], client, self.client)
            try:
                plain = unsealed(self._sealing_key(session, peers[client]), bytes.fromhex(text), about, _TWO * len(slots))
            except FcitError as error:
                raise FcitError(f"The share of client {client} is not usable: {error}.") from error
            for place, name in enumerate(slots):
                if client in session["rosters"].get(name, ()):
                    shares[name][str(client)] = plain[place * _TWO : (place + 1) * _TWO].hex()
        present = {name: sorted(int(client) for client in held) for name, held in shares.items()}
        for name, clients in present.items():
            needed = fewest(len(session["rosters"][name]), self._bounds.least)
            if len(clients) < needed:
                raise FcitError(f"{len(clients)} of at least {needed} clients are left in the {in_words(name)}.")
        session["shares"], session["present"] = shares, present

    def _check_update(self, session: Session, update: Update) -> None:
        bounds = self._bounds
        if set(update.changes) != set(session["private"]):
            raise FcitError(f"It has trained {sorted(update.changes)}, and the sums are {sorted(session['private'])}.")
        if not 1 <= update.weight <= bounds.most_examples:
            raise FcitError(
                f"It has {update.weight} examples, where 1 to {bounds.most_examples} fit (`fcit_max_client_samples`)."
            )
        if not abs(update.loss) <= LARGEST_LOSS:
            raise FcitError(f"Its training loss is {update.loss:g}, over {LARGEST_LOSS:g}; lower the learning rate.")
        changes = (change.ravel() for arrays in update.changes.values() for change in arrays.values())
        norm = math.sqrt(math.fsum(float(np.square(change, dtype=np.float64).sum()) for change in changes))
        if not norm <= bounds.largest:
            raise FcitError(f"Its update has norm {norm:.4g}, over {bounds.largest:g} (`fcit_max_update_norm`).")
        updates = {
            name: once.update(update.weight, arrays, session["session"]).hex() for name, arrays in update.changes.items()
        }
        if session.get("updates", updates) != updates:
            raise FcitError("Its training gave other numbers than before, and one mask must not hide two updates.")
        session["updates"] = updates
        self._check_unopened(session["session"], _all_of(session))
        self._store.keep(session)

    def _masked(self, session: Session, name: str, sent: bytes, update: Update) -> np.ndarray:
        fixed = self._bounds.fixed(len(session["rosters"][name]))
        loss = Fixed(fixed.clients, LARGEST_LOSS, fixed.most_examples)
        arrays = [update.changes[name][key] for key in sorted(update.changes[name])]
        total = np.empty(HEAD + sum(array.size for array in arrays), np.uint32)
        total[0], total[1] = update.weight, loss.encode(np.array([update.loss]), update.weight)[0]
        at = HEAD
        for array in arrays:
            total[at : at + array.size] = fixed.encode(array.ravel(), update.weight)
            at += array.size
        mask, private = bytes.fromhex(session["masks"][name]), bytes.fromhex(session["private"][name])
        apply_mask(total, derived(mask, self_info(session["session"], name)), add=True)
        info = pair_info(session["session"], name, session["present"][name], sent)
        for peer in session["present"][name]:
            if peer != self.client:
                public = bytes.fromhex(session["peers"][str(peer)]["sums"][name])
                apply_mask(total, agreed_key(private, public, info), add=self.client < peer)
        return total

    def _sums_to_open(self, session: Session, survivors: Sequence[int]) -> dict[str, list[int]]:
        """The sums that may be opened, each with its survivors."""
        alive = {name: [peer for peer in present if peer in set(survivors)] for name, present in session["present"].items()}
        return {
            name: clients
            for name, clients in alive.items()
            if len(clients) >= fewest(len(session["rosters"][name]), self._bounds.least)
        }

    def _sealing_key(self, session: Session, peer: PublicKeys) -> bytes:
        return agreed_key(bytes.fromhex(session["seal"]), bytes.fromhex(peer["seal"]), digest("seal", session["session"]))


def _slots(names: Mapping[str, str]) -> list[str]:
    """Where a sum's shares stand in a sealed text: two places, whether or not there is a sum for each."""
    return [*sorted(name for name in names if name != SHARED), SHARED]


def _all_of(session: Session, names: Iterable[str] | None = None) -> list[bytes]:
    """What no second session may open: the round, and the site's updates for these sums (default: all that it has)."""
    updates = session.get("updates", {})
    own = [once.in_sum(updates[name], shared=name == SHARED) for name in names or updates]
    return [once.round(session["run"], session["stage"], session["round"]), *own]
