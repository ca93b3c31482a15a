"""Large messages over a network on one machine: ``python benchmarks/network.py``.

A SuperLink with TLS, sites as processes that answer at once, and a server that asks them for updates with the shapes of
LLaVA-1.5-7B (130 MB each way), keeps and folds them. Printed are seconds a round, beside those of the same rounds in one
process, and by how much the memory of server, SuperLink and a site grew over what each had before the first round.
Goals: 8 sites cost the server less than 20 MiB more than 2; a round at most 5 s beside Flower's polling and the bytes' own way.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from measure import arguments, resident, show
from server_round import AtOnce, D, Silent, shapes

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.deployment import operator, site
from fcit_plugin.deployment.addresses import free_ports
from fcit_plugin.deployment.certificates import read_certificate
from fcit_plugin.deployment.keys import read_pem_key, read_private_key
from fcit_plugin.federation import server
from fcit_plugin.federation.audit import Audit
from fcit_plugin.federation.client import make_client_app
from fcit_plugin.federation.envelope import ServerSigner
from fcit_plugin.federation.in_process_grid import InProcessGrid
from fcit_plugin.federation.program import Program
from fcit_plugin.federation.reply_cache import ReplyCache
from fcit_plugin.federation.site_app import SiteApp
from fcit_plugin.federation.site_executor import SiteIdentity, SuperNode, serve, supernode_command
from fcit_plugin.federation.site_grid import SiteGrid
from fcit_plugin.federation.site_policy import SitePolicy
from fcit_plugin.federation.superlink import SuperLink, read_site
from fcit_plugin.scenario.settings import get_scenario
from fcit_plugin.state.progress import Traffic

TINY = (2, 16, 32, 8)
LARGE = (32, 4096, 11008, 1024)


class Peak:
    """The most anonymous memory of this process within the block, in bytes, beyond what it had at its start."""

    def __enter__(self) -> "Peak":
        self.start = self.most = resident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, resident())

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def grown(self) -> float:
        """In MiB."""
        return (self.most - self.start) / 2**20


def program_of(sites: int, rounds: int, tensors) -> Program:
    """All sites are asked in every round."""
    keys = {"fcit_setting": "custom", "fcit_stages": [["a"]], "fcit_num_rounds": rounds, "fcit_num_clients": sites}
    args = FcitArguments(**keys, fcit_clients_per_round=sites)
    return Program(args, get_scenario("custom", args.fcit_stages, args.fcit_schedule), 0, tensors[0])


def names_of(sites: int) -> list[str]:
    """The sites' names."""
    return [f"site{number}" for number in range(sites)]


def be_server(folder: Path, at: dict[str, str], sites: int, rounds: int, tensors) -> None:
    """Run the rounds over the network, and print what they took as JSON."""
    deploy = folder / "deploy"
    known = dict(enumerate(read_site(name, deploy / "keys" / f"{name}.pub") for name in names_of(sites)))
    signer = ServerSigner(read_pem_key(deploy / "server.key"), (deploy / "server.crt").read_bytes())
    with SuperLink(at["control"], at["appio"], (deploy / "ca.crt").read_bytes()) as link:

        def grid_of(cache: ReplyCache):
            return SiteGrid(link, signer, known, cache, patience=600.0, poll=0.5)

        measured(folder / "server", sites, rounds, tensors, grid_of)


def be_process(folder: Path, sites: int, rounds: int, tensors) -> None:
    """The same rounds in one process."""

    def grid_of(cache: ReplyCache):
        return InProcessGrid(cache, range(sites), on_reply=cache.arrived)

    measured(folder / "in_process", sites, rounds, tensors, grid_of)


def measured(folder: Path, sites: int, rounds: int, tensors, grid_of: Callable) -> None:
    """Run rounds, and print seconds of each and MiB that the memory grew by, as JSON."""
    program, silent = program_of(sites, rounds, tensors), Silent()
    cache = ReplyCache(make_client_app(AtOnce()), lambda stage, number: folder / str(number), program.run_id, silent)
    grid, state, seconds = grid_of(cache), server.first_state(D, tensors[1]), []
    with Peak() as peak:
        for _ in range(rounds):
            start = time.perf_counter()
            state = server.run_round(program, state, grid, silent, Traffic())
            seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds, "grown": peak.grown}), flush=True)


