"""Files of keys: what ours are like, and what is said of others. Encrypted keys come from OpenSSH itself."""

import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fcit_plugin.deployment.keys import (
    fingerprint,
    new_key,
    public_line,
    read_pem_key,
    read_private_key,
    read_public_key,
    write_private_key,
)
from fcit_plugin.errors import FcitError

KEY = new_key()
P256, ED = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
#: What `ssh-keygen -t ecdsa -b 384 -N secret` has written.
ENCRYPTED = b"""-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABA18vPquC
KFxWxjldKIxt9QAAAAEAAAAAEAAACIAAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlz
dHAzODQAAABhBG/1Ctzgy/uDrGrpSOofynS+YMWdCxQ11lOKyifL9zDDNOKNTOjG222/o4
MoubtduHAJ/3nD7KIljnzoFd+GzlyrmpeRZSIMHTjsiTG1GLoo//3ts4PSaHGdQS2K8pq1
cAAAANDNkxnShlShVjaz3RUYOZaDw6aSSVO9P6rI4zRwtvfrGdTXFS0V2ZtJVEk5t3jahn
1tXusQ4bQUIJY32meRMMQPT4Ya1ywNXNzyv0/eDfHnAvI7P3V0Q/QyqkC3v1861R1PZzUJ
d1KG81+WTwpaTXWmdLObU/cCvfMniXs8353a6zwFnbzYQCMj4MesBJ9yaPIW6rSD9AomE3
H6Khn6h4tTwt12q5ap0NkWegmPL1KTiQYxlTlbCdjp4qR3EODR11p7KMvdDQ639C9zzSJF
tuel
-----END OPENSSH PRIVATE KEY-----
"""


def private(key, form=PrivateFormat.OpenSSH, encryption=None):
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())


def public(key):
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


def refused(read, path):
    with pytest.raises(FcitError) as caught:
        read(path)
    said = str(caught.value)
    assert said.startswith(str(path)) and said.endswith(".")
    return said


def site_public(path):
    return read_public_key(path, "north")


GOOD = private(KEY)
#: Content of a file by reader, and what is said of it.
WRONG = [
    (read_private_key, b"", "is not a private key"),
    (read_private_key, b"\0\xff" * 20, "is not a private key"),
    (read_private_key, GOOD[:200], "is not a private key"),
    (read_private_key, GOOD[:100] + b"AAAA" + GOOD[104:], "is not a private key"),
    (read_private_key, b"x" * 200_000, "200,000 bytes"),
    (read_private_key, public(KEY), "is a public key, not the private one"),
    (read_private_key, private(KEY, PrivateFormat.PKCS8), "in another form than OpenSSH's"),
    (read_private_key, private(KEY, PrivateFormat.TraditionalOpenSSL), "in another form than OpenSSH's"),
    (read_private_key, ENCRYPTED, "has a passphrase"),
    (read_private_key, private(P256), "not a key on the curve P-384"),
    (read_private_key, private(ED), "not a key on the curve P-384"),
    (read_pem_key, b"", "is not a private key"),
    (read_pem_key, public(KEY), "is not a private key"),
    (read_pem_key, GOOD, "is not a private key"),
    (read_pem_key, private(KEY, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")), "has a passphrase"),
    (read_pem_key, private(P256, PrivateFormat.PKCS8), "not a key on the curve P-384"),
    (site_public, b"", "is not a public key of site north"),
    (site_public, b"\0\xff" * 20, "is not a public key of site north"),
    (site_public, public(KEY)[:80], "is not a public key of site north"),
    (site_public, GOOD, "is a private key, which nobody but site north may ever have"),
    (site_public, private(KEY, PrivateFormat.PKCS8), "is a private key, which nobody but site north may ever have"),
    (site_public, public(KEY) + b"\n" + public(P256), "has several lines"),
    (site_public, public(P256), "is not on the curve P-384"),
    (site_public, public(ED), "is not on the curve P-384"),
]


@pytest.mark.parametrize(("read", "content", "said"), WRONG, ids=range(len(WRONG)))  # keys are drawn in each process
def test_what_is_no_such_key_is_refused(read, content, said, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    path.chmod(0o600)
    assert said in refused(read, path)


@pytest.mark.parametrize("read", [read_private_key, read_pem_key, site_public])
def test_a_missing_file_and_a_folder_are_said(read, tmp_path):
    assert "cannot be read (No such file or directory)" in refused(read, tmp_path / "missing")
    assert "cannot be read (it is no regular file)" in refused(read, tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o666, 0o610])
@pytest.mark.parametrize(("read", "form"), [(read_private_key, PrivateFormat.OpenSSH), (read_pem_key, PrivateFormat.PKCS8)])
def test_a_private_key_that_others_may_come_by_is_refused(mode, read, form, tmp_path):
    path = tmp_path / "key"
    write_private_key(path, KEY, form)
    path.chmod(mode)
    assert f"has mode {mode:03o}" in refused(read, path) and f"chmod 600 {path}" in refused(read, path)
    path.chmod(0o400)
    assert read(path).public_key() == KEY.public_key()


def test_a_private_key_is_never_open_to_others_whatever_lay_there(tmp_path):
    path = tmp_path / "key"
    for left in (path, tmp_path / "key.partial"):
        left.write_text("left")
        left.chmod(0o666)
    write_private_key(path, KEY)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_private_key(path).public_key() == KEY.public_key()


def test_openssh_reads_our_keys_and_shows_the_same_fingerprint(tmp_path):
    write_private_key(tmp_path / "site.key", KEY)
    (tmp_path / "site.pub").write_bytes(public_line(KEY.public_key(), "north"))
    assert site_public(tmp_path / "site.pub") == KEY.public_key()

    def ssh_keygen(*arguments):
        return subprocess.run(["ssh-keygen", *arguments], check=True, capture_output=True, text=True).stdout

    try:
        shown = ssh_keygen("-lf", tmp_path / "site.pub").split()
    except FileNotFoundError:
        pytest.skip("needs ssh-keygen")
    assert shown == ["384", fingerprint(KEY.public_key()), "north", "(ECDSA)"]
    made = ssh_keygen("-yf", tmp_path / "site.key").encode().split()
    assert made[:2] == Path(tmp_path / "site.pub").read_bytes().split()[:2]
