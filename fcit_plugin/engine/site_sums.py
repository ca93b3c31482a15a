"""Secure sums of a run over a network: whose keys they are between, and what a site and the server keep for them."""

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from ..deployment.sites import read_sites
from ..errors import FcitError
from ..federation.secure_round import bounds_of
from ..federation.secure_site import SecureSite
from ..federation.secure_sum.parts import SumsOfRun
from ..federation.secure_sum.site import SiteSums
from ..federation.secure_sum.store import FileStore
from ..federation.superlink import read_site
from .session import Session

#: Folder of a site's output folder for what it keeps; it belongs into no backup.
SUMS = "secure_sums"


def keys_of_sites(session: Session) -> dict[int, ec.EllipticCurvePublicKey]:
    """The public keys of the sites that take part, by the client's number.

    Raises:
        FcitError: A key is none; the sentence names the site.
    """
    given: Any = session.args.fcit_sites
    listed = read_sites(given, Path())
    return {number: read_site(site.name, site.key).key for number, site in enumerate(listed) if not site.removed}


def server_sums(session: Session) -> SumsOfRun | None:
    """What the server needs for secure sums; None where the recipe has none."""
    if not session.args.fcit_secure_sum:
        return None

    def folder(stage: int, round: int) -> Path:
        return session.checkpoints.replies(sum(session.rounds[:stage]) + round)

    return SumsOfRun(keys_of_sites(session), folder)


def site_sums(session: Session, key: ec.EllipticCurvePrivateKey) -> SecureSite | None:
    """A site's part in secure sums; None where its recipe has none.

    Args:
        session: Of the site.
        key: Its private key.

    Raises:
        FcitError: It is none of the sites that its recipe names.
    """
    args = session.args
    if not args.fcit_secure_sum:
        return None
    keys = keys_of_sites(session)
    own = [number for number, public in keys.items() if public == key.public_key()]
    if not own:
        raise FcitError(
            f"`fcit_sites` ({args.fcit_sites}) names no site with the key of {args.fcit_site_key}; take the "
            "list that the server has."
        )
    return SecureSite(SiteSums(own[0], key, keys, bounds_of(args), FileStore(session.output_dir / SUMS)))