def be_site(folder: Path, at: dict[str, str], number: int, sites: int, rounds: int, tensors) -> None:
    """Answer at once, until the process is ended."""
    own, program = folder / names_of(sites)[number], program_of(sites, rounds, tensors)
    identity = SiteIdentity(read_private_key(own / "site.key"), read_certificate(own / "ca.crt"))
    cache = ReplyCache(make_client_app(AtOnce()), lambda stage, when: own / "kept" / str(when), program.run_id, Silent())
    audit = Audit(own / "audit.jsonl")
    policy = SitePolicy(
        run=program.run_id,
        num_stages=1,
        num_rounds=rounds,
        schedule=[[0]],
        records={0: 100},
        names=["a"],
        trained=set(),
        client=number,
    )
    app = SiteApp(cache, policy, audit, own / "private", {})
    address = f"127.0.0.1:{at[f'site{number}']}"
    command = supernode_command(at["fleet"], own / "ca.crt", own / "site.key", address)
    with SuperNode(command, own / "supernode.log") as supernode:
        serve(app, identity, supernode, address)


def over_network(folder: Path, sites: int, rounds: int, tiny: bool) -> tuple[dict, float, float]:
    """What the server measured, and the most memory of the SuperLink and of a site's SuperNode, in MiB."""
    ports = free_ports(3 + sites)
    at = {name: f"127.0.0.1:{port}" for name, port in zip(("fleet", "control", "appio"), ports, strict=False)}
    at |= {name: str(port) for name, port in zip(names_of(sites), ports[3:], strict=True)}
    operator.init(folder / "deploy", ["127.0.0.1"], names_of(sites), *ports[:3])
    for name in names_of(sites):
        site.init(folder / name, folder / "deploy" / "kits" / name)
        operator.enroll(folder / "deploy", name, folder / name / "site.pub")
    (folder / "at.json").write_text(json.dumps(at))
    common = [sys.executable, __file__, "--folder", str(folder), "--sites", str(sites), "--rounds", str(rounds)]
    common += ["--tiny"] if tiny else []
    with (folder / "log").open("wb") as log:
        superlink = subprocess.Popen([folder / "deploy" / "superlink.sh"], stdout=log, stderr=log)
        others = [subprocess.Popen([*common, "--role", f"site{n}"], stdout=log, stderr=log) for n in range(sites)]
        try:
            said = subprocess.run([*common, "--role", "server"], stdout=subprocess.PIPE, stderr=log, check=True).stdout
            return json.loads(said), most_of(superlink.pid), most_of(others[0].pid)
        finally:
            for process in (*others, superlink):
                process.terminate()
            for process in (*others, superlink):
                process.wait()


def most_of(pid: int) -> float:
    """The most resident memory that a process or one of its children ever had, in MiB."""
    found = 0.0
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if pid in (parent, int(path.name)):
                status = dict(line.split(":", 1) for line in (path / "status").read_text().splitlines())
                found = max(found, int(status["VmHWM"].split()[0]) / 1024)
        except (OSError, KeyError, ValueError):  # it has ended meanwhile
            continue
    return found


def main() -> None:
    """Print a table, or be one of the processes."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--role")
    parser.add_argument("--folder", type=Path)
    role, rest = parser.parse_known_args()
    if role.role is None:
        args = arguments(__doc__, sites=[2, 8], rounds=3)
        table(args.sites[:1] if args.tiny else args.sites, 2 if args.tiny else args.rounds, args.tiny)
        return
    parser.add_argument("--sites", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args(rest, role)
    torch.set_num_threads(1)
    logging.getLogger("flwr").setLevel(logging.WARNING)
    common = given.sites, given.rounds, shapes(*(TINY if given.tiny else LARGE))
    if given.role == "in_process":
        be_process(given.folder, *common)
        return
    at = json.loads((given.folder / "at.json").read_text())
    if given.role == "server":
        be_server(given.folder, at, *common)
    else:
        be_site(given.folder, at, int(given.role.removeprefix("site")), *common)


def table(counts: list[int], rounds: int, tiny: bool) -> None:
    """Measure and print."""
    rows = []
    for sites in counts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            command = [sys.executable, __file__, "--role", "in_process", "--folder", name, "--sites", str(sites)]
            command += ["--rounds", str(rounds), *(["--tiny"] if tiny else [])]
            alone = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
            found, superlink, node = over_network(folder, sites, rounds, tiny)
        ours, base = min(found["seconds"]), min(alone["seconds"])
        memory = [f"{value:.0f}" for value in (found["grown"], superlink, node)]
        rows.append((sites, f"{ours:.1f}", f"{base:.1f}", ours / base, *memory))
    head = ("sites", "s a round", "in one process", "ratio", "server grew, MiB", "SuperLink, MiB", "a site, MiB")
    show(head, rows)


if __name__ == "__main__":
    main()
