"""The written script starts a real SuperLink, which lets in the sites that are enrolled, and stays up."""

import ipaddress
import os
import signal
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509

from fcit_plugin.deployment import operator, site
from fcit_plugin.deployment.addresses import free_ports
from fcit_plugin.deployment.certificates import read_certificate
from fcit_plugin.deployment.texts import QUIET
from fcit_plugin.errors import FcitError
from fcit_plugin.federation.site_executor import SuperNode, supernode_command
from fcit_plugin.federation.superlink import SuperLink, read_site


def wait_until(true, seconds=60.0):
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def child_of(process):
    """The SuperLink that the script has started: not the check before it, and not a pause."""
    for number in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        if b"--fleet-api-address" in Path(f"/proc/{number}/cmdline").read_bytes():
            return int(number)
    return None


def listening_at():
    """Addresses and ports at which this machine listens, from the kernel's tables; gRPC takes IPv4 as a part of IPv6."""
    tables = [path.read_text() for path in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")) if path.exists()]
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return {place_of(*row[1].split(":")) for row in rows if row[3] == "0A"}


def place_of(address, port):
    words = bytes.fromhex(address)  # of 32 bits, each in the order of this machine
    found = ipaddress.ip_address(b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4)))
    return str(getattr(found, "ipv4_mapped", None) or found), int(port, 16)


def is_up(folder):
    try:
        return list(operator.check(folder))[-1].startswith("The SuperLink listens")
    except FcitError:
        return False


#: Before Flower's own code: the clock that a SuperNode signs with.
CLOCK = (
    "import datetime, flwr.client.grpc_rere_client.node_auth_client_interceptor as signs\n"
    "right = signs.now\n"
    "signs.now = lambda: right() + datetime.timedelta(seconds={shift})\n"
)


@pytest.mark.slow
def test_the_script_keeps_a_superlink_up_that_lets_enrolled_sites_in(tmp_path, caplog):
    fleet, control, appio, own, strangers = free_ports(5)
    folder, north = tmp_path / "a deploy", tmp_path / "north"
    operator.init(folder, ["localhost"], ["north"], fleet, control, appio)
    for each in (north, tmp_path / "stranger"):
        site.init(each, folder / "kits" / "north")
    operator.enroll(folder, "north", north / "site.pub")
    log = (tmp_path / "superlink.log").open("ab")
    script = subprocess.Popen([folder / "superlink.sh"], stdout=log, stderr=log, cwd="/")
    try:
        wait_until(lambda: is_up(folder))
        places = {(place.replace("0.0.0.0", "::"), port) for place, port in listening_at() if port in (fleet, control, appio)}
        assert places == {("::", fleet), ("127.0.0.1", control), ("127.0.0.1", appio)}
        environment = Path(f"/proc/{child_of(script)}/environ").read_bytes().split(b"\0")
        assert {f"{name}={value}".encode() for name, value in QUIET.items()} <= set(environment)

        twice = subprocess.run([folder / "superlink.sh"], capture_output=True, text=True)
        assert twice.returncode == 1 and f"0.0.0.0:{fleet} cannot be served: another program has the port" in twice.stderr

        def supernode(of, port, shift=0):
            """One with the key of a site, and a clock that goes wrong by some seconds."""
            key = tmp_path / of / "site.key"
            command = supernode_command(f"localhost:{fleet}", north / "ca.crt", key, f"127.0.0.1:{port}")
            place = command.index("-c") + 1
            command[place] = CLOCK.format(shift=shift) + command[place]
            return SuperNode(command, tmp_path / f"{of}{shift}.log", pause=1.0)

        def told_of(of, shift=0):
            """What a site says when its SuperNode is not let in."""
            caplog.clear()
            with supernode(of, strangers, shift) as refused:
                wait_until(lambda: refused.look() or caplog.messages)
            return caplog.messages[0]

        def let_in():
            """Whether the site that is enrolled is at the SuperLink, alone."""
            certificate = (folder / "ca.crt").read_bytes()
            with SuperLink(f"127.0.0.1:{control}", f"127.0.0.1:{appio}", certificate) as link:
                node = link.node_of(read_site("north", folder / "keys" / "north.pub").encoded)
                with supernode("north", own) as at_north:
                    wait_until(lambda: at_north.look() or node in link.online())
                    assert told_of("stranger").startswith("The server does not know this site's key: hand over site.pub")
                    assert told_of("north").startswith("The server still takes an earlier SuperNode of this site for present")
                    for shift in (60, -600):
                        assert told_of("north", shift).startswith("This machine's clock is more than 5 seconds ahead")
                    assert set(link.online()) == {node}

        let_in()
        first = child_of(script)
        operator.renew(folder)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: child_of(script) not in (None, first) and is_up(folder))
        shown = x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", fleet)).encode())
        assert shown == read_certificate(folder / "server.crt")
        let_in()
        second = child_of(script)
        script.send_signal(signal.SIGTERM)
        assert script.wait(30) == 0
        assert not Path(f"/proc/{second}").exists()
    finally:
        script.terminate()
        script.wait(30)
        log.close()


def test_a_script_that_cannot_start_says_why_and_ends(tmp_path):
    operator.init(tmp_path / "deploy", ["localhost"], (), *free_ports(3))
    (tmp_path / "deploy" / "server.crt").write_text("noise")
    ended = subprocess.run([tmp_path / "deploy" / "superlink.sh"], capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith("fcit-cli: server.crt is not a certificate but something else; ")
