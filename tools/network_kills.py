"""Kills server, SuperLink, SuperNodes and sites of a rehearsal at random moments; the end has to be that of one process.

    python tools/network_kills.py --out DIR --kills 6 --seed 1

Each is killed with -9 and started again by the same command; the SuperLink's script and a site start their children again by
themselves. Printed is who was killed when, what differs at the end (nothing should), and how many trainings each site made:
four, and one more for each that was killed while it trained.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

from fcit_plugin.samples.rehearsal import SITES, Rehearsal, ending

#: A site that was killed is let in again after two missed signs of life.
SOON = {"fcit_site_heartbeat": 10}


def children(process: subprocess.Popen) -> list[int]:
    """The process's children."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == process.pid:
                found.append(int(folder.name))
    return found


def main() -> None:
    """Kill until the run is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write, new or empty")
    parser.add_argument("--kills", type=int, default=6, help="most kills")
    parser.add_argument("--seed", type=int, default=1, help="of who is killed when")
    parser.add_argument(
        "--pause", type=float, nargs=2, default=(15.0, 35.0), help="seconds between two kills, drawn between these"
    )
    given = parser.parse_args()
    draw, made, killed = random.Random(given.seed), Rehearsal(given.out), []
    superlink, sites = made.start_superlink(), {name: made.start_site(name, SOON) for name in SITES}
    server, start = made.start_server(), time.monotonic()
    try:
        while server.poll() is None or len(killed) == 0:
            time.sleep(draw.uniform(*given.pause))
            if server.poll() is not None or len(killed) == given.kills:
                break
            kind, name = draw.choice(["server", "superlink", "supernode", "site"]), draw.choice(SITES)
            if kind == "server":
                kill(server)
                server = made.start_server()
            elif kind == "site":
                kill(sites[name])
                sites[name] = made.start_site(name, SOON)
            else:
                for child in children(superlink if kind == "superlink" else sites[name]):
                    os.kill(child, signal.SIGKILL)
            killed.append(kind)
            print(
                f"{time.monotonic() - start:6.1f} s: {kind}{f' of {name}' if kind in ('site', 'supernode') else ''}", flush=True
            )
        made.finished("server", server)
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
