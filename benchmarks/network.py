"""Large messages over a network on one machine: ``python benchmarks/network.py``.

A SuperLink with TLS, sites as processes that answer at once, and a server that asks them for updates with the shapes of
LLaVA-1.5-7B (130 MB each way), keeps and folds them. Printed are seconds a round, beside those of the same rounds in one
process, and by how much the memory of server, SuperLink and a site grew over what each had before the first round.
Where the seconds go is told by clocks: the server's as a message is with the SuperLink and as its reply is fetched, the log of
the SuperNode as it finds the message, and the site's as it begins and ends. A SuperNode looks
for messages every 3 s; that it does not look is "polling", for the last site of each exchange. Everything else of a round is
"beside it": the bytes' own way, signatures, files, the fold, and the looks of site (0.2 s) and server.
Goals: 8 sites cost the server less than 20 MiB more than 2; a round at most 5 s beside polling.
"""

import argparse
import ctypes
import gc
import json
import logging
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import torch
from flwr.app import Message, RecordDict
from measure import arguments, resident, show
from server_round import AtOnce, D, Silent, shapes

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.deployment.addresses import free_ports
from fcit_plugin.deployment.certificates import read_certificate
from fcit_plugin.deployment.keys import read_pem_key, read_private_key
from fcit_plugin.federation import server
from fcit_plugin.federation.audit import Audit
from fcit_plugin.federation.client import make_client_app
from fcit_plugin.federation.envelope import ServerSigner
from fcit_plugin.federation.in_process_grid import InProcessGrid
from fcit_plugin.federation.program import Program
from fcit_plugin.federation.reply_cache import ClientApp, ReplyCache
from fcit_plugin.federation.reply_limits import ReplyLimits
from fcit_plugin.federation.site_app import SiteApp
from fcit_plugin.federation.site_executor import SiteIdentity, SuperNode, serve, supernode_command
from fcit_plugin.federation.site_grid import SiteGrid
from fcit_plugin.federation.site_policy import SitePolicy
from fcit_plugin.federation.superlink import SuperLink, read_site
from fcit_plugin.samples.deployed import Deployment, ending
from fcit_plugin.scenario.settings import get_scenario
from fcit_plugin.state.progress import Traffic

TINY = (2, 16, 32, 8)
#: When a SuperNode has found a message, in its log with FLWR_LOG_LEVEL=DEBUG.
_FOUND = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3})\D.*Receiving: ")


