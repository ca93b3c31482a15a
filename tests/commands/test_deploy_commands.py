"""``fcit-cli deploy ...`` and ``fcit-cli site ...``: each verb, as an operator and two hospitals type them."""

import os
import shutil

import pytest
import yaml
from certified import tls_server

from fcit_plugin import cli
from fcit_plugin.commands import deploy, site
from fcit_plugin.commands.command import Command
from fcit_plugin.deployment import operator
from fcit_plugin.deployment import site as site_folder
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


#: What is typed in a folder that has an operator's folder, a site's, and a file; and what is said.
SLIPS = [
    ("deploy init --host a:1 --out new", "neither a name such as"),
    ("deploy init --host a --out .", "is not empty"),
    ("deploy init --host a --out deploy", "deploy is not empty"),
    ("deploy init --host a --out something", "something is a file"),
    ("deploy init --host a --out something/new", "Not a directory"),
    ("deploy init --host a --out new --port 0", "--port"),
    ("deploy init --host a --out new --site s\u00fcd", "cannot be the name of a site"),
    ("deploy init --host a --out n\udcfcw", "n\\udcfcw' has a letter in its name that is not UTF-8"),
    ("deploy kit north --in nowhere", "nowhere is no operator's folder"),
    ("deploy kit north --in site", "site is no operator's folder"),
    ("deploy kit north --in something", "something is no operator's folder"),
    ("deploy kit ../north", "cannot be the name of a site"),
    ("deploy kit north", "deploy/kits/north is there already; send that"),
    ("deploy kit North", "There is a site north already"),
    ("deploy kit south", "Site south has been removed"),
    ("deploy enroll north missing.pub", "missing.pub cannot be read"),
    ("deploy enroll north site", "site cannot be read"),
    ("deploy enroll north site/site.key", "site/site.key is a private key"),
    ("deploy enroll north site/ca.crt", "site/ca.crt has several lines"),
    ("deploy enroll north something", "something is not a public key"),
    ("deploy enroll north site/site.pub --in nowhere", "nowhere is no operator's folder"),
    ("deploy enroll North site/site.pub", "There is a site north already"),
    ("deploy enroll west site/site.pub", "is the key of site north"),
    ("deploy enroll south site/site.pub", "Site south has been removed"),
    ("deploy remove north --in nowhere", "nowhere is no operator's folder"),
    ("deploy remove nobody", "has no site nobody; it has north, south"),
    ("deploy remove south", "has been removed already"),
    ("deploy renew --in nowhere", "nowhere is no operator's folder"),
    ("deploy renew --in site", "site is no operator's folder"),
    ("deploy renew --host a/b", "neither a name such as"),
    ("deploy check --in nowhere", "nowhere is no operator's folder"),
    ("deploy check --free 9092", "'9092' (the address) is not a host and its port"),
    ("deploy check --free 192.0.2.1:1", "no address of this machine"),
    ("deploy rehearse --out something", "something is a file"),
    ("deploy rehearse --out deploy", "deploy is not empty"),
    ("site init --out . ", "is not empty"),
    ("site init --out site", "site is not empty"),
    ("site init --out something", "something is a file"),
    ("site init --out n\udcfcw", "n\\udcfcw' has a letter in its name that is not UTF-8"),
    ("site init --out new --kit kit", "kit/site.yaml cannot be read"),
    ("site init --out new --kit deploy", "deploy/site.yaml cannot be read"),
    ("site init --out new --kit something", "something/site.yaml cannot be read"),
    ("site renew --in nowhere", "nowhere/site.key cannot be read"),
    ("site renew --in deploy", "deploy/site.key cannot be read"),
    ("site renew --use", "site has no new key"),
    ("site check nowhere.yaml", "nowhere.yaml cannot be read"),
    ("site check site", "site is a folder; name the site.yaml"),
    ("site check site/site.key", "site/site.key does not hold names and values"),
    ("site check deploy/recipe.yaml", "is not a site's recipe (`stage: fcit_site`), but has `stage: fcit`"),
    ("site status nowhere", "nowhere is no folder; name the `output_dir`"),
    ("site status site/site.yaml", "site/site.yaml is no folder"),
]


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    folder = tmp_path_factory.mktemp("there")
    operator.init(folder / "deploy", ["fl.example.org"], ["north", "south"])
    operator.remove(folder / "deploy", "south")
    site_folder.init(folder / "site", folder / "deploy" / "kits" / "north")
    operator.enroll(folder / "deploy", "north", folder / "site" / "site.pub")
    (folder / "something").write_text("here")
    return folder


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("line", "said"), SLIPS)
def test_what_goes_wrong_is_one_line_and_leaves_everything_as_it_was(line, said, typed, there, tmp_path):
    shutil.copytree(there, tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path)
    told = typed(line, code=1)
    assert said in told.replace(f"{tmp_path}/", "")
    assert contents(tmp_path) == before


def test_every_verb_has_slips():
    verbs = {value.name for module in (deploy, site) for value in vars(module).values() if isinstance(value, Command)}
    assert verbs == {" ".join(line.split()[:2]) for line, _ in SLIPS}


def test_names_of_folders_and_of_who_types_may_be_anything_that_text_can_hold(typed, tmp_path, monkeypatch):
    """A container has no name for the number that it runs as."""
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    for name in ("klinik s\u00fcd", "\u533b\u9662", "it's 100% $HOME", "a: b # c"):
        operator.init(tmp_path / name / "deploy", ["fl.example.org"], ["north"])
        site_folder.init(tmp_path / name / "site", tmp_path / name / "deploy" / "kits" / "north")
        assert f"User={os.getuid()}\n" in (tmp_path / name / "site" / "fcit-site.service").read_text()
        keys = yaml.safe_load((tmp_path / name / "site" / "site.yaml").read_text())
        assert keys["fcit_site_key"] == str(tmp_path / name / "site" / "site.key")
        keys = yaml.safe_load((tmp_path / name / "deploy" / "recipe.yaml").read_text())
        assert keys["fcit_server_key"] == str(tmp_path / name / "deploy" / "server.key")
