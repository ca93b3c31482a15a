"""The toy federation with secure sums: seven sites behind a link in this process, with real envelopes, policies and folders."""

import itertools
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.app import Message
from secure_keys import secure
from sites import SIGNER, identity_of, site_app
from sums import KEYS
from toy import TOKENS, Local, Toy
from wire import over_the_wire

from fcit_plugin.federation.client import make_client_app
from fcit_plugin.federation.reply_cache import NoJournal, ReplyCache
from fcit_plugin.federation.secure_messages import STEP_OF
from fcit_plugin.federation.secure_round import bounds_of
from fcit_plugin.federation.secure_site import SecureSite
from fcit_plugin.federation.secure_sum.parts import SumsOfRun
from fcit_plugin.federation.secure_sum.site import SiteSums
from fcit_plugin.federation.secure_sum.store import FileStore
from fcit_plugin.federation.secure_sum.texts import STEPS
from fcit_plugin.federation.site_executor import answer_of
from fcit_plugin.federation.site_grid import Site, SiteGrid

SECURE = secure(norm=32.0, samples=64)
CLIENTS = list(TOKENS)
PUBLIC = {client: KEYS[client].public_key() for client in CLIENTS}


def encoded(client):
    return PUBLIC[client].public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


SITES = [Site(f"site-{client}", PUBLIC[client], encoded(client)) for client in CLIENTS]


class Counting(Local):
    """Local training that counts, with tokens that may be others than the toy's."""

    def __init__(self, tokens=None):
        self.trained, self.tokens = [], tokens

    def token(self, config):
        token = super().token(config)
        if self.tokens is not None:
            token.__dict__["mean"] = self.tokens[config.client]
        return token

    def train(self, config, subspace, shared, extras):
        self.trained.append((config.client, config.stage, config.round))
        return super().train(config, subspace, shared, extras)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Link:
    """Brings messages to the sites at once.

    Args:
        toy: Whose sites they are.
        gone: From which step on a client does not answer.
        before: Called with each message's step (or type) and client before it is answered.
        times: How often each message is delivered; the last answer counts.
    """

    def __init__(self, toy, gone=None, before=lambda step, client: None, times=1):
        self.toy, self.gone, self.before, self.times = toy, dict(gone or {}), before, times
        self.inbox, self.ids, self.asked = {}, itertools.count(), []

    def node_of(self, key):
        return 100 + [site.encoded for site in SITES].index(key)

    def online(self):
        return {100 + client: "first" for client in CLIENTS}

    def push(self, message):
        message.metadata.__dict__["_message_id"] = name = f"m{next(self.ids)}"
        client, kind = message.metadata.dst_node_id - 100, message.metadata.message_type
        step = STEP_OF.get(kind, kind)
        self.before(step, client)
        self.asked.append((step, client))
        if client in self.gone and step in STEPS and STEPS.index(step) >= STEPS.index(self.gone[client]):
            return name
        for _ in range(self.times):
            self.inbox[name] = self.toy.answer(client, message)
        return name

    def pull(self, ids):
        return [over_the_wire(self.inbox.pop(name), limits) for name, limits in ids.items() if name in self.inbox]


class SecureToy(Toy):
    """Args: the link's, and those of :class:`toy.Toy`. ``folder`` holds what server and sites keep.

    With ``fcit_secure_sum=False`` the same sites send their updates as they are; without ``secure`` all is in one process.
    """

    def __init__(self, folder: Path, local=None, gone=None, before=lambda step, client: None, times=1, secure=True, **changes):
        super().__init__(local=local or Counting(), **(SECURE if secure else {}) | changes)
        self.folder, self.stores, self.secure = folder, {}, secure
        if not secure:
            return
        self.apps = {client: self.site(client) for client in CLIENTS}
        self.link = Link(self, gone, before, times)
        self.start_server()

    def start_server(self):
        """The server's process, begun again: it has its folder, and nothing else of before."""
        folder = self.folder / "server"
        cache = ReplyCache(None, lambda stage, round: folder / f"{stage}-{round}", "run", NoJournal())
        clock = Clock()
        self.grid = SiteGrid(
            self.link,
            SIGNER,
            dict(enumerate(SITES)),
            cache,
            patience=600.0,
            timeout=50.0,
            poll=1.0,
            clock=clock,
            sleep=clock.sleep,
        )
        if self.program.args.fcit_secure_sum:
            self.program.sums = SumsOfRun(PUBLIC, lambda stage, round: folder / f"{stage}-{round}")

    def site(self, client):
        """A site's process, begun (again) on its folder."""
        args, folder, sums = self.program.args, self.folder / f"site-{client}", None
        if args.fcit_secure_sum:
            if client in self.stores:
                self.stores[client].close()
            self.stores[client] = FileStore(folder / "sums")
            sums = SecureSite(SiteSums(client, KEYS[client], PUBLIC, bounds_of(args), self.stores[client]))
        policy = {"run": self.program.run_id, "schedule": [[0]], "num_stages": 1, "records": {0: 40}, "names": ["a"]}
        compression = None if args.fcit_update_compression == "none" else args.fcit_update_compression
        return site_app(make_client_app(self.local), folder, sums=sums, compression=compression, **policy)

    def answer(self, client: int, message: Message) -> Message:
        return answer_of(self.apps[client], identity_of(KEYS[client]), message)
