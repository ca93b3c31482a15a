"""The operator's folder: made once, then kept up to date while sites come, go and renew their keys."""

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat

from ..errors import FcitError
from ..files import read_text, write_bytes, write_text
from ..folders import whole_folder
from . import certificates, texts
from .addresses import host_of, split_address
from .certificates import check_certificate, hosts_of, new_ca, new_server, read_certificate
from .connection import check_connection, check_free
from .keys import new_key, public_line, read_pem_key, read_public_key, write_private_key
from .places import for_us_to_change, owner, place_of
from .sites import ListedSite, check_keys, check_name, list_sites, write_sites

CA, CA_KEY, SERVER, SERVER_KEY = "ca.crt", "ca.key", "server.crt", "server.key"
ADDRESS, SITES, KEYS, KITS, RECIPE = "server.txt", "sites.yaml", "keys", "kits", "recipe.yaml"
SCRIPT, UNIT = "superlink.sh", "fcit-superlink.service"
#: What a kit has.
SITE_RECIPE, INSTRUCTIONS = "site.yaml", "README.md"
#: Flower's own ports: the Fleet API, the Control API, the ServerAppIo API.
FLEET_PORT, CONTROL_PORT, APPIO_PORT = 9092, 9093, 9091
#: Days before the end of a certificate from which on it is said.
SOON = 30


def programs() -> Path:
    """The folder with the commands of this environment."""
    return Path(sys.executable).parent


@for_us_to_change()
def init(
    out: Path,
    hosts: Sequence[str],
    sites: Sequence[str] = (),
    port: int = FLEET_PORT,
    control_port: int = CONTROL_PORT,
    appio_port: int = APPIO_PORT,
) -> None:
    """Make an operator's folder.

    Args:
        out: The folder, new or empty.
        hosts: The machine's names and IP addresses; sites connect to the first.
        sites: Names of the first sites, in the order of their numbers.
        port: Port that sites connect to.
        control_port: Port of the SuperLink's Control API, on this machine alone.
        appio_port: Port of its ServerAppIo API, the same.

    Raises:
        FcitError: A name or a port cannot be, or the folder is not empty.
    """
    folder, known = place_of(out), [host_of(host) for host in hosts]
    address = f"[{known[0]}]:{port}" if ":" in str(known[0]) else f"{known[0]}:{port}"
    fleet, control, appio = f"0.0.0.0:{port}", f"127.0.0.1:{control_port}", f"127.0.0.1:{appio_port}"  # gRPC's: IPv6, too
    for each in (address, control, appio):
        split_address(each, "--port")
    if len({port, control_port, appio_port}) < 3:
        raise FcitError("The SuperLink needs three ports that differ; choose others.")
    if len({name.casefold() for name in map(check_name, sites)}) < len(sites):
        raise FcitError("Two sites have one name, or names that differ in capital letters alone; name each once.")
    at = certificates.now()
    with whole_folder(out, flush=True) as made:
        ca_key, server_key = new_key(), new_key()
        ca = new_ca(ca_key, f"FCIT federation at {known[0]}"[:64], at)
        server = new_server(server_key.public_key(), known, ca, ca_key, at)
        for name, key in ((CA_KEY, ca_key), (SERVER_KEY, server_key)):
            write_private_key(made / name, key, PrivateFormat.PKCS8)
        for name, certificate in ((CA, ca), (SERVER, server)):
            write_bytes(made / name, certificate.public_bytes(Encoding.PEM))
        write_text(made / ADDRESS, f"{address}\n")
        write_bytes(made / SCRIPT, texts.superlink_script(programs(), fleet, control, appio).encode(), mode=0o777)
        write_text(made / UNIT, texts.superlink_unit(folder, owner()))
        write_text(made / RECIPE, texts.operator_recipe(folder, control, appio))
        write_sites(made / SITES, [ListedSite(name, made / KEYS / f"{name}.pub", False) for name in sites])
        for name in sites:
            write_kit(made, name)


