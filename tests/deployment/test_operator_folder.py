"""An operator's folder from its first day on: what is in it, and what each command changes and refuses."""

import datetime
import stat
import subprocess
import sys

import pytest
import yaml
from certified import Authority, listening, tls_server
from cryptography.hazmat.primitives.serialization import PrivateFormat

from fcit_plugin.deployment import operator
from fcit_plugin.deployment.addresses import free_ports
from fcit_plugin.deployment.certificates import check_certificate, hosts_of, now, read_certificate
from fcit_plugin.deployment.keys import new_key, public_line, write_private_key
from fcit_plugin.deployment.sites import read_sites
from fcit_plugin.errors import FcitError


@pytest.fixture
def folder(tmp_path):
    operator.init(tmp_path / "deploy", ["fl.example.org", "10.0.0.5"], ["north", "south"])
    return tmp_path / "deploy"


def public(folder, name):
    """A key pair's public file, as a site hands it over."""
    path = folder / f"{name}-site.pub"
    path.write_bytes(public_line(new_key().public_key()))
    return path


def lines(folder):
    return [line for line in (folder / "sites.yaml").read_text().splitlines() if not line.startswith("#")]


def all_files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_has_what_the_machines_need_and_secrets_for_its_owner_alone(folder):
    kit = ["README.md", "ca.crt", "server.txt", "site.yaml"]
    assert sorted(all_files(folder)) == sorted(
        [
            *("ca.crt", "ca.key", "fcit-superlink.service", "recipe.yaml", "server.crt", "server.key", "server.txt"),
            *("sites.yaml", "superlink.sh", *(f"kits/{name}/{file}" for name in ("north", "south") for file in kit)),
        ]
    )
    for path in folder.rglob("*"):
        if path.is_file():
            secret = b"PRIVATE KEY" in path.read_bytes()
            assert secret is (path.suffix == ".key")
            assert not secret or stat.S_IMODE(path.stat().st_mode) == 0o600
    for host in ("fl.example.org", "10.0.0.5", "localhost", "127.0.0.1"):
        check_certificate(folder / "server.crt", host=host, ca=folder / "ca.crt")
    assert (folder / "kits/north/ca.crt").read_bytes() == (folder / "ca.crt").read_bytes()
    assert (folder / "kits/north/server.txt").read_text() == "fl.example.org:9092\n"
    assert yaml.safe_load((folder / "kits/north/site.yaml").read_text()) == {
        "stage": "fcit_site",
        "fcit_superlink": "fl.example.org:9092",
    }
    assert lines(folder) == ["north: keys/north.pub", "south: keys/south.pub"]
    assert yaml.safe_load((folder / "recipe.yaml").read_text()) == {
        "stage": "fcit",
        "fcit_engine": "flower",
        "fcit_sites": str(folder / "sites.yaml"),
        "fcit_superlink": "127.0.0.1:9093",
        "fcit_superlink_appio": "127.0.0.1:9091",
        "fcit_certificate": str(folder / "ca.crt"),
        "fcit_server_certificate": str(folder / "server.crt"),
        "fcit_server_key": str(folder / "server.key"),
    }


def test_only_the_port_of_the_sites_is_open_to_others(folder):
    script = (folder / "superlink.sh").read_text()
    assert "--fleet-api-address 0.0.0.0:9092" in script
    assert "--control-api-address 127.0.0.1:9093 --serverappio-api-address 127.0.0.1:9091" in script
    assert "--database" not in script and "--insecure" not in script
    assert stat.S_IMODE((folder / "superlink.sh").stat().st_mode) & 0o100


