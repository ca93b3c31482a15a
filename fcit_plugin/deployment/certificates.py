"""Certificates: the federation's own authority (CA), the SuperLink's, and what is wrong with the file of one."""

import datetime
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..errors import FcitError, one_line
from ..files import opened
from .addresses import Host, host_of
from .keys import LONGEST

#: Days for which the two hold; a server's is renewed with `fcit-cli deploy renew`.
CA_DAYS, SERVER_DAYS = 3650, 365
#: What the SuperLink's certificate is also for: the operator's own processes connect to it on its machine.
LOCAL = ("localhost", "127.0.0.1")
#: By how much a site's clock may be slow.
_EARLIER = datetime.timedelta(days=1)
#: What the parts of a certificate raise that cannot be read.
_SPOILT = (
    *(ValueError, TypeError, KeyError, UnsupportedAlgorithm),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)
_DIGEST = hashes.SHA384()


def new_ca(key: ec.EllipticCurvePrivateKey, name: str, now: datetime.datetime) -> x509.Certificate:
    """A certificate that vouches for servers.

    Args:
        key: Its own key, which also signs it.
        name: What it is called.
        now: When it begins to hold, less a day.
    """
    usage = _usage(digital_signature=False, key_cert_sign=True, crl_sign=True)
    builder = _builder(_named(name), _named(name), key.public_key(), now, CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.add_extension(usage, critical=True).sign(key, _DIGEST)


def new_server(
    key: ec.EllipticCurvePublicKey,
    hosts: Sequence[Host],
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
) -> x509.Certificate:
    """The SuperLink's certificate.

    Args:
        key: Its public key.
        hosts: Machines that it is for; the operator's own (:data:`LOCAL`) come on top.
        ca: The CA's certificate.
        ca_key: The CA's key.
        now: When it begins to hold, less a day.
    """
    every = dict.fromkeys([*hosts, *map(host_of, LOCAL)])
    names = [x509.DNSName(host) if isinstance(host, str) else x509.IPAddress(host) for host in every]
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = _builder(_named(str(hosts[0])[:64]), ca.subject, key, now, SERVER_DAYS)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(digital_signature=True, key_cert_sign=False, crl_sign=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.add_extension(authority, critical=False).sign(ca_key, _DIGEST)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, digital_signature: bool, key_cert_sign: bool, crl_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(digital_signature, False, False, False, False, key_cert_sign, crl_sign, False, False)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    end = now + datetime.timedelta(days=days)
    builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), now - _EARLIER, end)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def now() -> datetime.datetime:
    """The time, in UTC."""
    return datetime.datetime.now(datetime.UTC)


def hosts_of(certificate: x509.Certificate) -> list[Host]:
    """The machines that a certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [*names.get_values_for_type(x509.DNSName), *names.get_values_for_type(x509.IPAddress)]  # type: ignore[list-item]


def fingerprint(certificate: x509.Certificate) -> str:
    """A certificate's SHA-256 as ``openssl x509 -fingerprint -sha256`` shows it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def issuer_of(certificate: x509.Certificate) -> str:
    """Who has signed a certificate, in a few words."""
    return certificate.issuer.rfc4514_string()[:200] or "nobody"


def parsed(content: bytes) -> x509.Certificate:
    """A certificate in PEM, all of whose parts that are looked at can be read.

    Raises:
        ValueError: It is none, or a part of it is spoilt: parts are read when they are asked for.
    """
    try:
        found = x509.load_pem_x509_certificate(content)
        looked_at = (found.not_valid_before_utc, found.not_valid_after_utc, found.subject, found.issuer, found.public_key())
        if not all(looked_at):
            raise ValueError("a part is empty")
        hosts_of(found)
    except _SPOILT as error:
        raise ValueError(one_line(error)) from error
    return found


def read_certificate(path: Path) -> x509.Certificate:
    """A certificate from a PEM file.

    Raises:
        FcitError: The file is missing or no certificate.
    """
    remedy = "put the file there that `fcit-cli deploy init` has written"
    with opened(path, LONGEST, remedy) as file:
        content = file.read()
    try:
        return parsed(content)
    except ValueError as error:
        what = "a private key" if b"PRIVATE KEY-----" in content else "something else"
        raise FcitError(f"{path} is not a certificate but {what}; {remedy}.") from error


def check_certificate(
    path: Path, *, host: str | None = None, ca: Path | None = None, at: datetime.datetime | None = None
) -> x509.Certificate:
    """A certificate from a PEM file that holds.

    Args:
        path: The file.
        host: A machine that it has to be for, None for any.
        ca: The file of the CA that has to have signed it, None for any.
        at: When it has to hold; now by default.

    Raises:
        FcitError: It is missing, no certificate, expired, not valid yet, for other machines, or by another CA.
    """
    certificate, at = read_certificate(path), at or now()
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if at > ends:
        raise FcitError(f"The certificate {path} has expired on {ends:%Y-%m-%d}; {_renewal(certificate)}.")
    if at < begins:
        raise FcitError(
            f"The certificate {path} holds from {begins:%Y-%m-%d %H:%M} UTC on, and this machine's clock says "
            f"{at:%Y-%m-%d %H:%M}; set the clock right."
        )
    hosts = hosts_of(certificate)
    if host is not None and host_of(host) not in hosts:
        raise FcitError(
            f"The certificate {path} is for {', '.join(map(str, hosts)) or 'no machine'}, not for {host}; "
            "let the operator type `fcit-cli deploy renew --host NAME` with all names."
        )
    if ca is not None:
        try:
            certificate.verify_directly_issued_by(read_certificate(ca))
        except (InvalidSignature, *_SPOILT) as error:
            raise FcitError(
                f"The certificate {path} is not by the CA {ca} but by {issuer_of(certificate)}; give the two of one federation."
            ) from error
    return certificate


def _renewal(certificate: x509.Certificate) -> str:
    if certificate.issuer == certificate.subject:
        return "make a new federation with `fcit-cli deploy init`, and give each site its new ca.crt"
    return "let the operator type `fcit-cli deploy renew`"
