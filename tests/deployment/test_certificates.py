"""Certificates that we make, as OpenSSL sees them, and what is said of files of others."""

import datetime
import subprocess

import pytest
from certified import LATER, LONG_AGO, Authority
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fcit_plugin.deployment.certificates import check_certificate, fingerprint, host_of, hosts_of, now
from fcit_plugin.errors import FcitError


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"), "hospitals")


def openssl(*arguments):
    try:
        return subprocess.run(["openssl", *arguments], capture_output=True, text=True).stdout
    except FileNotFoundError:
        pytest.skip("needs openssl")


def test_openssl_takes_our_chain_for_each_name_and_no_other(ca):
    file, _ = ca.server("fl.example.org", "10.0.0.5", "2001:db8::1")
    for flag, host, good in (
        ("-verify_hostname", "fl.example.org", True),
        ("-verify_hostname", "localhost", True),
        ("-verify_hostname", "example.org", False),
        ("-verify_hostname", "a.fl.example.org", False),
        ("-verify_ip", "10.0.0.5", True),
        ("-verify_ip", "2001:db8::1", True),
        ("-verify_ip", "127.0.0.1", True),
        ("-verify_ip", "10.0.0.6", False),
    ):
        told = openssl("verify", "-x509_strict", "-purpose", "sslserver", flag, host, "-CAfile", ca.file, file)
        assert told.endswith(": OK\n") is good, (host, told)
    shown = openssl("x509", "-in", ca.file, "-noout", "-fingerprint", "-sha256")
    assert shown.strip().rpartition("=")[2] == fingerprint(ca.certificate)


def test_a_server_can_vouch_for_nobody_and_the_ca_serves_nobody(ca):
    server = x509.load_pem_x509_certificate(ca.server("fl.example.org")[0].read_bytes())
    for certificate, is_ca in ((server, False), (ca.certificate, True)):
        extensions = certificate.extensions
        assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is is_ca
        assert extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign is is_ca
    usage = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert (server.not_valid_after_utc - now()).days in (364, 365)
    assert list(map(str, hosts_of(server))) == ["fl.example.org", "localhost", "127.0.0.1"]


def test_a_certificate_that_holds_is_given_back(ca):
    file, _ = ca.server("fl.example.org")
    for host in ("fl.example.org", "FL.Example.org.", "localhost", "127.0.0.1", None):
        assert hosts_of(check_certificate(file, host=host, ca=ca.file))
    check_certificate(ca.file)


def test_each_thing_that_is_wrong_with_a_certificate_is_said(ca, tmp_path):
    other, namesake = Authority(tmp_path / "other", "proxy"), Authority(tmp_path / "namesake", "hospitals")
    old_ca = Authority(tmp_path / "old", "hospitals", LONG_AGO)
    file, key = ca.server("fl.example.org")
    noise = tmp_path / "noise.crt"
    noise.write_bytes(file.read_bytes()[:200])
    for path, checks, said in (
        (ca.server("a.org", shift=LONG_AGO)[0], {}, "has expired on 20"),
        (ca.server("a.org", shift=LATER)[0], {}, "set the clock right"),
        (file, {"at": now() + datetime.timedelta(days=366)}, "deploy renew"),
        (file, {"at": now() - datetime.timedelta(days=2)}, "set the clock right"),
        (file, {"host": "b.org"}, "is for fl.example.org, localhost, 127.0.0.1, not for b.org"),
        (file, {"host": "10.0.0.5"}, "not for 10.0.0.5"),
        (file, {"ca": other.file}, "is not by the CA"),
        (file, {"ca": namesake.file}, "is not by the CA"),
        (old_ca.file, {}, "make a new federation with `fcit-cli deploy init`"),
        (key, {}, "is not a certificate but a private key"),
        (noise, {}, "is not a certificate but something else"),
        (tmp_path / "missing.crt", {}, "No such file"),
    ):
        with pytest.raises(FcitError) as caught:
            check_certificate(path, **checks)
        assert said in str(caught.value) and str(path) in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "https://a.org", "a.org:9092", "a..org", "-a.org", "a-.org", "*.a.org", "a b", "1.2.3", "1.2.3.400"),
        *("x" * 64, "a/b", ".".join(["abcdefgh"] * 30), "a\n.org", "[::1"),
    ],
)
def test_what_is_no_host_is_refused(text):
    with pytest.raises(FcitError, match="neither a name such as"):
        host_of(text)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        *(("FL.Example.org", "fl.example.org"), ("a.org.", "a.org"), ("münchen.de", "xn--mnchen-3ya.de"), ("node_1", "node_1")),
        *(("10.0.0.5", "10.0.0.5"), ("[::1]", "::1"), ("2001:DB8:0::1", "2001:db8::1")),
    ],
)
def test_a_host_is_a_name_or_an_address(text, host):
    assert str(host_of(text)) == host
