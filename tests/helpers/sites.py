"""A site's app around a client app, whose policy allows whatever the toy federation's requests ask for."""

from fcit_plugin.federation.reply_cache import ReplyCache
from fcit_plugin.federation.site_app import SiteApp
from fcit_plugin.federation.site_policy import Audit, SitePolicy

ALLOWED = {
    "run": "run",
    "num_stages": 2,
    "num_rounds": 3,
    "schedule": [[0], [1]],
    "records": {0: 40, 1: 40},
    "names": ["last", "sum"],
}


class Journal:
    """Keeps nothing."""

    def mark(self):
        return None

    def since(self, mark):
        return {"steps": 0, "log": []}

    def replay(self, entries):
        pass


def site_app(app, folder, others=None, **policy):
    """A :class:`SiteApp` that keeps its replies in a folder."""
    cache = ReplyCache(app, lambda stage, round: folder / f"{stage}-{round}", "run", Journal())
    folder.mkdir(parents=True, exist_ok=True)
    audit = Audit(folder / "audit.jsonl")
    rules = SitePolicy(**{**ALLOWED, **policy}, trained=audit.rounds("run"))
    return SiteApp(cache, rules, audit, folder / "private", others or {})
