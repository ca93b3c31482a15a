"""``fcit-cli deploy ...`` and ``fcit-cli site ...``: each verb, as an operator and two hospitals type them."""

import pytest
from certified import tls_server

from fcit_plugin import cli
from fcit_plugin.commands import deploy, site
from fcit_plugin.commands.command import Command
from fcit_plugin.deployment.addresses import free_ports
from fcit_plugin.deployment.sites import read_sites


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    """Types a command in a folder of its own; what it says, on stderr if it ends with 1."""
    monkeypatch.chdir(tmp_path)

    def type_it(line, code=0):
        monkeypatch.setattr("sys.argv", ["fcit-cli", *line.split()])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr().out
        if code:
            assert isinstance(ended.value.code, str) and "\n" not in ended.value.code
            return ended.value.code
        assert not ended.value.code
        return said

    return type_it


#: Verbs that start programs: tests/engine/test_network.py walks through them.
BY_THEMSELVES = {"deploy rehearse", "site check", "site status"}


def test_an_operator_and_two_hospitals(typed, tmp_path):
    walked = {
        "deploy init": typed("deploy init --host fl.example.org --host 10.0.0.5 --out deploy --site north --site south"),
        "site init": typed("site init --out site --kit deploy/kits/north"),
        "deploy enroll": typed("deploy enroll north site/site.pub"),
        "deploy kit": typed("deploy kit west"),
        "deploy remove": typed("deploy remove south"),
        "deploy renew": typed("deploy renew"),
        "deploy check": typed(f"deploy check --free 127.0.0.1:{free_ports(1)[0]}"),
        "site renew": typed("site renew"),
    }
    verbs = [value for module in (deploy, site) for value in vars(module).values() if isinstance(value, Command)]
    assert set(walked) == {verb.name for verb in verbs} - BY_THEMSELVES

    assert (
        "ca.key and server.key are secret" in walked["deploy init"] and "open port 9092 and no other" in walked["deploy init"]
    )
    fingerprint = walked["site init"].partition("SHA256:")[2].split()[0]
    assert "Hand over site/site.pub, and nothing else" in walked["site init"]
    assert walked["deploy enroll"].startswith("Site 0 is north") and fingerprint in walked["deploy enroll"]
    assert "Site 1, south, is never asked again" in walked["deploy remove"]
    assert walked["deploy check"].splitlines()[1:] == ["Site 0, north: enrolled.", "Site 1, south: removed."]
    assert (tmp_path / "deploy/kits/west/ca.crt").read_bytes() == (tmp_path / "site/ca.crt").read_bytes()

    assert "add --replace" in typed("deploy enroll north site/new.pub", code=1)
    typed("deploy enroll north site/new.pub --replace")
    assert "Start the site again" in typed("site renew --use")
    assert [tuple(each) for each in read_sites("sites.yaml", tmp_path / "deploy")] == [
        ("north", tmp_path / "deploy/keys/north.pub", False),
        ("south", tmp_path / "deploy/keys/south.pub", True),
    ]
    assert (tmp_path / "deploy/keys/north.pub").read_bytes().split()[1] == (tmp_path / "site/site.pub").read_bytes().split()[1]

    typed("site init --out other")
    assert "Put the operator's ca.crt into lone" in typed("site init --out lone")
    with tls_server(tmp_path / "deploy/server.crt", tmp_path / "deploy/server.key") as port:
        (tmp_path / "deploy/server.txt").write_text(f"fl.example.org:{port}\n")
        assert f"The SuperLink listens at port {port}." in typed("deploy check")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("deploy init --host a:1 --out deploy", "neither a name such as"),
        ("deploy init --host a --out .", "is not empty"),
        ("deploy enroll north missing.pub", "missing.pub cannot be read"),
        ("deploy kit north", "deploy/ca.crt cannot be read"),
        ("deploy remove north", "deploy/sites.yaml cannot be read"),
        ("deploy renew --in elsewhere", "elsewhere/ca.crt cannot be read"),
        ("deploy check", "deploy/ca.crt cannot be read"),
        ("site init --out . ", "is not empty"),
        ("site init --out site --kit kit", "kit/site.yaml cannot be read"),
        ("site renew", "site/site.key cannot be read"),
        ("site renew --use", "site has no new key"),
    ],
)
def test_what_goes_wrong_is_one_line(line, said, typed, tmp_path):
    (tmp_path / "something").write_text("here")
    assert said in typed(line, code=1)