@pytest.mark.parametrize("name", ["plain", "with space", "100% 'odd' $HOME"])
def test_the_script_is_a_shells_and_the_units_are_systemds(name, tmp_path):
    folder = tmp_path / name
    operator.init(folder, ["fl.example.org"])
    subprocess.run(["sh", "-n", folder / "superlink.sh"], check=True)
    try:
        told = subprocess.run(["systemd-analyze", "verify", folder / "fcit-superlink.service"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs systemd-analyze")
    assert "fcit-superlink" not in told.stderr, told.stderr


def test_a_folder_that_holds_something_is_never_written_over(folder):
    before = all_files(folder)
    with pytest.raises(FcitError, match="is not empty"):
        operator.init(folder, ["fl.example.org"])
    with pytest.raises(FcitError, match="is there already"):
        operator.write_kit(folder, "north")
    assert all_files(folder) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"hosts": ["https://fl.example.org"]}, "neither a name such as"),
        ({"sites": ["a b"]}, "cannot be the name of a site"),
        ({"sites": ["north", "North"]}, "capital letters alone"),
        ({"sites": ["north", "north"]}, "one name"),
        ({"port": 0}, "--port"),
        ({"port": 70000}, "--port"),
        ({"port": 9093}, "three ports that differ"),
    ],
)
def test_what_cannot_be_leaves_nothing_behind(arguments, said, tmp_path):
    with pytest.raises(FcitError, match=said):
        operator.init(tmp_path / "deploy", **{"hosts": ["fl.example.org"], **arguments})
    assert list(tmp_path.iterdir()) == []


def test_numbers_stay_whoever_comes_renews_and_leaves(folder, tmp_path):
    north, south, west, new = (public(tmp_path, name) for name in ("north", "south", "west", "new"))
    with pytest.raises(FcitError, match="names site north, whose key"):
        read_sites("sites.yaml", folder)
    assert operator.enroll(folder, "south", south)[0] == 1
    assert operator.enroll(folder, "north", north)[0] == 0
    assert operator.enroll(folder, "north", north)[0] == 0  # typed again
    assert operator.enroll(folder, "west", west)[0] == 2
    assert operator.remove(folder, "south") == 1
    with pytest.raises(FcitError, match="add --replace"):
        operator.enroll(folder, "north", new)
    assert operator.enroll(folder, "north", new, replace=True)[0] == 0
    assert operator.enroll(folder, "east", north)[0] == 3  # a key that nobody has any more
    assert [(site.name, site.removed) for site in read_sites("sites.yaml", folder)] == [
        *(("north", False), ("south", True), ("west", False), ("east", False)),
    ]
    assert (folder / "keys/north.pub").read_bytes().split()[:2] == new.read_bytes().split()[:2]
    assert lines(folder)[1] == "south: {key: keys/south.pub, removed: true}"
    assert (folder / "sites.yaml").read_text().startswith("# The sites of this federation")


def test_each_wrong_enrollment_or_removal_is_refused_and_changes_nothing(folder, tmp_path):
    north, south = public(tmp_path, "north"), public(tmp_path, "south")
    operator.enroll(folder, "north", north)
    operator.enroll(folder, "south", south)
    operator.remove(folder, "south")
    write_private_key(tmp_path / "site.key", new_key())
    before = all_files(folder)
    for call, said in (
        (lambda: operator.enroll(folder, "south", public(tmp_path, "x")), "has been removed"),
        (lambda: operator.enroll(folder, "west", north), "is the key of site north"),
        (lambda: operator.enroll(folder, "west", south), "is the key of site south"),
        (lambda: operator.enroll(folder, "north", south, replace=True), "is the key of site south"),
        (lambda: operator.enroll(folder, "North", public(tmp_path, "x")), "more than capital letters"),
        (lambda: operator.enroll(folder, "../x", north), "cannot be the name of a site"),
        (lambda: operator.enroll(folder, "west", tmp_path / "site.key"), "is a private key"),
        (lambda: operator.enroll(folder, "west", tmp_path / "missing"), "No such file"),
        (lambda: operator.enroll(tmp_path, "west", north), "is no operator's folder"),
        (lambda: operator.remove(folder, "south"), "removed already"),
        (lambda: operator.remove(folder, "nobody"), "has no site nobody; it has north, south"),
        (lambda: operator.write_kit(folder, "a/b"), "cannot be the name of a site"),
        (lambda: operator.write_kit(tmp_path, "west"), "is no operator's folder"),
    ):
        with pytest.raises(FcitError) as caught:
            call()
        assert said in str(caught.value) and str(caught.value).endswith(".")
    assert all_files(folder) == before


