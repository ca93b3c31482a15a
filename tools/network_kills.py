"""Kills server, SuperLink, SuperNodes and sites of a rehearsal at random moments; the end has to be that of one process.

    python tools/network_kills.py --out DIR --kills 6 --seed 1
    python tools/network_kills.py --out DIR --kills 0 --cut 120
    python tools/network_kills.py --out DIR --kills 0 --away 3600

Each is killed with -9 and started again by the same command; the SuperLink's script and a site start their children again by
themselves. With ``--cut`` nothing passes between sites and SuperLink for so long, from the first training on; with ``--away``
the first site is stopped then, and started again after that time. Printed is who was killed when, what differs at the end
(nothing should), and how many trainings each site made: four, and one more for each that was killed while it trained.
"""

import argparse
import contextlib
import random
import socket
import subprocess
import threading
import time
from pathlib import Path

import psutil

from fcit_plugin.deployment.addresses import split_address
from fcit_plugin.samples.deployed import ending
from fcit_plugin.samples.rehearsal import SITES, Rehearsal

#: A site that was killed is let in again after two missed signs of life.
SOON = {"fcit_site_heartbeat": 10}


class Line:
    """The line from the sites to the SuperLink, which can be cut: then nothing passes, and nobody is told.

    Args:
        address: Host and port that it leads to.
    """

    def __init__(self, address: str) -> None:
        self._to = split_address(address)
        self._whole = threading.Event()
        self._whole.set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, seconds: float) -> None:
        """Cut it for some seconds."""
        self._whole.clear()
        time.sleep(seconds)
        self._whole.set()

    def _accept(self) -> None:
        while True:
            one, _ = self._server.accept()
            self._whole.wait()
            try:
                other = socket.create_connection(self._to)
            except OSError:
                one.close()
                continue
            for ends in ((one, other), (other, one)):
                threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError), one, other:
            while data := one.recv(65536):
                self._whole.wait()
                other.sendall(data)


def wait_for_training(made: Rehearsal, server: subprocess.Popen) -> None:
    """Wait until the first site is asked to train."""
    audit = made.folder / "out" / SITES[0] / "audit.jsonl"
    while server.poll() is None and not (audit.exists() and '"train"' in audit.read_text()):
        time.sleep(0.1)


def main() -> None:
    """Kill until the run is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write, new or empty")
    parser.add_argument("--kills", type=int, default=6, help="most kills")
    parser.add_argument("--seed", type=int, default=1, help="of who is killed when")
    parser.add_argument(
        "--pause", type=float, nargs=2, default=(15.0, 35.0), help="seconds between two kills, drawn between these"
    )
    parser.add_argument("--cut", type=float, default=0.0, help="seconds for which the line is cut, once")
    parser.add_argument("--away", type=float, default=0.0, help="seconds for which the first site is away, once")
    given = parser.parse_args()
    draw, made, killed = random.Random(given.seed), Rehearsal(given.out), []
    line = Line(made.fleet)
    site = {**SOON, "fcit_superlink": line.address}
    superlink, sites = made.start_superlink(), {name: made.start_site(name, site) for name in SITES}
    server, start = made.start_server(), time.monotonic()
    try:
        if given.cut or given.away:
            wait_for_training(made, server)
            print(f"{time.monotonic() - start:6.1f} s: cut or away", flush=True)
            if given.cut:
                line.cut(given.cut)
            if given.away:
                kill(sites[SITES[0]])
                time.sleep(given.away)
                sites[SITES[0]] = made.start_site(SITES[0], site)
        while given.kills and (server.poll() is None or len(killed) == 0):
            time.sleep(draw.uniform(*given.pause))
            if server.poll() is not None or len(killed) == given.kills:
                break
            kind, name = draw.choice(["server", "superlink", "supernode", "site"]), draw.choice(SITES)
            if kind == "server":
                kill(server)
                server = made.start_server()
            elif kind == "site":
                kill(sites[name])
                sites[name] = made.start_site(name, site)
            else:
                for child in psutil.Process((superlink if kind == "superlink" else sites[name]).pid).children():
                    child.kill()
            killed.append(kind)
            print(
                f"{time.monotonic() - start:6.1f} s: {kind}{f' of {name}' if kind in ('site', 'supernode') else ''}", flush=True
            )
        made.finished("server", server, 600.0 + given.cut + given.away)
        print(f"The run is over after {time.monotonic() - start:.0f} s and {len(killed)} kills.")
    finally:
        with ending(superlink, server, *sites.values()):
            pass
    made.finished("in_process", made.start_in_process())
    for name in SITES:
        log = (made.folder / f"{name}.log").read_text(errors="replace")
        trained, kept = log.count(": training subspace"), log.count("was kept: nothing is trained")
        print(f"{name}: {trained} trainings of 4, {kept} answered from what was kept.")
    print(f"What differs from one process: {', '.join(made.differences()) or 'nothing'}.")


def kill(process: subprocess.Popen) -> None:
    """Kill with -9."""
    process.kill()
    process.wait()


if __name__ == "__main__":
    main()
