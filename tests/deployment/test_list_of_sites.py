"""The list of sites: what it takes, what it refuses, and that numbers stay."""

import pytest

from fcit_plugin.deployment.keys import new_key, public_line
from fcit_plugin.deployment.sites import ListedSite, check_name, list_sites, read_sites, write_sites
from fcit_plugin.errors import FcitError

NAMES = ("north", "south", "west")
KEYS = {name: public_line(new_key().public_key()) for name in NAMES}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "keys").mkdir()
    for name, line in KEYS.items():
        (tmp_path / "keys" / f"{name}.pub").write_bytes(line)
    return tmp_path


def test_a_list_is_read_in_its_order_from_a_mapping_or_a_file(folder):
    text = "north: keys/north.pub\nsouth: {key: keys/south.pub, removed: true}\nwest:\n  key: keys/west.pub\n  removed: false\n"
    (folder / "sites.yaml").write_text(text)
    found = [
        ("north", folder / "keys/north.pub", False),
        ("south", folder / "keys/south.pub", True),
        ("west", folder / "keys/west.pub", False),
    ]
    assert read_sites("sites.yaml", folder) == found
    assert read_sites(folder / "sites.yaml", folder / "elsewhere") == found
    mapping = {"north": "keys/north.pub", "south": {"key": "keys/south.pub", "removed": True}, "west": {"key": "keys/west.pub"}}
    assert read_sites(mapping, folder) == found


def test_a_list_that_is_written_is_read_the_same(folder):
    odd = folder / "keys" / "a b, {c}: 'd' #é.pub"
    odd.write_bytes(public_line(new_key().public_key()))
    sites = [
        ListedSite("no", folder / "keys/north.pub", False),
        ListedSite("1", odd, True),
        ListedSite("null", folder / "keys/south.pub", True),
        ListedSite("a-b_C", odd, False),
    ]
    write_sites(folder / "sites.yaml", sites)
    assert list_sites("sites.yaml", folder) == sites


NORTH = "north: keys/north.pub\n"
REFUSED = {
    "no mapping": ("- north\n", "does not hold names and values"),
    "no YAML": ("north: [\n", "is not valid YAML"),
    "nested too deeply": ("north: " + "[" * 5000, "is not valid YAML"),
    "an alias": ("north: *x\n", "is not valid YAML"),
    "a name twice": (NORTH + NORTH, "'north' stands there twice"),
    "capital letters": (NORTH + "North: keys/south.pub\n", "differ in capital letters alone"),
    "a name with a space": ("north wing: keys/north.pub\n", "cannot be the name of a site"),
    "a path for a name": ("../north: keys/north.pub\n", "cannot be the name of a site"),
    "a merge": ("<<: {a: b}\n", "cannot be the name of a site"),
    "a list for a name": ("[a]: keys/north.pub\n", "is not valid YAML"),
    "no key": ("north:\n", "names no public key for site north"),
    "a list of keys": ("north: [keys/north.pub]\n", "names no public key for site north"),
    "no key beside removed": ("north: {removed: true}\n", "names no public key for site north"),
    "another word": ("north: {key: keys/north.pub, remove: true}\n", "names no public key for site north"),
    "another mark": ("north: {key: keys/north.pub, removed: maybe}\n", "it is true or false"),
    "a name that no file has": (f"north: {'x' * 300}\n", "no file has so long a name"),
    "a control character": ('north: "a\\x00b"\n', "control characters"),
    "nobody": ("# nobody yet\n", "has no site that takes part"),
    "all removed": ("north: {key: keys/north.pub, removed: true}\n", "has no site that takes part"),
    "one key for two": (NORTH + "south: keys/../keys/north.pub\n", "The sites north and south have one key"),
    "the key of a removed one": (
        "south: {key: keys/north.pub, removed: true}\n" + NORTH,
        "The sites south and north have one key",
    ),
    "a key that is not there": (NORTH + "east: keys/east.pub\n", "names site east, whose key"),
    "something else for a key": (NORTH + "east: sites.yaml\n", "has several lines where site east has one public key"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_with_a_list_is_one_sentence(case, folder):
    text, said = REFUSED[case]
    (folder / "sites.yaml").write_text(text)
    with pytest.raises(FcitError) as caught:
        read_sites("sites.yaml", folder)
    assert said in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize("mapping", [{1: "keys/north.pub"}, {False: "keys/north.pub"}, {"north": 1}, {"north": None}, {}])
def test_a_mapping_of_a_recipe_has_text_alone(mapping, folder):
    with pytest.raises(FcitError, match=r"`fcit_sites`|site north"):
        read_sites(mapping, folder)


def test_a_removed_site_needs_no_key_any_more(folder):
    (folder / "sites.yaml").write_text("gone: {key: keys/gone.pub, removed: true}\n" + NORTH)
    assert [site.name for site in read_sites("sites.yaml", folder)] == ["gone", "north"]


@pytest.mark.parametrize("name", ["", "-a", "_a", "a b", "a/b", "a.b", "é", "a\n", "x" * 65])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(FcitError, match="cannot be the name of a site"):
        check_name(name)