@for_us_to_change()
def write_kit(folder: Path, name: str) -> Path:
    """Write what a site needs from the operator, and give back its folder.

    Args:
        folder: The operator's folder.
        name: The site's name.

    Raises:
        FcitError: The name cannot be, the site has been removed, the kit is there already, or the operator's folder is none.
    """
    check_folder(folder)
    _place_of(list_sites(SITES, folder), check_name(name))
    ca, address, kit = read_certificate(folder / CA), address_of(folder), folder / KITS / name
    if kit.exists():
        raise FcitError(f"{kit} is there already; send that, or take it away first.")
    with whole_folder(kit) as made:
        write_bytes(made / CA, ca.public_bytes(Encoding.PEM))
        write_text(made / ADDRESS, f"{address}\n")
        write_text(made / SITE_RECIPE, texts.site_recipe(name, address))
        write_text(made / INSTRUCTIONS, texts.instructions(name, address, certificates.fingerprint(ca)))
    return kit


def check_folder(folder: Path) -> None:
    """Check that a folder is an operator's.

    Raises:
        FcitError: It has neither a list of sites nor an address.
    """
    if not (folder / SITES).exists() and not (folder / ADDRESS).exists():
        raise FcitError(f"{folder} is no operator's folder; name with --in the one that `fcit-cli deploy init` has made.")


def address_of(folder: Path) -> str:
    """Host and port that sites connect to, of an operator's folder or a kit."""
    address = read_text(folder / ADDRESS, "put the file back that `fcit-cli deploy init` has written").strip()
    split_address(address, str(folder / ADDRESS))
    return address


@for_us_to_change()
def renew(folder: Path, hosts: Sequence[str] = ()) -> datetime:
    """Write a new certificate for the SuperLink, by the same CA and for the same key, so that nothing changes at the sites.

    Args:
        folder: The operator's folder.
        hosts: The machine's names and addresses; those of the old certificate where there are none.

    Returns:
        Until when it holds.

    Raises:
        FcitError: The CA's key or certificate is not there or wrong, or a name cannot be.
    """
    check_folder(folder)
    ca = check_certificate(folder / CA)
    ca_key = read_pem_key(folder / CA_KEY)
    if ca_key.public_key() != ca.public_key():
        raise FcitError(f"{folder / CA_KEY} is not the key of {folder / CA}; put the two back that belong together.")
    known = [host_of(host) for host in hosts] or hosts_of(read_certificate(folder / SERVER))
    if not (folder / SERVER_KEY).exists():
        write_private_key(folder / SERVER_KEY, new_key(), PrivateFormat.PKCS8)
    server = new_server(read_pem_key(folder / SERVER_KEY).public_key(), known, ca, ca_key, certificates.now())
    write_bytes(folder / SERVER, server.public_bytes(Encoding.PEM))
    return server.not_valid_after_utc


@for_us_to_change()
def enroll(folder: Path, name: str, public_key: Path, *, replace: bool = False) -> tuple[int, ec.EllipticCurvePublicKey]:
    """Take a site into the list, at its end where it is new, or take its new key.

    Args:
        folder: The operator's folder.
        name: The site's name.
        public_key: The ``.pub`` file that it has handed over.
        replace: Take the key in place of the one that the site has.

    Returns:
        The site's number, and its key.

    Raises:
        FcitError: The name or the file is wrong, the site has been removed or has another key, or another site has this one.
    """
    check_folder(folder)
    key = read_public_key(public_key, check_name(name))
    listed = list_sites(SITES, folder)
    place = _place_of(listed, name)
    if place == len(listed):
        listed.append(ListedSite(name, folder / KEYS / f"{name}.pub", False))
    site = listed[place]
    if site.key.exists() and not replace and read_public_key(site.key, name) != key:
        raise FcitError(f"Site {name} has another key, {site.key}; to take the new one in its place, add --replace.")
    for other in listed:
        if other is not site and other.key.exists() and read_public_key(other.key, other.name) == key:
            raise FcitError(f"{public_key} is the key of site {other.name}; let {name} make a key of its own.")
    write_bytes(site.key, public_line(key, name))
    write_sites(folder / SITES, listed)
    return place, key


