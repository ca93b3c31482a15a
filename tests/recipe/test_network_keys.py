"""Keys of the network: with an engine that has no sites each of them is refused by name, and so is what is no address."""

from dataclasses import fields

import pytest

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.arguments.network import SITE_KEYS, NetworkArguments
from fcit_plugin.errors import FcitError

ENGINES = ("auto", "process", "parallel")
SERVERS = {item.name: item for item in fields(NetworkArguments) if item.name not in SITE_KEYS}


def another(item):
    """A value that is not the default."""
    return "host:9092" if "superlink" in item.name else "a_file" if item.default in (None,) else item.default + 1


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SERVERS)
def test_a_key_of_the_network_is_refused_with_another_engine(name, engine):
    with pytest.raises(
        FcitError, match=rf"^`{name}` belongs to `fcit_engine: flower`, but the engine is {engine}; take it out"
    ):
        FcitArguments(fcit_engine=engine, **{name: another(SERVERS[name])})
    FcitArguments(fcit_engine=engine, **{name: SERVERS[name].default})


def test_all_of_them_are_named_in_one_sentence():
    with pytest.raises(FcitError) as refused:
        FcitArguments(fcit_engine="process", **{name: another(item) for name, item in SERVERS.items()})
    assert all(f"`{name}`" in str(refused.value) for name in SERVERS)


@pytest.mark.parametrize(
    "address", ["host", "host:", ":9092", "host:0", "host:65536", "host:x", "::1:9092", "a b:1", "host:9092/x"]
)
@pytest.mark.parametrize("key", ["fcit_superlink", "fcit_superlink_appio"])
def test_what_is_no_host_and_port_is_refused(key, address):
    flower = {"fcit_sites": "s.yaml", **dict.fromkeys(("fcit_certificate", "fcit_server_certificate", "fcit_server_key"), "f")}
    with pytest.raises(FcitError, match=rf"\({key}\) is not a host and its port"):
        FcitArguments(fcit_engine="flower", **flower, **{key: address})