def test_a_renewed_certificate_is_by_the_same_ca_for_the_same_key_and_names(folder):
    old = read_certificate(folder / "server.crt")
    kept = {name: data for name, data in all_files(folder).items() if name != "server.crt"}
    until = operator.renew(folder)
    new = check_certificate(folder / "server.crt", ca=folder / "ca.crt")
    assert new.serial_number != old.serial_number and new.public_key() == old.public_key()
    assert hosts_of(new) == hosts_of(old) and new.not_valid_after_utc == until
    assert {name: data for name, data in all_files(folder).items() if name != "server.crt"} == kept
    operator.renew(folder, ["new.example.org"])
    assert "new.example.org" in hosts_of(read_certificate(folder / "server.crt"))
    assert "fl.example.org" not in hosts_of(read_certificate(folder / "server.crt"))


def test_a_renewal_says_what_it_lacks(folder, tmp_path):
    other = Authority(tmp_path / "other")
    ca_key, server = (folder / "ca.key").read_bytes(), (folder / "server.crt").read_bytes()
    (folder / "ca.key").unlink()
    with pytest.raises(FcitError, match=r"ca\.key cannot be read"):
        operator.renew(folder)
    write_private_key(folder / "ca.key", other.key, PrivateFormat.PKCS8)
    with pytest.raises(FcitError, match="is not the key of"):
        operator.renew(folder)
    (folder / "ca.key").write_bytes(ca_key)
    assert (folder / "server.crt").read_bytes() == server
    (folder / "server.key").unlink()  # lost: a new one is made
    operator.renew(folder)
    operator.check_server(folder)


def told(folder, **given):
    return list(operator.check(folder, **given))


def test_a_check_says_how_things_are(folder, tmp_path):
    (port,) = free_ports(1)
    operator.enroll(folder, "north", public(tmp_path, "north"))
    operator.remove(folder, "south")
    operator.init(tmp_path / "bare", ["fl.example.org"])
    assert told(folder, free=[f"127.0.0.1:{port}"])[1:] == ["Site 0, north: enrolled.", "Site 1, south: removed."]
    assert told(tmp_path / "bare", free=[f"127.0.0.1:{port}"])[1:] == ["No site yet."]
    soon = told(folder, free=[f"127.0.0.1:{port}"], at=now() + datetime.timedelta(days=360))
    assert soon[1] == "That is in 4 days: type `fcit-cli deploy renew` soon."
    (folder / "server.txt").write_text(f"fl.example.org:{port}\n")
    with pytest.raises(FcitError, match=f"Nothing listens at localhost:{port}"):
        told(folder)
    with tls_server(folder / "server.crt", folder / "server.key") as port:
        (folder / "server.txt").write_text(f"fl.example.org:{port}\n")
        assert told(folder)[-1] == f"The SuperLink listens at port {port}."
        with pytest.raises(FcitError, match="another program has the port"):
            told(folder, free=[f"127.0.0.1:{port}"])
    with listening(lambda connection: None) as port:
        (folder / "server.txt").write_text(f"fl.example.org:{port}\n")
        with pytest.raises(FcitError, match="does not speak TLS"):
            told(folder)


def test_a_check_finds_files_that_do_not_belong_together(folder, tmp_path):
    other = Authority(tmp_path / "other")
    good = all_files(folder)
    for name, content, said in (
        ("server.crt", other.server("fl.example.org")[0].read_bytes(), "is not by the CA"),
        ("server.key", other.server("fl.example.org")[1].read_bytes(), "is not for the key"),
        ("server.key", b"noise", "is not a private key"),
        ("ca.crt", b"noise", "is not a certificate"),
        ("server.txt", b"other.example.org:9092\n", "not for other.example.org"),
        ("server.txt", b"noise\n", "not a host and its port"),
        ("sites.yaml", b"north: [", "is not valid YAML"),
    ):
        (folder / name).write_bytes(content)
        with pytest.raises(FcitError, match=said):
            told(folder, free=["127.0.0.1:1"])
        (folder / name).write_bytes(good[name])
    with pytest.raises(FcitError, match="has expired"):
        told(folder, at=now() + datetime.timedelta(days=400))


def test_the_room_needs_no_torch_and_no_flower(tmp_path):
    code = (
        "import sys, pathlib\nfrom fcit_plugin.deployment import operator, site, connection\n"
        "operator.init(pathlib.Path('deploy'), ['a.org'], ['north'])\n"
        "site.init(pathlib.Path('site'), pathlib.Path('deploy/kits/north'))\n"
        "assert not {'torch', 'flwr', 'grpc', 'llamafactory', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
