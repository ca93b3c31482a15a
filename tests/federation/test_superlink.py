"""A real SuperLink with TLS and two SuperNodes, each the child of a site: what we rely on in Flower's inner parts."""

import threading

import numpy as np
import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.app import Array, ArrayRecord, RecordDict
from sites import site_app
from test_site_grid import APP, UNDISTURBED, numbers, requests

from fcit_plugin.deployment.addresses import free_ports
from fcit_plugin.deployment.certificates import read_certificate
from fcit_plugin.deployment.keys import read_pem_key, read_private_key
from fcit_plugin.errors import FcitError
from fcit_plugin.federation.envelope import ServerSigner
from fcit_plugin.federation.reply_cache import NoJournal, ReplyCache
from fcit_plugin.federation.site_executor import SiteIdentity, SuperNode, serve, supernode_command
from fcit_plugin.federation.site_grid import SiteGrid
from fcit_plugin.federation.superlink import SuperLink, read_site
from fcit_plugin.samples.deployed import Deployment, ending


def growing_at_first(answers):
    """The first answer is one array of 1 MiB under 64 names: it travels once, and the site is asked again."""
    tried = []

    def answer(kind, content):
        if tried:
            return answers(kind, content)
        array = Array(np.zeros(2**18, np.float32))
        tried.append(ArrayRecord({str(number): array for number in range(64)}))
        return RecordDict({"arrays": tried[0]})

    return answer


@pytest.mark.slow
def test_two_sites_over_tls_answer_as_in_process_and_a_superlink_that_is_killed_costs_no_training(tmp_path, caplog):
    made = Deployment(tmp_path, ("north", "south"))
    ca = made.deploy / "ca.crt"
    signer = ServerSigner(read_pem_key(made.deploy / "server.key"), (made.deploy / "server.crt").read_bytes())
    trained, over, threads = [], threading.Event(), []

    def app(message, context):
        trained.append(message.metadata.dst_node_id)
        return APP(message, context)

    for name, port in zip(("north", "south"), free_ports(2), strict=True):
        folder, address = tmp_path / name, f"127.0.0.1:{port}"
        identity = SiteIdentity(read_private_key(folder / "site.key"), read_certificate(folder / "ca.crt"))
        command = supernode_command(made.fleet, ca, folder / "site.key", address)
        answers = site_app(app, folder / "kept")
        answers = growing_at_first(answers) if name == "south" else answers

        def site(answers=answers, identity=identity, command=command, log=folder / "log", address=address):
            with SuperNode(command, log, pause=1.0) as supernode:
                serve(answers, identity, supernode, address, ended=over.is_set)

        threads.append(threading.Thread(target=site))
    sites = [read_site(name, made.deploy / "keys" / f"{name}.pub") for name in ("north", "south")]
    try:
        superlink = made.start_superlink()
        with ending(superlink):
            for thread in threads:
                thread.start()
            with SuperLink(made.control, made.appio, ca.read_bytes()) as link:
                for attempt in ("first", "again"):
                    cache = ReplyCache(APP, lambda s, r, at=attempt: tmp_path / at / f"{s}-{r}", "run", NoJournal())
                    grid = SiteGrid(link, signer, dict(enumerate(sites)), cache, patience=200.0, poll=0.5)
                    assert numbers(grid.send_and_receive(requests()[:2])) == UNDISTURBED[:2]
                    if attempt == "first":
                        for child in psutil.Process(superlink.pid).children():  # the script starts it again
                            child.kill()
        (said,) = {record.message for record in caplog.records if "has not answered: what came in its name" in record.message}
        assert said.startswith(
            "Site south has not answered: what came in its name has 67,117,056 bytes of arrays, and at most "
        )
        assert sorted(trained) == [0, 1]  # the second time they answer what they have kept, signed over the new nonce
    finally:
        over.set()
        for thread in threads:
            thread.join(30)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no key\n", "not a public key of site north"),
        (
            ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
            "not on the curve P-384",
        ),
    ],
)
def test_what_is_no_site_key_is_refused(content, said, tmp_path):
    (tmp_path / "north.pub").write_bytes(content)
    with pytest.raises(FcitError, match=said):
        read_site("north", tmp_path / "north.pub")