def sizes_of(tiny: bool, hidden: int) -> tuple[int, int, int, int]:
    """Layers, hidden size, inner size and vision size; those of LLaVA-1.5-7B with 4096."""
    return TINY if tiny else (32, hidden, hidden * 11008 // 4096, hidden // 4)


@dataclass
class Exchange:
    """One message to a site and its reply, by the clock.

    Attributes:
        kind: Of the message.
        pushed: The SuperLink has it.
        taken: The server has the reply.
    """

    kind: str
    pushed: float
    taken: float = 0.0


class Watched:
    """A link that looks at the clock.

    Args:
        link: The link.
        keys: The sites' public keys, in the order of their numbers.
    """

    def __init__(self, link: SuperLink, keys: list[bytes]) -> None:
        self._link, self._keys = link, keys
        self._sites: dict[int, int] = {}
        self._asked: dict[str, Exchange] = {}
        self.online = link.online
        #: By site its exchanges, in order.
        self.exchanges: dict[int, list[Exchange]] = {number: [] for number in range(len(keys))}

    def node_of(self, key: bytes) -> int:
        """See :class:`fcit_plugin.federation.site_grid.Link`."""
        node = self._link.node_of(key)
        self._sites[node] = self._keys.index(key)
        return node

    def push(self, message: Message) -> str | None:
        """See :class:`fcit_plugin.federation.site_grid.Link`."""
        number = self._link.push(message)
        assert number is not None
        self._asked[number] = Exchange(message.metadata.message_type, time.time())
        self.exchanges[self._sites[message.metadata.dst_node_id]].append(self._asked[number])
        return number

    def pull(self, ids: Mapping[str, ReplyLimits]) -> Iterator[Message]:
        """See :class:`fcit_plugin.federation.site_grid.Link`."""
        for message in self._link.pull(ids):
            self._asked[message.metadata.reply_to_message_id].taken = time.time()
            yield message


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
        watched = Watched(link, [site.encoded for site in known.values()])

        def grid_of(cache: ReplyCache):
            return SiteGrid(watched, signer, known, cache, patience=600.0, poll=0.5)

        found = measured(folder / "server", sites, rounds, tensors, grid_of)
    exchanges = {n: [asdict(each) for each in own] for n, own in watched.exchanges.items()}
    print(json.dumps({**found, "exchanges": exchanges}), flush=True)


def be_process(folder: Path, sites: int, rounds: int, tensors) -> None:
    """The same rounds in one process."""

    def grid_of(cache: ReplyCache):
        return InProcessGrid(cache, range(sites), on_reply=cache.arrived)

    print(json.dumps(measured(folder / "in_process", sites, rounds, tensors, grid_of)), flush=True)


def measured(folder: Path, sites: int, rounds: int, tensors, grid_of: Callable) -> dict[str, Any]:
    """Run rounds: seconds of each, and MiB by which the memory grew at most, and that are still in use at the end."""
    program, silent = program_of(sites, rounds, tensors), Silent()
    cache = ReplyCache(make_client_app(AtOnce()), lambda stage, number: folder / str(number), program.run_id, silent)
    grid, state, seconds = grid_of(cache), server.first_state(D, tensors[1]), []
    with Peak() as peak:
        for _ in range(rounds):
            start = time.perf_counter()
            state = server.run_round(program, state, grid, silent, Traffic())
            seconds.append(time.perf_counter() - start)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # glibc holds what is free, and gives it back when it is asked to
    return {"seconds": seconds, "grown": peak.grown, "kept": (resident() - peak.start) / 2**20}


def be_site(folder: Path, at: dict[str, str], number: int, sites: int, rounds: int, tensors) -> None:
    """Answer at once, until the process is ended."""
    own, program = folder / names_of(sites)[number], program_of(sites, rounds, tensors)
    identity = SiteIdentity(read_private_key(own / "site.key"), read_certificate(own / "ca.crt"))

    def keeping(app: ClientApp) -> ReplyCache:
        return ReplyCache(app, lambda stage, when: own / "kept" / str(when), program.run_id, Silent())

    audit = Audit(own / "audit.jsonl")
    policy = SitePolicy(
        run=program.run_id,
        num_stages=1,
        num_rounds=rounds,
        schedule=[[0]],
        records={0: 100},
        names=["a"],
        client=number,
    )
    site = SiteApp(make_client_app(AtOnce()), keeping, policy, audit, own / "private", {})

    def app(kind: str, content: RecordDict) -> RecordDict:
        began = time.time()
        reply = site(kind, content)
        with (own / "clock").open("a") as file:
            file.write(json.dumps([began, time.time()]) + "\n")
        return reply

    address = f"127.0.0.1:{at[f'site{number}']}"
    command = supernode_command(at["fleet"], own / "ca.crt", own / "site.key", address)
    with SuperNode(command, own / "supernode.log") as supernode:
        serve(app, identity, supernode, address)


def over_network(folder: Path, sites: int, rounds: int, sizes: list[str]) -> tuple[dict, float, float]:
    """What the server measured, and the most memory of the SuperLink and of a site's SuperNode, in MiB."""
    made = Deployment(folder, names_of(sites))
    at = {"fleet": made.fleet, "control": made.control, "appio": made.appio}
    at |= {name: str(port) for name, port in zip(names_of(sites), free_ports(sites), strict=True)}
    (folder / "at.json").write_text(json.dumps(at))
    common = [sys.executable, __file__, "--folder", str(folder), "--sites", str(sites), "--rounds", str(rounds), *sizes]
    superlink = made.start_superlink()
    others = [made.start(name, [*common, "--role", name], FLWR_LOG_LEVEL="DEBUG") for name in names_of(sites)]
    with ending(superlink, *others), (folder / "log").open("wb") as log:
        said = subprocess.run([*common, "--role", "server"], stdout=subprocess.PIPE, stderr=log, check=True).stdout
        return json.loads(said), most_of(superlink.pid), most_of(others[0].pid)


def most_of(pid: int) -> float:
    """The most resident memory that a process or one of its children ever had, in MiB."""
    found = 0.0
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        status = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
        found = max(found, int(status["VmHWM"].split()[0]) / 1024)
    return found


def where_seconds_go(folder: Path, found: dict) -> list[tuple[float, ...]]:
    """For each round seconds of polling, there, at the site, back, at the server, and all of them beside polling.

    Those of the site whose reply came last, summed over the round's exchanges.
    """
    clocks: dict[str, list[tuple[float, ...]]] = {}
    for number, exchanges in found["exchanges"].items():
        own = folder / names_of(int(number) + 1)[-1]
        log = (own / "supernode.log").read_text(errors="replace")
        seen = [datetime.strptime(at, "%Y-%m-%d %H:%M:%S,%f").timestamp() for at in _FOUND.findall(log)]
        worked = [json.loads(line) for line in (own / "clock").read_text().splitlines()]
        clocks[number] = [
            (each["pushed"], looked, began, ended, each["taken"])
            for each, looked, (began, ended) in zip(exchanges, seen, worked, strict=True)
        ]
    rows, per_round = [], len(next(iter(clocks.values()))) // len(found["seconds"])
    for round, seconds in enumerate(found["seconds"]):
        parts = [0.0] * 4
        for place in range(round * per_round, (round + 1) * per_round):
            last = max((own[place] for own in clocks.values()), key=lambda clock: clock[-1])
            parts = [before + max(0.0, b - a) for before, (a, b) in zip(parts, pairwise(last), strict=True)]
        rows.append((*parts, seconds - sum(parts), seconds - parts[0]))
    return rows


def main() -> None:
    """Print a table, or be one of the processes."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--role")
    parser.add_argument("--folder", type=Path)
    role, rest = parser.parse_known_args()
    if role.role is None:
        args = arguments(__doc__, sites=[2, 8], rounds=3, hidden=4096)
        table(args.sites[:1] if args.tiny else args.sites, 2 if args.tiny else args.rounds, args.tiny, args.hidden)
        return
    parser.add_argument("--sites", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--hidden", type=int)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args(rest, role)
    torch.set_num_threads(1)
    logging.getLogger("flwr").setLevel(logging.WARNING)
    common = given.sites, given.rounds, shapes(*sizes_of(given.tiny, given.hidden))
    if given.role == "in_process":
        be_process(given.folder, *common)
        return
    at = json.loads((given.folder / "at.json").read_text())
    if given.role == "server":
        be_server(given.folder, at, *common)
    else:
        be_site(given.folder, at, int(given.role.removeprefix("site")), *common)


def table(counts: list[int], rounds: int, tiny: bool, hidden: int) -> None:
    """Measure and print."""
    rows, parts, sizes = [], [], ["--hidden", str(hidden), *(["--tiny"] if tiny else [])]
    for sites in counts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            command = [sys.executable, __file__, "--role", "in_process", "--folder", name, "--sites", str(sites)]
            said = subprocess.run([*command, "--rounds", str(rounds), *sizes], stdout=subprocess.PIPE, check=True).stdout
            alone = json.loads(said)
            found, superlink, node = over_network(folder / "network", sites, rounds, sizes)
            split = where_seconds_go(folder / "network", found)
        best = min(split, key=lambda row: row[-1])
        ours, base = min(found["seconds"]), min(alone["seconds"])
        memory = [f"{value:.0f}" for value in (found["grown"], found["kept"], superlink, node)]
        rows.append((sites, f"{ours:.1f}", f"{base:.1f}", ours / base, *memory))
        parts.append((sites, *(f"{value:.2f}" for value in best), f"{best[-1] - base:.2f}"))
    head = (
        "sites",
        "s a round",
        "in one process",
        "ratio",
        "server grew, MiB",
        "in use at the end",
        "SuperLink, MiB",
        "a site, MiB",
    )
    show(head, rows)
    print("Seconds of the round that took least beside polling:")
    show(("sites", "polling", "there", "at the site", "back", "at the server", "beside polling", "and over one process"), parts)


if __name__ == "__main__":
    main()