def _place_of(listed: Sequence[ListedSite], name: str) -> int:
    """The number of a site that is there, or of one that comes.

    Raises:
        FcitError: It has been removed, or another one has nearly the same name.
    """
    place = next((i for i, site in enumerate(listed) if site.name.casefold() == name.casefold()), len(listed))
    site = listed[place] if place < len(listed) else None
    if site is not None and site.name != name:
        raise FcitError(f"There is a site {site.name} already; give {name} a name that differs in more than capital letters.")
    if site is not None and site.removed:
        raise FcitError(f"Site {name} has been removed, and its number is never used again; enroll it under another name.")
    return place


@for_us_to_change()
def remove(folder: Path, name: str) -> int:
    """Mark a site as removed, so that it is never asked again, and give back its number.

    Args:
        folder: The operator's folder.
        name: The site's name.

    Raises:
        FcitError: There is no such site, or it has been removed already.
    """
    check_folder(folder)
    listed = list_sites(SITES, folder)
    for i, site in enumerate(listed):
        if site.name == name:
            if site.removed:
                raise FcitError(f"Site {name} has been removed already.")
            listed[i] = site._replace(removed=True)
            write_sites(folder / SITES, listed)
            return i
    names = ", ".join(site.name for site in listed) or "nobody"
    raise FcitError(f"{folder / SITES} has no site {name}; it has {names}.")


def check(folder: Path, free: Sequence[str] = (), at: datetime | None = None) -> Iterator[str]:
    """What there is to say of an operator's folder, one line each.

    Args:
        folder: The operator's folder.
        free: Addresses at which the SuperLink will be started; without them it is looked whether it is there.
        at: When the certificates have to hold; now by default.

    Raises:
        FcitError: Something is wrong that the operator has to mend.
    """
    check_folder(folder)
    server = check_server(folder, at)
    days = (server.not_valid_after_utc - (at or certificates.now())).days
    names = ", ".join(map(str, hosts_of(server)))
    yield f"The SuperLink's certificate is for {names} and holds until {server.not_valid_after_utc:%Y-%m-%d}."
    if days < SOON:
        yield f"That is in {days} days: type `fcit-cli deploy renew` soon."
    yield from _sites(folder)
    for address in free:
        check_free(address)
    if not free:
        port = split_address(address_of(folder))[1]
        check_connection(f"localhost:{port}", folder / CA)
        yield f"The SuperLink listens at port {port}."


def check_server(folder: Path, at: datetime | None = None) -> x509.Certificate:
    """The SuperLink's certificate, which holds, is by the CA of the folder, for its address and for its key.

    Raises:
        FcitError: It is not so.
    """
    check_certificate(folder / CA, at=at)
    host = split_address(address_of(folder))[0]
    server = check_certificate(folder / SERVER, ca=folder / CA, at=at)
    if host_of(host) not in hosts_of(server):
        raise FcitError(
            f"The certificate {folder / SERVER} is for {', '.join(map(str, hosts_of(server)))}, not for {host}, which "
            f"{folder / ADDRESS} has for sites to connect to: type `fcit-cli deploy renew --host NAME` with all names, or, "
            "where the server has moved, write host and port of today into that file, and let sites change `fcit_superlink`."
        )
    if read_pem_key(folder / SERVER_KEY).public_key() != server.public_key():
        raise FcitError(f"{folder / SERVER} is not for the key {folder / SERVER_KEY}; type `fcit-cli deploy renew`.")
    return server


def _sites(folder: Path) -> Iterator[str]:
    listed = list_sites(SITES, folder)
    check_keys([site for site in listed if site.key.exists()], str(folder / SITES))
    for i, site in enumerate(listed):
        what = "removed" if site.removed else "enrolled" if site.key.exists() else "has no key yet: enroll it"
        yield f"Site {i}, {site.name}: {what}."
    if not listed:
        yield "No site yet."
