"""A site's folder: one secret, a recipe that is the site's own to fill in, and a key that can be renewed."""

import dataclasses
import os
import re
import stat
import subprocess

import pytest
import yaml

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.deployment import operator, site, texts
from fcit_plugin.deployment.keys import public_line, read_private_key, read_public_key
from fcit_plugin.errors import FcitError


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("operator") / "deploy"
    operator.init(folder, ["fl.example.org"], ["north"])
    return folder / "kits" / "north"


@pytest.fixture
def folder(tmp_path, kit):
    site.init(tmp_path / "site", kit)
    return tmp_path / "site"


@pytest.mark.parametrize("with_kit", [True, False])
def test_a_site_has_one_secret_and_a_recipe_that_names_its_files(with_kit, kit, tmp_path):
    folder = tmp_path / "a site: 1"
    key = site.init(folder, kit if with_kit else None)
    names = {path.name for path in folder.iterdir()}
    assert names == {"site.key", "site.pub", "site.yaml", "fcit-site.service"} | ({"ca.crt"} if with_kit else set())
    assert [path.name for path in folder.iterdir() if b"PRIVATE" in path.read_bytes()] == ["site.key"]
    assert stat.S_IMODE((folder / "site.key").stat().st_mode) == 0o600
    assert read_private_key(folder / "site.key").public_key() == read_public_key(folder / "site.pub", "north") == key
    recipe = yaml.safe_load((folder / "site.yaml").read_text())
    assert recipe == {
        "stage": "fcit_site",
        "output_dir": str(folder / "out"),
        "fcit_certificate": str(folder / "ca.crt"),
        "fcit_site_key": str(folder / "site.key"),
        **({"fcit_superlink": "fl.example.org:9092"} if with_kit else {}),
    }
    try:
        told = subprocess.run(["systemd-analyze", "verify", folder / "fcit-site.service"], capture_output=True, text=True)
    except FileNotFoundError:
        return
    assert "fcit-site" not in told.stderr, told.stderr


def test_every_key_that_a_template_names_is_one(tmp_path):
    known = {item.name for item in dataclasses.fields(FcitArguments.joined())}
    written = texts.site_recipe("north", "a.org:1") + texts.own_part(tmp_path) + texts.site_recipe()
    written += texts.operator_recipe(tmp_path, "a.org:1", "a.org:2")
    named = set(re.findall(r"^(?:# )?(fcit_\w+):", written, re.MULTILINE))
    assert len(named) > 10 and named <= known


def test_nothing_is_written_over_and_a_kit_that_is_none_leaves_nothing(folder, kit, tmp_path):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FcitError, match="is not empty"):
        site.init(folder, kit)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    for name, content, said in (
        ("site.yaml", "stage: fcit\n", "is not a site's recipe"),
        ("site.yaml", "", "is not a site's recipe"),
        ("site.yaml", "stage: [\n", "is not valid YAML"),
        ("site.yaml", "stage: fcit_site\nfcit_site_key: /root/.ssh/id\n", "sets fcit_site_key"),
        ("site.yaml", "stage: fcit_site\noutput_dir: /etc\nfcit_certificate: x\n", "sets fcit_certificate, output_dir"),
        ("site.yaml", "stage: fcit_site\nstage: fcit_site\n", "stands there twice"),
        ("site.yaml", None, "cannot be read"),
        ("ca.crt", "noise", "is not a certificate"),
        ("ca.crt", None, "cannot be read"),
    ):
        bad = tmp_path / "kit"
        bad.mkdir(exist_ok=True)
        for path in kit.iterdir():
            (bad / path.name).write_bytes(path.read_bytes())
        (bad / name).unlink()
        if content is not None:
            (bad / name).write_text(content)
        with pytest.raises(FcitError, match=said):
            site.init(tmp_path / "other", bad)
        assert not (tmp_path / "other").exists()


def test_a_key_is_renewed_in_two_steps_and_the_old_one_serves_until_the_second(folder):
    old = read_private_key(folder / "site.key").public_key()
    with pytest.raises(FcitError, match="has no new key"):
        site.use_new(folder)
    new = site.renew(folder)
    assert read_private_key(folder / "site.key").public_key() == old != new
    assert read_public_key(folder / "new.pub", "north") == new
    assert stat.S_IMODE((folder / "new.key").stat().st_mode) == 0o600
    with pytest.raises(FcitError, match="is there already"):
        site.renew(folder)
    assert site.use_new(folder) == new
    assert read_private_key(folder / "site.key").public_key() == read_public_key(folder / "site.pub", "north") == new
    assert not {"new.key", "new.pub"} & {path.name for path in folder.iterdir()}
    with pytest.raises(FcitError, match="has no new key"):
        site.use_new(folder)


def test_a_switch_that_was_cut_off_is_ended_by_the_same_command(folder):
    new = site.renew(folder)
    (folder / "new.key").rename(folder / "site.key")  # and then the power went
    assert site.use_new(folder) == new
    assert (folder / "site.pub").read_bytes() == public_line(new)
    assert not (folder / "new.pub").exists()


def test_a_new_key_that_others_could_read_is_not_used(folder):
    site.renew(folder)
    (folder / "new.key").chmod(0o644)
    with pytest.raises(FcitError, match="has mode 644"):
        site.use_new(folder)
    (folder / "site.key").unlink()
    with pytest.raises(FcitError, match="cannot be read"):
        site.renew(folder)


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_nobody_else_may_change_what_any_verb_writes_whatever_the_umask(umask, tmp_path):
    deploy, own = tmp_path / "deploy", tmp_path / "site"
    before = os.umask(umask)
    try:
        operator.init(deploy, ["localhost"], ["north"])
        site.init(own, deploy / "kits" / "north")
        operator.enroll(deploy, "north", own / "site.pub")
        (deploy / "server.key").unlink()  # which `renew` makes anew
        operator.renew(deploy)
        operator.write_kit(deploy, "south")
        site.renew(own)
        operator.enroll(deploy, "north", own / "new.pub", replace=True)
        site.use_new(own)
        operator.remove(deploy, "north")
        assert os.umask(umask) == umask  # it is the caller's again
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for top in (deploy, own) for path in (top, *top.rglob("*"))}
    assert len(modes) > 20 and not [path for path, mode in modes.items() if mode & 0o022]
    assert {mode for path, mode in modes.items() if path.suffix == ".key"} == {0o600}
    assert modes[deploy / "superlink.sh"] & 0o100 and (umask == 0o077) == (not modes[deploy / "sites.yaml"] & 0o044)
