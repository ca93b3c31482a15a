"""A site's folder: its key pair, its recipe and its systemd unit; and how its key is renewed."""

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ..errors import FcitError
from ..files import read_text, write_bytes, write_text
from ..folders import whole_folder
from . import texts
from .certificates import check_certificate
from .keys import new_key, public_line, read_private_key, write_private_key
from .mappings import read_mapping
from .operator import CA, SITE_RECIPE, programs
from .places import for_us_to_change, owner, place_of

KEY, PUBLIC, UNIT = "site.key", "site.pub", "fcit-site.service"
#: A key that is to come, while the operator has the old one.
NEW_KEY, NEW_PUBLIC = "new.key", "new.pub"
_OTHER_KIT = "ask the operator for a kit as `fcit-cli deploy kit` writes it"


@for_us_to_change()
def init(out: Path, kit: Path | None = None) -> ec.EllipticCurvePublicKey:
    """Make a site's folder.

    Args:
        out: The folder, new or empty.
        kit: The folder that the operator has sent; without it the recipe names no server.

    Returns:
        The public key that was made.

    Raises:
        FcitError: The folder is not empty, or cannot be named in a recipe, or the kit is none.
    """
    folder, key = place_of(out), new_key()
    recipe = texts.site_recipe() if kit is None else _recipe_of(kit / SITE_RECIPE)
    ca = None if kit is None else check_certificate(kit / CA)
    with whole_folder(out, flush=True) as made:
        _write_pair(made / KEY, made / PUBLIC, key)
        if ca is not None:
            write_bytes(made / CA, ca.public_bytes(Encoding.PEM))
        write_text(made / SITE_RECIPE, recipe + texts.own_part(folder))
        write_text(made / UNIT, texts.site_unit(folder, programs(), owner()))
    return key.public_key()


def check_recipe(path: Path) -> None:
    """Check that a file is a site's recipe, before a program is started that would take another one for its own.

    Raises:
        FcitError: It cannot be read, or is of another stage; the sentence says what to name.
    """
    remedy = f"name the {SITE_RECIPE} that `fcit-cli site init` has written, and that you have filled in"
    if path.is_dir():
        raise FcitError(f"{path} is a folder; {remedy}.")
    stage = read_mapping(path, remedy).get("stage")
    if stage != "fcit_site":
        raise FcitError(f"{path} is not a site's recipe (`stage: fcit_site`), but has `stage: {str(stage)[:100]}`; {remedy}.")


def _recipe_of(path: Path) -> str:
    """A kit's recipe: it leaves to the site what is the site's."""
    keys = read_mapping(path, _OTHER_KIT)
    if keys.get("stage") != "fcit_site":
        raise FcitError(f"{path} is not a site's recipe (`stage: fcit_site`); {_OTHER_KIT}.")
    own = sorted(set(texts.OWN_KEYS) & set(keys))
    if own:
        raise FcitError(f"{path} sets {', '.join(own)}, which only the site itself can; take that out.")
    return read_text(path, _OTHER_KIT)


@for_us_to_change()
def renew(folder: Path) -> ec.EllipticCurvePublicKey:
    """Make a new key pair beside the present one, which stays in use.

    Args:
        folder: The site's folder.

    Returns:
        The new public key.

    Raises:
        FcitError: The site has no key, or a new one is there already.
    """
    read_private_key(folder / KEY)
    if (folder / NEW_KEY).exists():
        raise FcitError(
            f"{folder / NEW_KEY} is there already: hand over {folder / NEW_PUBLIC}, and when the operator has enrolled it type "
            "`fcit-cli site renew --use`."
        )
    key = new_key()
    _write_pair(folder / NEW_KEY, folder / NEW_PUBLIC, key)
    return key.public_key()


@for_us_to_change()
def use_new(folder: Path) -> ec.EllipticCurvePublicKey:
    """Put the new key in the place of the old one, which is gone after that. Typed again it ends what was begun.

    Args:
        folder: The site's folder.

    Returns:
        The public key that is now in use.

    Raises:
        FcitError: There is no new key.
    """
    if (folder / NEW_KEY).exists():
        read_private_key(folder / NEW_KEY)
        os.replace(folder / NEW_KEY, folder / KEY)
    elif not (folder / NEW_PUBLIC).exists():
        raise FcitError(f"{folder} has no new key; make one with `fcit-cli site renew`.")
    public = read_private_key(folder / KEY).public_key()
    write_bytes(folder / PUBLIC, public_line(public))
    (folder / NEW_PUBLIC).unlink(missing_ok=True)
    return public


def _write_pair(private: Path, public: Path, key: ec.EllipticCurvePrivateKey) -> None:
    write_private_key(private, key)
    write_bytes(public, public_line(key.public_key()))
