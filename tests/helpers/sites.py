"""A toy federation's sites: the server's signature, a site's identity, and its app, whose policy allows all that is asked."""

from cryptography.hazmat.primitives.serialization import Encoding

from fcit_plugin.deployment.certificates import host_of, new_ca, new_server, now
from fcit_plugin.deployment.keys import new_key
from fcit_plugin.federation.audit import Audit
from fcit_plugin.federation.envelope import ServerSigner
from fcit_plugin.federation.reply_cache import NoJournal, ReplyCache
from fcit_plugin.federation.site_app import SiteApp
from fcit_plugin.federation.site_executor import SiteIdentity
from fcit_plugin.federation.site_policy import SitePolicy

_CA_KEY, _SERVER_KEY = new_key(), new_key()
CA = new_ca(_CA_KEY, "a federation", now())


def signer_by(ca=CA, ca_key=_CA_KEY, at=None):
    """A server with a certificate by a CA, which begins to hold a day before a time (default: now)."""
    made = new_server(_SERVER_KEY.public_key(), [host_of("localhost")], ca, ca_key, at or now())
    return ServerSigner(_SERVER_KEY, made.public_bytes(Encoding.PEM))


SIGNER = signer_by()


def identity_of(key):
    """The site of a private key, which answers :data:`SIGNER`."""
    return SiteIdentity(key, CA)


ALLOWED = {
    "run": "run",
    "num_stages": 2,
    "num_rounds": 3,
    "schedule": [[0], [1]],
    "records": {0: 40, 1: 40},
    "names": ["last", "sum"],
}


def site_app(app, folder, others=None, sums=None, **policy):
    """A :class:`SiteApp` that keeps its replies in a folder."""

    def keeping(app):
        return ReplyCache(app, lambda stage, round: folder / f"{stage}-{round}", "run", NoJournal())

    folder.mkdir(parents=True, exist_ok=True)
    audit = Audit(folder / "audit.jsonl")
    rules = SitePolicy(**{**ALLOWED, **policy}, trained=audit.trainings("run"), client=audit.client("run"))
    return SiteApp(app, keeping, rules, audit, folder / "private", others or {}, sums)
